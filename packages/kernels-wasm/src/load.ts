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

/** A build's binary. */
export function binaryOf(build: Build): Uint8Array<ArrayBuffer> {
  const text = atob(build === 'relaxed' ? relaxedBinary : simdBinary);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/**
 * The same binary for a shared memory: a module has to say that the memory it imports is shared, as that of tfjs's threaded build in browsers is.
 *
 * Only the import changes: `memory, at least 1 page` becomes `shared memory, 1 to 65536 pages`.
 */
export function forSharedMemory(binary: Uint8Array): Uint8Array<ArrayBuffer> {
  const name = Array.from(new TextEncoder().encode('memory'));
  // length of the name, the name, kind memory, no maximum, 1 page
  const given = [name.length, ...name, 2, 0, 1];
  const wanted = [name.length, ...name, 2, 3, 1, 0x80, 0x80, 4];
  let section = 8;
  while (section < binary.length) {
    const id = binary[section]!;
    let [size, at] = [0, section + 1];
    for (let shift = 0; ; shift += 7) {
      const byte = binary[at++]!;
      size |= (byte & 127) << shift;
      if (byte < 128) break;
    }
    if (id === 2) {
      const body = [...binary.subarray(at, at + size)];
      const place = body.findIndex((_, i) => given.every((byte, j) => body[i + j] === byte));
      if (place < 0) break;
      body.splice(place, given.length, ...wanted);
      const length = [(body.length & 127) | 128, body.length >> 7];
      return Uint8Array.from([...binary.subarray(0, section), 2, ...length, ...body, ...binary.subarray(at + size)]);
    }
    section = at + size;
  }
  throw new Error('kernels-wasm: the binary imports no memory');
}

/** Compiles a build. */
export function compileBuild(build: Build): Promise<WebAssembly.Module> {
  return WebAssembly.compile(binaryOf(build));
}

/** Finds the heap of the backend of a kernel call; the kernels are instantiated at the first call on a backend. */
export function heapFinder(module: WebAssembly.Module, build: Build): FindHeap {
  const heaps = new WeakMap<object, Heap>();
  return (backend) => {
    let heap = heaps.get(backend as object);
    if (!heap) {
      const { wasm } = backend as WasmBackend;
      const shared = typeof SharedArrayBuffer !== 'undefined' && (wasm.HEAPU8.buffer as unknown) instanceof SharedArrayBuffer;
      heap = new Heap(backend as WasmBackend, shared ? new WebAssembly.Module(forSharedMemory(binaryOf(build))) : module);
      heaps.set(backend as object, heap);
    }
    return heap.begin();
  };
}
