/**
 * Numbers to and from stored elements.
 *
 * f16 = 1 sign, 5 exponent, 10 fraction bits; bf16 = the upper half of an f32. Reading is exact; writing rounds once, to nearest, ties to even.
 */
import { fail } from '../error.ts';
import type { Dtype, SafeTensor, TensorData } from './dtype.ts';
import { allocate, isDtype, quote, storesDtype } from './dtype.ts';

/** Plain numbers that the writer converts to a tensor's dtype. */
export type NumberData = Float32Array | Float64Array | Int32Array | readonly number[];

const SAFE = Number.MAX_SAFE_INTEGER;
const INTEGER_RANGE: Readonly<Partial<Record<Dtype, readonly [number, number]>>> = {
  I64: [-SAFE, SAFE],
  U64: [0, SAFE],
  I32: [-(2 ** 31), 2 ** 31 - 1],
  U32: [0, 2 ** 32 - 1],
  I16: [-(2 ** 15), 2 ** 15 - 1],
  U16: [0, 2 ** 16 - 1],
  I8: [-128, 127],
  U8: [0, 255],
  BOOL: [0, 1],
};

/**
 * A tensor's elements as float32.
 *
 * f32 is returned as it is (no copy), f16 and bf16 are exact, f64 and integers beyond 2^24 are rounded to nearest.
 *
 * @throws {SeqLoomError} when an I64 or U64 element is beyond ±(2^53 - 1)
 */
export function toFloat32(tensor: SafeTensor): Float32Array {
  const { dtype, data } = checkTensor(tensor);
  if (data instanceof Float32Array) return data;
  if (dtype === 'F16') return decodeF16(data as Uint16Array);
  if (dtype === 'BF16') return decodeBf16(data as Uint16Array);
  return Float32Array.from(safeNumbers(data));
}

/**
 * A tensor's elements as float64: exact for every dtype (f64 is returned as it is, no copy).
 *
 * @throws {SeqLoomError} when an I64 or U64 element is beyond ±(2^53 - 1)
 */
export function toFloat64(tensor: SafeTensor): Float64Array {
  const { dtype, data } = checkTensor(tensor);
  if (data instanceof Float64Array) return data;
  if (dtype === 'F16' || dtype === 'BF16') return Float64Array.from(toFloat32(tensor));
  return Float64Array.from(safeNumbers(data));
}

/**
 * A tensor's elements as int32, as index tensors need them (i32 is returned as it is, no copy).
 *
 * @throws {SeqLoomError} when an element is not a whole number of the int32 range
 */
export function toInt32(tensor: SafeTensor): Int32Array {
  const { data } = checkTensor(tensor);
  if (data instanceof Int32Array) return data;
  return encodeNumbers(toFloat64(tensor), 'I32', 'tensor') as Int32Array;
}

/** The stored f16 bits of a number, rounded to nearest, ties to even; beyond 65520 it is infinite. */
export function encodeF16(value: number): number {
  return encodeNarrow(value, 10, -14);
}

/** The stored bf16 bits of a number, rounded to nearest, ties to even. */
export function encodeBf16(value: number): number {
  return encodeNarrow(value, 7, -126);
}

/**
 * Numbers as stored elements of a dtype.
 *
 * @param argument what to call the numbers in an error
 * @throws {SeqLoomError} when an integer dtype (or BOOL) is given a number that it cannot hold exactly
 */
export function encodeNumbers(values: ArrayLike<number>, dtype: Dtype, argument: string): TensorData {
  const length = values.length;
  const range = INTEGER_RANGE[dtype];
  const out = allocate(dtype, length);
  if (range !== undefined) {
    const [low, high] = range;
    for (let i = 0; i < length; i++) {
      const value = values[i];
      if (!Number.isInteger(value) || value < low || value > high) {
        fail({
          mechanism: 'safetensors',
          argument: `${argument} element ${i}`,
          wanted: `a whole number from ${low} to ${high} to be ${dtype}`,
          given: String(value),
          remedy: 'Choose a dtype that holds the values.',
        });
      }
      if (out instanceof BigInt64Array || out instanceof BigUint64Array) out[i] = BigInt(value);
      else out[i] = value;
    }
  } else if (dtype === 'F16') {
    for (let i = 0; i < length; i++) out[i] = encodeF16(values[i]);
  } else if (dtype === 'BF16') {
    if (values instanceof Float32Array) roundToBf16(values, out as Uint16Array);
    else for (let i = 0; i < length; i++) out[i] = encodeBf16(values[i]);
  } else {
    for (let i = 0; i < length; i++) out[i] = values[i];
  }
  return out;
}

function decodeF16(bits: Uint16Array): Float32Array {
  const out = new Float32Array(bits.length);
  const words = new Uint32Array(out.buffer);
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i];
    const exponent = (half >>> 10) & 31;
    const fraction = half & 0x3ff;
    if (exponent === 0) out[i] = (half & 0x8000 ? -1 : 1) * fraction * 2 ** -24;
    // words, not numbers: a NaN keeps its payload
    else words[i] = ((half & 0x8000) << 16) | ((exponent === 31 ? 255 : exponent + 112) << 23) | (fraction << 13);
  }
  return out;
}

function decodeBf16(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return new Float32Array(words.buffer);
}

// f32 to bf16 on the bit patterns: half an upper unit, less one when the kept part is even, carries into it
function roundToBf16(values: Float32Array, out: Uint16Array): void {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    const isNan = (word & 0x7fffffff) > 0x7f800000;
    out[i] = isNan ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
}

const word64 = new DataView(new ArrayBuffer(8));

// straight from f64, since going through f32 would round twice
function encodeNarrow(value: number, fractionBits: number, minExponent: number): number {
  word64.setFloat64(0, value);
  const high = word64.getUint32(0);
  const sign = (high >>> 31) << 15;
  const infinity = (2 * (1 - minExponent) + 1) << fractionBits;
  if (Number.isNaN(value)) return sign | infinity | (1 << (fractionBits - 1));
  const exponent = Math.max(((high >>> 20) & 0x7ff) - 1023, minExponent);
  if (exponent > 1 - minExponent) return sign | infinity;
  // units of the last kept bit; adding 2^52 leaves no room for a fraction, so the sum rounds half to even
  const units = Math.abs(value) * 2 ** (fractionBits - exponent) + 2 ** 52 - 2 ** 52;
  // a full binade of units per exponent step: a carry lands in the next exponent, or in infinity, by itself
  return sign | ((exponent - minExponent) * 2 ** fractionBits + units);
}

function safeNumbers(data: TensorData): Iterable<number> & ArrayLike<number> {
  if (!(data instanceof BigInt64Array || data instanceof BigUint64Array)) return data;
  const out = new Float64Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const value = Number(data[i]);
    if (!Number.isSafeInteger(value)) {
      fail({
        mechanism: 'safetensors',
        argument: `64-bit integer element ${i}`,
        wanted: 'within ±(2^53 - 1) to become a number',
        given: String(data[i]),
        remedy: 'Use the BigInt elements in `data` as they are.',
      });
    }
    out[i] = value;
  }
  return out;
}

function checkTensor(tensor: SafeTensor): SafeTensor {
  const given = tensor as Partial<SafeTensor> | null | undefined;
  if (!isDtype(given?.dtype) || !storesDtype(given.data, given.dtype)) {
    fail({
      mechanism: 'safetensors',
      argument: 'tensor',
      wanted: '{ dtype, shape, data } with data in the typed array of its dtype',
      given: `dtype ${quote(given?.dtype)} with ${given?.data?.constructor.name ?? 'no data'}`,
      remedy: 'Pass a tensor as the reader returns it.',
    });
  }
  return tensor;
}
