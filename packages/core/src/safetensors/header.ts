/**
 * The safetensors layout: 8 bytes little-endian header length N, N bytes of UTF-8 JSON, then the tensors' bytes without holes.
 *
 * Source: the format section of the safetensors README, https://github.com/huggingface/safetensors.
 */
import { fail } from '../error.ts';
import type { Dtype } from './dtype.ts';
import { DTYPES, bytesPerElement, elementCount, isCount, isDtype, quote } from './dtype.ts';
import { isObject, parseJsonObject } from './strict-json.ts';

/** The largest header that is read or written, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Bytes of the length field in front of the header. */
export const PREFIX_BYTES = 8;

/** What the header says of one tensor, and where its bytes lie. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** first byte in the file */
  readonly offset: number;
  readonly byteLength: number;
}

/** A checked header: tensors in file order, and the metadata strings. */
export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
}

const mechanism = 'safetensors';
const DAMAGED = 'The file is damaged or is no safetensors file: fetch or write it again.';
const HEADER_KEYS = ['dtype', 'shape', 'data_offsets'];

/**
 * The header length N, checked against the limit and the file size before anything of that size is read.
 *
 * @param prefix the first bytes of the file, 8 if it has as many
 * @param size bytes of the whole file
 * @param label what to call the file in an error
 */
export function headerLength(prefix: Uint8Array, size: number, label: string): number {
  if (size < PREFIX_BYTES || prefix.byteLength < PREFIX_BYTES) {
    fail({ mechanism, argument: label, wanted: 'at least 8 bytes long', given: `${size} bytes`, remedy: DAMAGED });
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  const room = size - PREFIX_BYTES;
  if (length > BigInt(MAX_HEADER_BYTES) || length > BigInt(room)) {
    const wanted = `at most ${MAX_HEADER_BYTES} bytes and at most the ${room} bytes after it`;
    fail({ mechanism, argument: `${label} header length`, wanted, given: `${length} bytes`, remedy: DAMAGED });
  }
  return Number(length);
}

/**
 * Parses and checks a header: every field, and that the tensors cover the data section once, without overlap or hole.
 *
 * @param bytes the N header bytes
 * @param size bytes of the whole file
 * @param label what to call the file in an error
 * @throws {SeqLoomError} on the first thing that is wrong
 */
export function parseHeader(bytes: Uint8Array, size: number, label: string): SafetensorsHeader {
  const argument = `${label} header`;
  if (bytes[0] !== 0x7b)
    fail({ mechanism, argument, wanted: "a JSON object that starts with '{'", given: firstBytes(bytes), remedy: DAMAGED });
  const entries = Object.entries(parseJsonObject(bytes, argument, DAMAGED));
  const dataStart = PREFIX_BYTES + bytes.byteLength;
  const dataBytes = size - dataStart;
  let metadata: Record<string, string> = {};
  const infos: TensorInfo[] = [];
  for (const [name, value] of entries) {
    if (name === '__metadata__') metadata = checkMetadata(value, label, DAMAGED);
    else infos.push(checkEntry(name, value, dataStart, dataBytes, label));
  }
  infos.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  checkCoverage(infos, dataStart, size, label);
  return { tensors: new Map(infos.map((info) => [info.name, info])), metadata };
}

/**
 * Metadata as a record without a prototype, so that any key is an ordinary one.
 *
 * @throws {SeqLoomError} when it is not an object of strings
 */
export function checkMetadata(value: unknown, label: string, remedy: string): Record<string, string> {
  const argument = `${label} metadata`;
  if (!isObject(value)) fail({ mechanism, argument, wanted: 'an object of strings', given: quote(value), remedy });
  const metadata = Object.create(null) as Record<string, string>;
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string')
      fail({ mechanism, argument: `${argument} ${quote(key)}`, wanted: 'a string', given: quote(text), remedy });
    metadata[key] = text;
  }
  return metadata;
}

/**
 * Refuses a tensor name that a safetensors file cannot hold: `__metadata__`, or text that is not well-formed Unicode.
 *
 * @throws {SeqLoomError} naming the tensor
 */
export function checkName(name: string, label: string, remedy: string): void {
  if (name === '__metadata__' || /\p{Surrogate}/u.test(name)) {
    const wanted = "well-formed Unicode and not '__metadata__'";
    fail({ mechanism, argument: `${label} tensor name`, wanted, given: quote(name), remedy });
  }
}

function checkEntry(name: string, value: unknown, dataStart: number, dataBytes: number, label: string): TensorInfo {
  checkName(name, label, DAMAGED);
  const argument = `${label} tensor ${quote(name)}`;
  if (!isObject(value) || !HEADER_KEYS.every((key) => Object.hasOwn(value, key))) {
    fail({ mechanism, argument, wanted: 'an object with dtype, shape and data_offsets', given: quote(value), remedy: DAMAGED });
  }
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) {
    const remedy = 'Convert the file to one of these dtypes first.';
    fail({ mechanism, argument: `${argument} dtype`, wanted: `one of ${DTYPES.join(' ')}`, given: quote(dtype), remedy });
  }
  const count = elementCount(shape, `${argument} shape`, DAMAGED);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !isCount(offsets[0]) || !isCount(offsets[1]) || offsets[0] > offsets[1]) {
    fail({
      mechanism,
      argument: `${argument} data_offsets`,
      wanted: 'two whole numbers [begin, end] with begin <= end',
      given: quote(offsets),
      remedy: DAMAGED,
    });
  }
  const [begin, end] = offsets as [number, number];
  if (end > dataBytes) {
    const wanted = `within the ${dataBytes} data bytes`;
    fail({
      mechanism,
      argument: `${argument} data_offsets`,
      wanted,
      given: `${quote(offsets)} past the end (truncated file?)`,
      remedy: DAMAGED,
    });
  }
  const byteLength = count * bytesPerElement(dtype);
  if (end - begin !== byteLength) {
    const wanted = `${byteLength} bytes apart for ${dtype} ${quote(shape)}`;
    fail({ mechanism, argument: `${argument} data_offsets`, wanted, given: `${end - begin} bytes`, remedy: DAMAGED });
  }
  return { name, dtype, shape: Object.freeze([...(shape as number[])]), offset: dataStart + begin, byteLength };
}

function checkCoverage(infos: readonly TensorInfo[], dataStart: number, size: number, label: string): void {
  let position = dataStart;
  for (const { name, offset, byteLength } of infos) {
    if (offset !== position) {
      const given = offset < position ? `an overlap of ${position - offset} bytes` : `a hole of ${offset - position} bytes`;
      const wanted = `next to the tensor before it, at data byte ${position - dataStart}`;
      fail({
        mechanism,
        argument: `${label} tensor ${quote(name)} data_offsets`,
        wanted,
        given: `${given} in front of it`,
        remedy: DAMAGED,
      });
    }
    position += byteLength;
  }
  if (position !== size) {
    const wanted = `${position} bytes long, as its header says`;
    fail({ mechanism, argument: label, wanted, given: `${size} bytes`, remedy: DAMAGED });
  }
}

function firstBytes(bytes: Uint8Array): string {
  return bytes.byteLength === 0 ? 'no bytes' : quote(new TextDecoder().decode(bytes.subarray(0, 16)));
}
