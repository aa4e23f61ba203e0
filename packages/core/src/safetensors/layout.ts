import { fail } from '../error.ts';
import type { NumberData } from './convert.ts';
import { encodeNumbers, toFloat32 } from './convert.ts';
import type { Dtype, FloatDtype, TensorData } from './dtype.ts';
import { DTYPES, bytesPerElement, elementCount, isDtype, isFloatDtype, quote, storesDtype } from './dtype.ts';
import { MAX_HEADER_BYTES, PREFIX_BYTES, checkMetadata, checkName } from './header.ts';

/** A tensor to write: `data` is either the typed array of `dtype` (stored as it is) or plain numbers (converted, rounding half to even). */
export interface TensorInput<Data = TensorData | NumberData> {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: Data;
}

/** Tensors to write, by name: a record, a Map, or any iterable of pairs. */
export type TensorEntries<Input = TensorInput> = Readonly<Record<string, Input>> | Iterable<readonly [string, Input]>;

/** What every writer may be told. */
export interface SafetensorsWriteOptions {
  /** strings for the header, such as `{ format: 'pt' }`, which the Python loaders look for */
  readonly metadata?: Readonly<Record<string, string>>;
  /** converts every floating-point tensor to this dtype; integers and booleans stay as they are */
  readonly dtype?: FloatDtype;
}

/** A tensor with its place in the file to be. */
export interface PlannedTensor<Input> {
  readonly name: string;
  /** what is stored, after the `dtype` option */
  readonly dtype: Dtype;
  readonly byteLength: number;
  readonly input: Input;
}

const mechanism = 'safetensors';
const REMEDY = 'Mend the tensor before writing; nothing was written.';

/**
 * Checks what is to be written and puts it in file order: wide dtypes first, so that all are aligned, then by name.
 *
 * @throws {SeqLoomError} on a bad name, dtype or shape, or a name that comes twice
 */
export function planTensors<Input extends TensorInput<unknown>>(
  entries: TensorEntries<Input>,
  dtype: FloatDtype | undefined,
): PlannedTensor<Input>[] {
  if (dtype !== undefined && !(isDtype(dtype) && isFloatDtype(dtype))) {
    fail({
      mechanism,
      argument: 'dtype',
      wanted: 'F64, F32, F16 or BF16',
      given: quote(dtype),
      remedy: 'Leave it out to keep every dtype.',
    });
  }
  const names = new Set<string>();
  const planned: PlannedTensor<Input>[] = [];
  for (const [name, input] of Symbol.iterator in entries ? entries : Object.entries(entries)) {
    checkName(name, 'entries', REMEDY);
    if (names.has(name))
      fail({ mechanism, argument: 'entries', wanted: 'free of duplicate names', given: `${quote(name)} twice`, remedy: REMEDY });
    names.add(name);
    const argument = `tensor ${quote(name)}`;
    if (!isDtype(input.dtype)) {
      fail({ mechanism, argument: `${argument} dtype`, wanted: `one of ${DTYPES.join(' ')}`, given: quote(input.dtype), remedy: REMEDY });
    }
    const stored = dtype !== undefined && isFloatDtype(input.dtype) ? dtype : input.dtype;
    const count = elementCount(input.shape, `${argument} shape`, REMEDY);
    planned.push({ name, dtype: stored, byteLength: count * bytesPerElement(stored), input });
  }
  return planned.sort((a, b) => bytesPerElement(b.dtype) - bytesPerElement(a.dtype) || (a.name < b.name ? -1 : 1));
}

/**
 * The length field and the header of a file with these tensors, padded with spaces to a multiple of 8 bytes.
 *
 * @throws {SeqLoomError} when the metadata is not strings, or the header is beyond what a reader takes
 */
export function encodeHeader(planned: readonly PlannedTensor<TensorInput<unknown>>[], metadata: unknown): Uint8Array {
  const strings = checkMetadata(metadata ?? {}, 'options', 'Turn every metadata value into a string.');
  const fields: string[] = [];
  const keys = Object.keys(strings).sort();
  // text, not an object: an object would move names that look like numbers to the front
  if (keys.length > 0)
    fields.push(`"__metadata__":{${keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(strings[key])}`).join(',')}}`);
  let end = 0;
  for (const { name, dtype, byteLength, input } of planned) {
    const begin = end;
    end += byteLength;
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape: input.shape, data_offsets: [begin, end] })}`);
  }
  const text = new TextEncoder().encode(`{${fields.join(',')}}`);
  const length = Math.ceil(text.byteLength / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    const remedy = 'Write fewer tensors per file, or less metadata.';
    fail({ mechanism, argument: 'header', wanted: `at most ${MAX_HEADER_BYTES} bytes`, given: `${length} bytes`, remedy });
  }
  const bytes = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(text, PREFIX_BYTES);
  return bytes;
}

/**
 * Refuses data that is not of its dtype or has not as many elements as its shape.
 *
 * @throws {SeqLoomError} naming the tensor
 */
export function checkData(planned: PlannedTensor<TensorInput<unknown>>, data: unknown): asserts data is TensorData | NumberData {
  const { name, dtype, byteLength, input } = planned;
  const argument = `tensor ${quote(name)} data`;
  if (!storesDtype(data, input.dtype) && !isNumbers(data)) {
    const wanted = `the typed array of ${input.dtype}, or plain numbers`;
    const given = (data as object | null | undefined)?.constructor?.name ?? String(data);
    fail({ mechanism, argument, wanted, given, remedy: 'Raw F16 and BF16 bits go in a Uint16Array, I64 in a BigInt64Array or numbers.' });
  }
  const count = byteLength / bytesPerElement(dtype);
  if (data.length !== count) {
    fail({
      mechanism,
      argument,
      wanted: `${count} elements, as shape ${quote(input.shape)} says`,
      given: `${data.length}`,
      remedy: REMEDY,
    });
  }
}

/**
 * The bytes of a planned tensor: a view of its data where nothing needs converting.
 *
 * @throws {SeqLoomError} when `checkData` refuses the data, or the dtype cannot hold a number of it
 */
export function encodeTensor(planned: PlannedTensor<TensorInput<unknown>>, data: unknown): Uint8Array {
  checkData(planned, data);
  const { name, dtype, input } = planned;
  const elements = convert(data, input.dtype, dtype, `tensor ${quote(name)} data`);
  return new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
}

function convert(data: TensorData | NumberData, from: Dtype, to: Dtype, argument: string): TensorData {
  if (!storesDtype(data, from)) return encodeNumbers(data, to, argument);
  if (from === to) return data;
  // only floating-point dtypes are converted, and of those only the 16-bit ones are not numbers already
  return encodeNumbers(data instanceof Uint16Array ? toFloat32({ dtype: from, shape: [], data }) : (data as NumberData), to, argument);
}

function isNumbers(data: unknown): data is NumberData {
  if (data instanceof Float32Array || data instanceof Float64Array || data instanceof Int32Array) return true;
  return Array.isArray(data) && data.every((value) => typeof value === 'number');
}
