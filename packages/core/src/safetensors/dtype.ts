import { fail } from '../error.ts';

/** Typed array that holds the stored elements of each dtype; F16 and BF16 are raw 16-bit patterns, BOOL is one byte of 0 or 1. */
export interface DtypeArrays {
  F64: Float64Array;
  F32: Float32Array;
  F16: Uint16Array;
  BF16: Uint16Array;
  I64: BigInt64Array;
  U64: BigUint64Array;
  I32: Int32Array;
  U32: Uint32Array;
  I16: Int16Array;
  U16: Uint16Array;
  I8: Int8Array;
  U8: Uint8Array;
  BOOL: Uint8Array;
}

/** A safetensors element type that is read and written here. */
export type Dtype = keyof DtypeArrays;

/** A floating-point dtype: the ones that the writer's `dtype` option converts between. */
export type FloatDtype = 'F64' | 'F32' | 'F16' | 'BF16';

/** Any typed array that can hold stored elements. */
export type TensorData = DtypeArrays[Dtype];

/** One tensor: element type, shape (`[]` is a scalar) and row-major elements. */
export interface SafeTensor<D extends Dtype = Dtype> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly data: DtypeArrays[D];
}

type ArrayConstructor = {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): TensorData;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): TensorData;
};

const ARRAYS: Readonly<Record<Dtype, ArrayConstructor>> = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  I32: Int32Array,
  U32: Uint32Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

/** The dtypes that are read and written, widest first. */
export const DTYPES = Object.keys(ARRAYS) as readonly Dtype[];

/** Whether a value from a header names a dtype that is read and written here. */
export function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(ARRAYS, value);
}

/** Whether a dtype is floating point. */
export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'F64' || dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}

/** Bytes of one element of a dtype. */
export function bytesPerElement(dtype: Dtype): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT;
}

/** Whether an array is the one that stores a dtype's elements, so that its bytes are the file's bytes. */
export function storesDtype(data: unknown, dtype: Dtype): data is TensorData {
  return data instanceof ARRAYS[dtype];
}

/** A new zero-filled array for `length` elements of a dtype. */
export function allocate<D extends Dtype>(dtype: D, length: number): DtypeArrays[D] {
  return new ARRAYS[dtype](length) as DtypeArrays[D];
}

/**
 * The elements stored in a run of little-endian bytes: a view when the bytes are aligned, else a copy.
 *
 * @param bytes stored bytes, a whole number of elements
 * @param copy always copies, so that the result does not keep a larger buffer alive
 */
export function viewElements<D extends Dtype>(dtype: D, bytes: Uint8Array, copy = false): DtypeArrays[D] {
  const Elements = ARRAYS[dtype];
  const size = Elements.BYTES_PER_ELEMENT;
  const own = copy || bytes.byteOffset % size !== 0 ? new Uint8Array(bytes) : bytes;
  return new Elements(own.buffer, own.byteOffset, own.byteLength / size) as DtypeArrays[D];
}

/**
 * The number of elements of a shape.
 *
 * @param argument what to call the shape in an error
 * @param remedy what the error advises
 * @throws {SeqLoomError} when the shape is not an array of whole numbers from 0, or its product is beyond 2^53 - 1
 */
export function elementCount(shape: unknown, argument: string, remedy: string): number {
  const mechanism = 'safetensors';
  if (!Array.isArray(shape)) fail({ mechanism, argument, wanted: 'an array of sizes', given: quote(shape), remedy });
  let count = 1;
  for (const size of shape as unknown[]) {
    if (!isCount(size)) fail({ mechanism, argument, wanted: 'an array of whole numbers from 0 to 2^53 - 1', given: quote(shape), remedy });
    count *= size;
    if (count > Number.MAX_SAFE_INTEGER) {
      fail({ mechanism, argument, wanted: 'of at most 2^53 - 1 elements', given: quote(shape), remedy });
    }
  }
  return count;
}

/** Whether a value is a whole number from 0 to 2^53 - 1 (and not minus zero). */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}

/** A value as short, printable text for an error. */
export function quote(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // bigint and cyclic values have no JSON
  }
  text ??= String(value);
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}
