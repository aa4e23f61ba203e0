import { fail } from '@seqloom/core';
import { relaxedBinary } from './generated/relaxed.ts';
import { simdBinary } from './generated/simd.ts';
import { Heap } from './heap.ts';
import type { FindHeap, WasmBackend } from './heap.ts';

/** The two builds of the kernels: `relaxed` has fused multiply-add. */
export type Build = 'simd' | 'relaxed';

const probes: Record<Build, readonly number[]> = {
  // a function that splats an i32: (module (func (drop (i8x16.splat (i32.const 0)))))
  simd: [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 65, 0, 253, 15, 26, 11],
  // a function with f32x4.relaxed_madd on three zero vectors
  relaxed: [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 20, 1, 18, 0, 65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253, 133,
    2, 26, 11,
  ],
};

/** Whether this runtime accepts a build's instructions. */
export function supportsBuild(build: Build): boolean {
  return typeof WebAssembly !== 'undefined' && WebAssembly.validate(Uint8Array.from(probes[build]));
}

/** The fastest build that this runtime accepts. */
export function bestBuild(): Build {
  if (supportsBuild('relaxed')) return 'relaxed';
  if (supportsBuild('simd')) return 'simd';
  return fail({
    mechanism: 'kernels-wasm',
    argument: 'runtime',
    wanted: 'WebAssembly with 128-bit SIMD',
    given: 'a runtime without it',
    remedy: 'Use Node 16.4 or newer, or a browser of 2023 or newer; the composed kernels work without.',
  });
}

/** Compiles a build. */
export async function compileBuild(build: Build): Promise<WebAssembly.Module> {
  const text = atob(build === 'relaxed' ? relaxedBinary : simdBinary);
  return WebAssembly.compile(Uint8Array.from(text, (character) => character.charCodeAt(0)));
}

/** Finds the heap of the backend of a kernel call; the kernels are instantiated at the first call on a backend. */
export function heapFinder(module: WebAssembly.Module): FindHeap {
  const heaps = new WeakMap<object, Heap>();
  return (backend) => {
    let heap = heaps.get(backend as object);
    if (!heap) {
      heap = new Heap(backend as WasmBackend, module);
      heaps.set(backend as object, heap);
    }
    return heap;
  };
}
