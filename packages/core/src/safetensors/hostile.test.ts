import { describe, expect, test } from 'vitest';
import { SeqLoomError } from '../error.ts';
import { bytesPerElement, bytesSource, openSafetensorsSource, readSafetensors, writeSafetensors } from './index.ts';

/** A file from a header text and a number of data bytes. */
function raw(header: string | Uint8Array, dataBytes = 0, length?: bigint): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + text.byteLength + dataBytes);
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(text.byteLength), true);
  file.set(text, 8);
  return file;
}

const entry = (parts: object): string => JSON.stringify({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...parts } });
const two = (first: number[], second: number[], size = 1): string =>
  JSON.stringify({
    a: { dtype: 'U8', shape: [first[1] - first[0]], data_offsets: first },
    b: { dtype: 'U8', shape: [size], data_offsets: second },
  });

const BROKEN: [string, Uint8Array, RegExp][] = [
  ['an empty file', new Uint8Array(0), /at least 8 bytes long; got 0 bytes/],
  ['seven bytes', new Uint8Array(7), /got 7 bytes/],
  ['a header length of 2^64 - 1', raw('{}', 0, 2n ** 64n - 1n), /header length must be at most .* got 18446744073709551615 bytes/],
  ['a header length above the limit', raw('{}', 0, 100_000_001n), /at most 100000000 bytes/],
  ['a header longer than the file', raw('{}', 0, 3n), /at most the 2 bytes after it; got 3/],
  ['no header', raw(''), /got no bytes/],
  ['a pickle', raw('\u0080\u0002}q\u0000.'), /starts with '\{'/],
  ['blanks first', raw(' {}'), /starts with '\{'/],
  ['a byte order mark', raw('\ufeff{}'), /starts with '\{'/],
  ['an array', raw('[]'), /starts with '\{'/],
  ['half an object', raw('{"a":'), /valid JSON/],
  ['text after the object', raw('{}x'), /valid JSON/],
  ['bytes that are not UTF-8', raw(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)), /valid UTF-8/],
  ['deep nesting', raw(`{"a":${'['.repeat(100_000)}`), /valid JSON/],
  ['a tensor that is a number', raw('{"a":1}'), /tensor "a" must be an object with dtype, shape and data_offsets; got 1/],
  ['a tensor that is null', raw('{"a":null}'), /got null/],
  ['a tensor that is an array', raw('{"a":[]}'), /tensor "a" must be an object/],
  ['a missing dtype', raw(entry({ dtype: undefined }), 8), /with dtype, shape and data_offsets/],
  ['a missing shape', raw(entry({ shape: undefined }), 8), /with dtype, shape and data_offsets/],
  ['fields of the prototype', raw('{"a":{"__proto__":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}}', 4), /must be an object with/],
  ['an unknown dtype', raw(entry({ dtype: 'F8_E5M2' }), 8), /tensor "a" dtype must be one of F64 .* got "F8_E5M2"/],
  ['a dtype of the prototype', raw(entry({ dtype: 'constructor' }), 8), /dtype must be one of/],
  ['a dtype in small letters', raw(entry({ dtype: 'f32' }), 8), /dtype must be one of/],
  ['a dtype that is a list', raw(entry({ dtype: ['F32'] }), 8), /dtype must be one of/],
  ['a negative size', raw(entry({ shape: [-2] }), 8), /shape must be an array of whole numbers/],
  ['minus zero', raw('{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'), /shape must be/],
  ['a fractional size', raw(entry({ shape: [0.5, 4] }), 8), /shape must be/],
  ['a size as text', raw(entry({ shape: ['2'] }), 8), /shape must be/],
  ['a size beyond 2^53', raw('{"a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,8]}}', 8), /shape must be/],
  ['an infinite size', raw('{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}', 8), /shape must be/],
  ['a shape that is a number', raw(entry({ shape: 2 }), 8), /shape must be an array of sizes; got 2/],
  ['a product that overflows', raw(entry({ shape: [2 ** 32, 2 ** 32] }), 8), /at most 2\^53 - 1 elements/],
  ['a product that wraps to the right size', raw(entry({ shape: [2 ** 52, 2 ** 12 + 1] }), 8), /at most 2\^53 - 1 elements/],
  ['a terabyte in eight bytes', raw(entry({ shape: [2 ** 40] }), 8), /4398046511104 bytes apart/],
  ['too few bytes for the shape', raw(entry({ shape: [3] }), 8), /12 bytes apart for F32 \[3\]; got 8 bytes/],
  ['begin after end', raw(entry({ data_offsets: [8, 0] }), 8), /begin <= end; got \[8,0\]/],
  ['a negative offset', raw(entry({ data_offsets: [-8, 0] }), 8), /begin <= end/],
  ['a fractional offset', raw(entry({ data_offsets: [0.5, 8.5] }), 16), /begin <= end/],
  ['one offset', raw(entry({ data_offsets: [0] }), 8), /begin <= end/],
  ['three offsets', raw(entry({ data_offsets: [0, 8, 8] }), 8), /begin <= end/],
  ['offsets past the end', raw(entry({ data_offsets: [0, 8] }), 7), /within the 7 data bytes; got \[0,8\] past the end/],
  ['offsets far past the end', raw(entry({ data_offsets: [2 ** 50, 2 ** 50 + 8] }), 8), /within the 8 data bytes/],
  ['overlapping tensors', raw(two([0, 4], [2, 6], 4), 6), /tensor "b" .* got an overlap of 2 bytes/],
  ['two names for the same bytes', raw(two([0, 4], [0, 4], 4), 4), /got an overlap of 4 bytes/],
  ['an empty tensor inside another', raw(two([0, 4], [2, 2], 0), 4), /got an overlap of 2 bytes/],
  ['a hole in front', raw(entry({ data_offsets: [4, 12] }), 12), /got a hole of 4 bytes/],
  ['a hole between', raw(two([0, 4], [5, 6]), 6), /tensor "b" .* got a hole of 1 bytes/],
  ['bytes after the last tensor', raw(entry({}), 9), /bytes long, as its header says/],
  ['data without tensors', raw('{}', 8), /must be 10 bytes long, as its header says; got 18 bytes/],
  ['a tensor twice', raw(`{"a":${entry({}).slice(5, -1)},"a":${entry({}).slice(5, -1)}}`, 8), /free of duplicate keys; got "a" twice/],
  ['a tensor twice by an escape', raw(`{"a":${entry({}).slice(5, -1)},"\\u0061":${entry({}).slice(5, -1)}}`, 8), /got "a" twice/],
  ['a field twice', raw('{"a":{"dtype":"F64","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8), /got "dtype" twice/],
  ['metadata twice', raw('{"__metadata__":{},"__metadata__":{}}'), /got "__metadata__" twice/],
  ['metadata that is null', raw('{"__metadata__":null}'), /metadata must be an object of strings; got null/],
  ['metadata that is a list', raw('{"__metadata__":["a"]}'), /metadata must be an object of strings/],
  ['a metadata number', raw('{"__metadata__":{"step":1}}'), /metadata "step" must be a string; got 1/],
  ['nested metadata', raw('{"__metadata__":{"a":{"b":"c"}}}'), /metadata "a" must be a string/],
  ['half a character as a name', raw(entry({}).replace('"a"', String.raw`"\ud800"`), 8), /well-formed Unicode/],
];

describe('refused with one clear error, from memory and from a source', () => {
  test.each(BROKEN)('%s', async (_, file, message) => {
    expect(() => readSafetensors(file)).toThrow(SeqLoomError);
    expect(() => readSafetensors(file)).toThrow(message);
    let closed = 0;
    const source = { ...bytesSource(file), close: () => Promise.resolve(void closed++) };
    const opening = openSafetensorsSource(source);
    await expect(opening).rejects.toBeInstanceOf(SeqLoomError);
    await expect(opening).rejects.toThrow(message);
    expect(closed).toBe(1);
  });

  test('something that is not bytes', () => {
    for (const given of [undefined, null, 'text', [1, 2], new Float32Array(4)])
      expect(() => readSafetensors(given as never)).toThrow(SeqLoomError);
  });

  test('a long name does not make a long error', () => {
    const name = 'x'.repeat(100_000);
    let message = '';
    try {
      readSafetensors(raw(`{"${name}":1}`));
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toMatch(/^safetensors: .*\.\.\./);
    expect(message.length).toBeLessThan(1000);
  });
});

test('strange but right: a blank-padded header, unknown fields, several empty tensors, keys that repeat in different objects', () => {
  const empty = { dtype: 'F32', shape: [0], data_offsets: [4, 4] };
  const file = raw(
    `${JSON.stringify({ z: { ...empty, extra: { dtype: 1 } }, one: { dtype: 'U8', shape: [4], data_offsets: [0, 4] }, y: empty, w: { ...empty, data_offsets: [0, 0] } })} \n\t `,
    4,
  );
  expect(Object.keys(readSafetensors(file).tensors).sort()).toEqual(['one', 'w', 'y', 'z']);
});

describe('fuzz: a damaged file parses to consistent tensors or is a SeqLoomError', { timeout: 300_000 }, () => {
  const base = writeSafetensors(
    {
      'model.a': { dtype: 'F32', shape: [2, 3], data: new Float32Array(6).fill(1) },
      b: { dtype: 'BF16', shape: [4], data: [1, 2, 3, 4] },
      c: { dtype: 'I64', shape: [], data: [7] },
      d: { dtype: 'BOOL', shape: [5], data: [1, 0, 1, 1, 0] },
      e: { dtype: 'U8', shape: [0, 3], data: [] },
    },
    { metadata: { format: 'pt', note: 'a\\b"c' } },
  );
  const headerEnd = 8 + Number(new DataView(base.buffer).getBigUint64(0, true));
  const outcome = { parsed: 0, refused: 0 };

  function tryFile(file: Uint8Array): void {
    let read: ReturnType<typeof readSafetensors>;
    try {
      read = readSafetensors(file);
    } catch (error) {
      if (!(error instanceof SeqLoomError)) throw error;
      outcome.refused++;
      return;
    }
    outcome.parsed++;
    let bytes = 8 + Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
    for (const { dtype, shape, data } of Object.values(read.tensors)) {
      const count = shape.reduce((product, size) => product * size, 1);
      if (data.length !== count || data.byteLength !== count * bytesPerElement(dtype)) expect.fail('data does not match its shape');
      bytes += data.byteLength;
    }
    if (bytes !== file.byteLength) expect.fail('tensors do not cover the file');
    if (!Object.values(read.metadata).every((value) => typeof value === 'string')) expect.fail('metadata is not strings');
  }

  test('every byte of prefix and header set to every other value', () => {
    outcome.parsed = outcome.refused = 0;
    const file = base.slice();
    for (let i = 0; i < headerEnd; i++) {
      for (let value = 0; value < 256; value++) {
        file[i] = value;
        if (value !== base[i]) tryFile(file);
      }
      file[i] = base[i];
    }
    // both happen: names may change, structure may not
    expect(outcome.parsed).toBeGreaterThan(1000);
    expect(outcome.refused).toBeGreaterThan(50_000);
  });

  test('every truncation and every small extension', () => {
    outcome.parsed = outcome.refused = 0;
    for (let length = 0; length < base.byteLength; length++) tryFile(base.slice(0, length));
    for (let extra = 1; extra < 20; extra++) {
      const longer = new Uint8Array(base.byteLength + extra);
      longer.set(base);
      tryFile(longer);
    }
    expect(outcome.parsed).toBe(0);
  });

  test('20000 random damages: bytes overwritten, pieces removed, repeated and swapped for JSON tokens', () => {
    let seed = 20_240_607;
    const random = (below: number): number => Math.floor(((seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32) * below);
    const tokens = [
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '0',
      '-1',
      '1e9',
      '1e400',
      '0.5',
      'null',
      '"F64"',
      '"__proto__"',
      '9007199254740993',
      '\\u0000',
      '"a":{},',
    ];
    for (let round = 0; round < 20_000; round++) {
      let header = [...base.subarray(8, headerEnd)];
      for (let change = random(4); change >= 0; change--) {
        const at = random(header.length);
        const kind = random(4);
        if (kind === 0) header[at] = random(256);
        else if (kind === 1) header.splice(at, 1 + random(12));
        else if (kind === 2) header.splice(at, random(4), ...new TextEncoder().encode(tokens[random(tokens.length)]));
        else header = [...header.slice(0, at), ...header.slice(Math.max(0, at - random(60)))];
      }
      const file = new Uint8Array(8 + header.length + base.byteLength - headerEnd);
      new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
      file.set(header, 8);
      file.set(base.subarray(headerEnd), 8 + header.length);
      tryFile(file);
    }
  });
});
