import type * as tf from '@tensorflow/tfjs-core';
import type { DataRecord, WasmBackend } from './heap.ts';

/** A piece of the heap on which the data of several tensors begins, each as long as the tensors before it and a little more. */
interface Block {
  readonly pointer: number;
  readonly capacity: number;
  /** bytes that some tensor uses */
  filled: number;
  /** tensors that are not disposed yet */
  owners: number;
}

/** An append that would have to copy more than this many times what it adds is worth room for more. */
const WORTHWHILE = 4;
/** Bytes from which on copying is worth avoiding. */
const LEAST = 4096;
/** Room for more, as a share of what there is. */
const ROOM = 0.25;

const all = new WeakMap<WasmBackend, GrowingTensors>();

/**
 * Tensors to which something is appended again and again, as a decoder does with keys and values.
 *
 * The first append copies, as tfjs does. The second finds that its input was appended to before, and leaves room behind the result. Later ones
 * write into that room: the new tensor begins where the old one does and is longer, which the old one does not see. Only the longest tensor of
 * a block can be appended to in place; of any other, one that was kept for going back to, a copy is made. Tensors so stay what they are, values
 * that never change.
 */
export class GrowingTensors {
  private readonly backend: WasmBackend;
  private readonly blocks = new Map<number, Block>();
  // results of appends: their block, or null while they have no room
  private readonly appended = new WeakMap<DataRecord, Block | null>();

  private constructor(backend: WasmBackend) {
    this.backend = backend;
    const { wasm } = backend;
    // at its first call Emscripten's function puts another one in its own place
    wasm._free(wasm._malloc(LEAST));
    const free = wasm._free.bind(wasm);
    // tfjs frees the data of every tensor that it disposes; a block goes with its last one
    wasm._free = (pointer) => {
      const block = this.blocks.get(pointer);
      if (block && --block.owners > 0) return;
      this.blocks.delete(pointer);
      free(pointer);
    };
  }

  /** Those of a backend. */
  static of(backend: WasmBackend): GrowingTensors {
    const found = all.get(backend) ?? new GrowingTensors(backend);
    all.set(backend, found);
    return found;
  }

  /**
   * The data of one tensor behind that of another.
   *
   * @param before tensor whose data comes first
   * @param after tensor whose data follows
   * @param shape of the result
   * @param join makes the result by copying both
   */
  append(before: tf.TensorInfo, after: tf.TensorInfo, shape: readonly number[], join: () => tf.TensorInfo): tf.TensorInfo {
    const [have, more] = [this.bytesOf(before), this.bytesOf(after)];
    if (have < Math.max(LEAST, WORTHWHILE * more)) return join();
    const record = this.recordOf(before);
    let block = this.appended.get(record);
    const atEnd = block?.filled === have;
    if (block === null || (atEnd && have + more > block!.capacity)) block = this.move(record, have, more);
    else if (!atEnd) block = null;
    if (!block) {
      const result = join();
      this.appended.set(this.recordOf(result), null);
      return result;
    }
    const { memoryOffset } = this.recordOf(after);
    this.backend.wasm.HEAPU8.copyWithin(block.pointer + have, memoryOffset, memoryOffset + more);
    block.filled = have + more;
    block.owners++;
    const result = this.backend.makeOutput([...shape], before.dtype, block.pointer);
    this.appended.set(this.recordOf(result), block);
    return result;
  }

  /** A block with room that begins with the data of a tensor; null when the heap is full. */
  private move({ memoryOffset }: DataRecord, have: number, more: number): Block | null {
    const { wasm } = this.backend;
    const capacity = have + more + Math.ceil(have * ROOM);
    const pointer = wasm._malloc(capacity) >>> 0;
    if (pointer === 0) return null;
    wasm.HEAPU8.copyWithin(pointer, memoryOffset, memoryOffset + have);
    const block = { pointer, capacity, filled: have, owners: 0 };
    this.blocks.set(pointer, block);
    return block;
  }

  private recordOf({ dataId }: tf.TensorInfo): DataRecord {
    return this.backend.dataIdMap.get(dataId);
  }

  // float32 and int32 have four bytes, bool one
  private bytesOf({ shape, dtype }: tf.TensorInfo): number {
    return shape.reduce((a, b) => a * b, dtype === 'bool' ? 1 : 4);
  }
}
