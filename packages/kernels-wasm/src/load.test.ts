import { describe, expect, it } from 'vitest';
import type { KernelExports } from './exports.ts';
import { binaryOf, forSharedMemory } from './load.ts';
import type { Build } from './load.ts';

describe.each<Build>(['simd', 'relaxed'])('the %s binary', (build) => {
  it('holds no data and starts nothing: the heap belongs to tfjs', () => {
    const module = new WebAssembly.Module(binaryOf(build));
    expect(WebAssembly.Module.imports(module).map(({ module: from, name }) => `${from}.${name}`)).toEqual(['env.memory']);
    const memory = new WebAssembly.Memory({ initial: 4 });
    new Uint8Array(memory.buffer).fill(7);
    const instance = new WebAssembly.Instance(module, { env: { memory } });
    expect(instance.exports['memory']).toBeUndefined();
    expect(new Uint8Array(memory.buffer).every((byte) => byte === 7)).toBe(true);
  });

  it('works on a shared memory too', () => {
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 32768, shared: true });
    const instance = new WebAssembly.Instance(new WebAssembly.Module(forSharedMemory(binaryOf(build))), { env: { memory } });
    const kernels = instance.exports as unknown as KernelExports;
    kernels.setEdge(1024);
    const floats = new Float32Array(memory.buffer);
    floats.set([1, 2, 3, 4], 1024);
    floats.set([5, 6, 7, 8], 1040);
    kernels.gemm(2, 2, 2, 4096, 8, false, 4160, 8, false, 4224, 8, 1, false, 8192);
    expect([...floats.slice(1056, 1060)]).toEqual([19, 22, 43, 50]);
  });
});
