import { fail } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import type { KernelExports } from './exports.ts';
import { GrowingTensors } from './growing.ts';

/** The parts of tfjs-backend-wasm that the kernels rely on. */
export interface WasmBackend extends tf.KernelBackend {
  readonly wasm: {
    readonly HEAPU8: Uint8Array;
    readonly asm?: Readonly<Record<string, unknown>>;
    readonly wasmMemory?: WebAssembly.Memory;
    _malloc(bytes: number): number;
    _free(pointer: number): void;
  };
  readonly dataIdMap: { get(dataId: tf.DataId): DataRecord };
  makeOutput(shape: readonly number[], dtype: tf.DataType, memoryOffset?: number): tf.TensorInfo;
}

/** Where the data of a tensor lies; data that is moved or written anew gets another record. */
export interface DataRecord {
  readonly memoryOffset: number;
}

/** Finds the heap of the backend that a kernel call runs on. */
export type FindHeap = (backend: unknown) => Heap;

/** A tensor, or nothing. */
export type MaybeTensor = tf.TensorInfo | undefined;

/**
 * The heap of one tfjs-wasm backend, with the kernels that work on it.
 *
 * Pointers stay valid while the heap grows; views of its buffer do not, so none is kept.
 */
export class Heap {
  readonly backend: WasmBackend;
  readonly kernels: KernelExports;
  readonly growing: GrowingTensors;
  // addresses of the room behind the data of some tensors
  private readonly rooms = new WeakMap<DataRecord, number>();
  // tensors of the call under way, which nobody owns before it returns
  private made: tf.TensorInfo[] = [];

  constructor(backend: WasmBackend, module: WebAssembly.Module) {
    this.backend = backend;
    this.growing = GrowingTensors.of(backend);
    const instance = new WebAssembly.Instance(module, { env: { memory: memoryOf(backend), abort } });
    this.kernels = instance.exports as unknown as KernelExports;
    // held as long as the backend lives
    this.kernels.setEdge(this.allocate(256));
  }

  /** Starts a kernel call: tensors that it makes are freed again when the heap turns out to be full. */
  begin(): this {
    this.made = [];
    return this;
  }

  /** Address of a tensor's data; 0 for an absent tensor. */
  pointer(tensor: MaybeTensor): number {
    return tensor ? this.backend.dataIdMap.get(tensor.dataId).memoryOffset : 0;
  }

  /** Addresses of several tensors. */
  pointers<const T extends readonly MaybeTensor[]>(...tensors: T): { -readonly [K in keyof T]: number } {
    return tensors.map((tensor) => this.pointer(tensor)) as { -readonly [K in keyof T]: number };
  }

  /** A new tensor on the heap, its contents not set. */
  output(shape: readonly number[], dtype: 'float32' | 'int32' | 'bool' = 'float32'): tf.TensorInfo {
    const output = this.makeOutput(shape, dtype);
    this.made.push(output);
    if (this.pointer(output) === 0 && shape.every((extent) => extent > 0)) this.giveUp(shape.reduce((a, b) => a * b, 4));
    return output;
  }

  /**
   * A new tensor with room behind its data that is freed with it: a forward leaves there what its gradient would compute again. No room when the heap
   * has no more.
   */
  outputWithRoom(shape: readonly number[], bytes: number): tf.TensorInfo {
    const start = (shape.reduce((a, b) => a * b, 4) + 15) & ~15;
    const pointer = bytes > 0 ? this.backend.wasm._malloc(start + bytes + 16) >>> 0 : 0;
    if (pointer === 0) return this.output(shape);
    const output = this.backend.makeOutput([...shape], 'float32', pointer);
    this.made.push(output);
    this.rooms.set(this.backend.dataIdMap.get(output.dataId), (pointer + start + 15) & ~15);
    return output;
  }

  /** Address of the room behind a tensor's data; 0 where there is none. */
  roomBehind(tensor: MaybeTensor): number {
    return (tensor && this.rooms.get(this.backend.dataIdMap.get(tensor.dataId))) ?? 0;
  }

  /** A new tensor of zeros on the heap. */
  zeros(shape: readonly number[]): tf.TensorInfo {
    const output = this.output(shape);
    const size = shape.reduce((a, b) => a * b, 4);
    this.kernels.clear(this.pointer(output), size);
    return output;
  }

  /** Gives `use` so many bytes of scratch, aligned to 16, and takes them back. */
  scratch<R>(bytes: number, use: (pointer: number) => R): R {
    const pointer = this.allocate(bytes + 16);
    try {
      return use((pointer + 15) & ~15);
    } finally {
      this.backend.wasm._free(pointer);
    }
  }

  /** Copies numbers to an address. */
  write(pointer: number, values: ArrayLike<number>): void {
    new Int32Array(this.backend.wasm.HEAPU8.buffer, pointer, values.length).set(values);
  }

  private makeOutput(shape: readonly number[], dtype: tf.DataType): tf.TensorInfo {
    try {
      return this.backend.makeOutput([...shape], dtype);
    } catch (error) {
      this.freeMade();
      throw error;
    }
  }

  private allocate(bytes: number): number {
    const pointer = this.backend.wasm._malloc(bytes) >>> 0;
    return pointer === 0 ? this.giveUp(bytes) : pointer;
  }

  private giveUp(bytes: number): never {
    this.freeMade();
    return outOfMemory(bytes);
  }

  private freeMade(): void {
    for (const { dataId } of this.made.splice(0)) this.backend.disposeData(dataId, true);
  }
}

function outOfMemory(bytes: number): never {
  return fail({
    mechanism: 'kernels-wasm',
    argument: 'memory',
    wanted: `${bytes} more bytes on the heap of tfjs-wasm`,
    given: 'a full heap',
    remedy: 'Use smaller batches, shorter sequences or accumulation, and dispose tensors that are no longer needed.',
  });
}

function abort(): never {
  throw new Error('kernels-wasm: a kernel stopped');
}

function memoryOf(backend: WasmBackend): WebAssembly.Memory {
  const { asm, wasmMemory } = backend.wasm;
  const found = wasmMemory ?? Object.values(asm ?? {}).find((value) => value instanceof WebAssembly.Memory);
  if (found) return found;
  return fail({
    mechanism: 'kernels-wasm',
    argument: 'backend',
    wanted: 'tfjs-backend-wasm 4.22 or newer, whose memory can be imported',
    given: 'a wasm backend that does not expose its memory',
    remedy: 'Install @tensorflow/tfjs-backend-wasm ^4.22.0.',
  });
}
