import { fail } from '../error.ts';
import type { SafeTensor } from './dtype.ts';
import { quote, viewElements } from './dtype.ts';
import { PREFIX_BYTES, headerLength, parseHeader } from './header.ts';
import type { SafetensorsWriteOptions, TensorEntries } from './layout.ts';
import { encodeHeader, encodeTensor, planTensors } from './layout.ts';

/** A whole safetensors file in memory; `tensors` has no prototype, so a tensor may have any name. */
export interface Safetensors {
  readonly tensors: Readonly<Record<string, SafeTensor>>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads a safetensors file that is in memory.
 *
 * @param bytes the whole file; where its data is aligned the tensors are views of these bytes, else copies
 * @returns tensors in file order and the metadata strings
 * @throws {SeqLoomError} when the file is truncated, damaged or hostile, before any tensor is made
 */
export function readSafetensors(bytes: Uint8Array | ArrayBuffer): Safetensors {
  if (!(bytes instanceof Uint8Array || bytes instanceof ArrayBuffer)) {
    const remedy = 'Read the file into memory first, or use openSafetensorsSource.';
    fail({ mechanism: 'safetensors', argument: 'bytes', wanted: 'a Uint8Array or ArrayBuffer', given: quote(bytes), remedy });
  }
  // plain, because Buffer's own slice does not copy
  const file = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = headerLength(file.subarray(0, PREFIX_BYTES), file.byteLength, 'file');
  const header = parseHeader(file.slice(PREFIX_BYTES, PREFIX_BYTES + length), file.byteLength, 'file');
  const tensors = Object.create(null) as Record<string, SafeTensor>;
  for (const { name, dtype, shape, offset, byteLength } of header.tensors.values()) {
    tensors[name] = { dtype, shape, data: viewElements(dtype, file.subarray(offset, offset + byteLength)) };
  }
  return { tensors, metadata: header.metadata };
}

/**
 * Writes tensors as one safetensors file in memory; equal tensors give equal bytes, whatever their order.
 *
 * @param tensors name to tensor
 * @returns the file, with its data aligned to 8 bytes
 * @throws {SeqLoomError} on a bad name, dtype, shape, metadata value, or a number that the dtype cannot hold
 */
export function writeSafetensors(tensors: TensorEntries, options: SafetensorsWriteOptions = {}): Uint8Array<ArrayBuffer> {
  const planned = planTensors(tensors, options.dtype);
  const header = encodeHeader(planned, options.metadata);
  const file = new Uint8Array(planned.reduce((sum, { byteLength }) => sum + byteLength, header.byteLength));
  file.set(header);
  let position = header.byteLength;
  for (const tensor of planned) {
    file.set(encodeTensor(tensor, tensor.input.data), position);
    position += tensor.byteLength;
  }
  return file;
}
