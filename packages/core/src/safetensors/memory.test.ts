import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { SeqLoomError } from '../error.ts';
import { readSafetensors, toFloat32, writeSafetensors } from './index.ts';
import type { SafeTensor, TensorInput } from './index.ts';

const EVERY: Record<string, SafeTensor> = {
  f64: { dtype: 'F64', shape: [3], data: Float64Array.of(0.1, -Infinity, Number.MIN_VALUE) },
  f32: { dtype: 'F32', shape: [2, 2], data: Float32Array.of(0.1, -0, NaN, 3e38) },
  f16: { dtype: 'F16', shape: [3], data: Uint16Array.of(1, 0x7e01, 0xfc00) },
  bf16: { dtype: 'BF16', shape: [1, 1, 3], data: Uint16Array.of(0x3f80, 0x7fc1, 0x8001) },
  i64: { dtype: 'I64', shape: [2], data: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n) },
  u64: { dtype: 'U64', shape: [1], data: BigUint64Array.of(2n ** 64n - 1n) },
  i32: { dtype: 'I32', shape: [2], data: Int32Array.of(-(2 ** 31), 2 ** 31 - 1) },
  u32: { dtype: 'U32', shape: [1], data: Uint32Array.of(2 ** 32 - 1) },
  i16: { dtype: 'I16', shape: [1], data: Int16Array.of(-32_768) },
  u16: { dtype: 'U16', shape: [1], data: Uint16Array.of(65_535) },
  i8: { dtype: 'I8', shape: [3], data: Int8Array.of(-128, 0, 127) },
  u8: { dtype: 'U8', shape: [5], data: Uint8Array.of(0, 1, 2, 254, 255) },
  bool: { dtype: 'BOOL', shape: [2, 1], data: Uint8Array.of(1, 0) },
  scalar: { dtype: 'F32', shape: [], data: Float32Array.of(42) },
  empty: { dtype: 'F32', shape: [3, 0, 2], data: new Float32Array(0) },
};

const bytesOf = ({ data }: SafeTensor): number[] => [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];

function expectSame(got: Readonly<Record<string, SafeTensor>>, wanted: Readonly<Record<string, SafeTensor>>): void {
  expect(Object.keys(got).sort()).toEqual(Object.keys(wanted).sort());
  for (const [name, tensor] of Object.entries(wanted)) {
    expect(got[name].dtype).toBe(tensor.dtype);
    expect(got[name].shape).toEqual(tensor.shape);
    expect(got[name].data.constructor).toBe(tensor.data.constructor);
    // bytes, since NaN payloads count
    expect(bytesOf(got[name])).toEqual(bytesOf(tensor));
  }
}

const header = (file: Uint8Array): string => {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  return new TextDecoder().decode(file.subarray(8, 8 + length));
};

describe('round trip', () => {
  test('every dtype, scalars and empty tensors come back bit for bit, with the metadata', () => {
    const metadata = { format: 'pt', ключ: '値 "quoted"\n' };
    const file = writeSafetensors(EVERY, { metadata });
    const back = readSafetensors(file);
    expectSame(back.tensors, EVERY);
    expect({ ...back.metadata }).toEqual(metadata);
    expectSame(readSafetensors(file.buffer).tensors, EVERY);
  });

  test('no tensors at all', () => {
    const file = writeSafetensors({});
    expect(file.byteLength).toBe(16);
    expect(Object.keys(readSafetensors(file).tensors)).toEqual([]);
  });

  test('equal tensors give equal bytes in any order; the data is aligned to 8 bytes', () => {
    const metadata = { b: '2', a: '1', 10: 'x' };
    const file = writeSafetensors(EVERY, { metadata });
    const turned = writeSafetensors(new Map(Object.entries(EVERY).reverse()), {
      metadata: Object.fromEntries(Object.entries(metadata).reverse()),
    });
    expect(turned).toEqual(file);
    expect(header(file).length % 8).toBe(0);
    for (const { data } of Object.values(readSafetensors(file).tensors)) expect(data.buffer).toBe(file.buffer);
  });

  test('unaligned files, as unpadded writers make them, are copied and give the same', () => {
    const file = writeSafetensors(EVERY);
    const text = header(file).trimEnd();
    for (let pad = 0; pad < 8; pad++) {
      const start = 8 + text.length + pad;
      const other = new Uint8Array(start + file.byteLength - 8 - header(file).length).fill(0x20);
      new DataView(other.buffer).setBigUint64(0, BigInt(text.length + pad), true);
      other.set(new TextEncoder().encode(text), 8);
      other.set(file.subarray(8 + header(file).length), start);
      expectSame(readSafetensors(other).tensors, EVERY);
    }
    const shifted = new Uint8Array(file.byteLength + 3);
    shifted.set(file, 3);
    expectSame(readSafetensors(shifted.subarray(3)).tensors, EVERY);
    // a Buffer, whose slice is a view
    expectSame(readSafetensors(Buffer.from(shifted.buffer, 3)).tensors, EVERY);
  });

  test('any name is an ordinary one: __proto__, numbers, the empty name, letters of any script', () => {
    const one = (value: number): SafeTensor => ({ dtype: 'U8', shape: [], data: Uint8Array.of(value) });
    const names = ['__proto__', 'constructor', 'toString', '10', '9', '', 'a"\\\u0000b', 'слой.0', '😀'];
    const back = readSafetensors(
      writeSafetensors(
        names.map((name, i) => [name, one(i)] as const),
        { metadata: JSON.parse('{"__proto__":"x"}') as never },
      ),
    );
    expect(Object.keys(back.tensors).sort()).toEqual([...names].sort());
    names.forEach((name, i) => expect(back.tensors[name].data[0]).toBe(i));
    expect(Object.entries(back.metadata)).toEqual([['__proto__', 'x']]);
    expect(({} as Record<string, unknown>)['dtype']).toBeUndefined();
    expect('toString' in readSafetensors(writeSafetensors({})).tensors).toBe(false);
  });
});

describe('conversion while writing', () => {
  test('plain numbers become the dtype of their tensor', () => {
    const { tensors } = readSafetensors(
      writeSafetensors({
        i64: { dtype: 'I64', shape: [2], data: [-3, 2 ** 53 - 1] },
        bool: { dtype: 'BOOL', shape: [2], data: [1, 0] },
        f16: { dtype: 'F16', shape: [2], data: Float32Array.of(1 / 3, 70_000) },
        bf16: { dtype: 'BF16', shape: [1], data: Float64Array.of(1 + 2 ** -8 + 2 ** -40) },
        f32: { dtype: 'F32', shape: [1], data: [0.1] },
        u8: { dtype: 'U8', shape: [1], data: Int32Array.of(255) },
      }),
    );
    expect([...tensors['i64'].data]).toEqual([-3n, 9_007_199_254_740_991n]);
    expect([...tensors['bool'].data]).toEqual([1, 0]);
    expect([...toFloat32(tensors['f16'])]).toEqual([0.333251953125, Infinity]);
    expect([...toFloat32(tensors['bf16'])]).toEqual([1 + 2 ** -7]);
    expect([...tensors['f32'].data]).toEqual([Math.fround(0.1)]);
    expect([...tensors['u8'].data]).toEqual([255]);
  });

  test.each(['F64', 'F32', 'F16', 'BF16'] as const)(
    'the dtype option turns every float tensor into %s and leaves integers alone',
    (dtype) => {
      const { tensors } = readSafetensors(writeSafetensors(EVERY, { dtype }));
      for (const [name, tensor] of Object.entries(EVERY)) {
        expect(tensors[name].dtype).toBe(/^B?F/.test(tensor.dtype) ? dtype : tensor.dtype);
        expect(tensors[name].shape).toEqual(tensor.shape);
      }
      expect([...toFloat32(tensors['scalar'])]).toEqual([42]);
      expect(toFloat32(tensors['f16'])[2]).toBe(-Infinity);
      expect(bytesOf(tensors['i64'])).toEqual(bytesOf(EVERY['i64']));
    },
  );
});

describe('bad input to the writer', () => {
  const tensor = (parts: object): Record<string, TensorInput> => ({
    x: { dtype: 'F32', shape: [2], data: new Float32Array(2), ...parts },
  });
  test.each<[string, () => unknown, RegExp]>([
    ['wrong count', () => writeSafetensors(tensor({ shape: [3] })), /tensor "x" data must be 3 elements, as shape \[3\] says; got 2/],
    ['unknown dtype', () => writeSafetensors(tensor({ dtype: 'F8_E4M3' })), /tensor "x" dtype must be one of F64 .* got "F8_E4M3"/],
    ['negative size', () => writeSafetensors(tensor({ shape: [-2] })), /tensor "x" shape/],
    ['fractional size', () => writeSafetensors(tensor({ shape: [0.5, 4] })), /tensor "x" shape/],
    ['no shape', () => writeSafetensors(tensor({ shape: undefined })), /tensor "x" shape must be an array/],
    [
      'wrong array',
      () => writeSafetensors(tensor({ dtype: 'I64', data: new Uint8Array(2) })),
      /typed array of I64, or plain numbers; got Uint8Array/,
    ],
    ['no data', () => writeSafetensors(tensor({ data: null })), /got null/],
    ['not numbers', () => writeSafetensors(tensor({ data: ['1', '2'] })), /got Array/],
    ['overflow', () => writeSafetensors(tensor({ dtype: 'I8', data: [1, 128] })), /tensor "x" data element 1/],
    ['reserved name', () => writeSafetensors({ __metadata__: tensor({})['x'] }), /not '__metadata__'/],
    ['half a character', () => writeSafetensors({ '\ud800': tensor({})['x'] }), /well-formed Unicode/],
    [
      'name twice',
      () => writeSafetensors([['x', tensor({})['x']] as const, ['x', tensor({})['x']] as const]),
      /free of duplicate names; got "x" twice/,
    ],
    ['metadata value', () => writeSafetensors({}, { metadata: { step: 1 } as never }), /metadata "step" must be a string; got 1/],
    ['metadata', () => writeSafetensors({}, { metadata: ['a'] as never }), /metadata must be an object of strings/],
    ['dtype option', () => writeSafetensors({}, { dtype: 'I32' as never }), /dtype must be F64, F32, F16 or BF16; got "I32"/],
  ])('%s', (_, write, message) => {
    expect(write).toThrow(SeqLoomError);
    expect(write).toThrow(message);
  });
});

describe('files of the Python library', () => {
  const golden = async (name: string) => readSafetensors(await readFile(new URL(`../../golden/${name}/tiny.safetensors`, import.meta.url)));

  test('causal convolution: the equation holds for the tensors that were read', async () => {
    const { tensors, metadata } = await golden('causal-conv1d');
    expect(metadata['source_function']).toContain('causal_conv1d_ref');
    const x = toFloat32(tensors['in.x']);
    const weight = toFloat32(tensors['param.weight']);
    const bias = toFloat32(tensors['param.bias']);
    const output = toFloat32(tensors['out.o']);
    const [, channels, length] = tensors['in.x'].shape;
    const width = tensors['param.weight'].shape[1];
    expect([channels, length, width]).toEqual([2, 8, 4]);
    for (let d = 0; d < channels; d++) {
      for (let t = 0; t < length; t++) {
        let sum = bias[d];
        for (let w = Math.max(0, width - 1 - t); w < width; w++) sum += weight[d * width + w] * x[d * length + t - width + 1 + w];
        expect(output[d * length + t]).toBeCloseTo(sum, 5);
      }
    }
  });

  test('router: int32 indices scatter the weights into the dense output', async () => {
    const { tensors } = await golden('moe-router-deepseek');
    const indices = tensors['out.indices_sorted'];
    expect(indices).toMatchObject({ dtype: 'I32', shape: [8, 2] });
    expect(indices.data.slice(0, 4)).toEqual(Int32Array.of(0, 3, 0, 3));
    const dense = new Float32Array(32);
    const weights = toFloat32(tensors['out.weights_sorted_by_index']);
    weights.forEach((value, i) => (dense[(i >>> 1) * 4 + Number(indices.data[i])] = value));
    expect(dense).toEqual(toFloat32(tensors['out.dense']));
  });

  test('written again they read the same', async () => {
    for (const name of ['causal-conv1d', 'moe-router-deepseek']) {
      const { tensors, metadata } = await golden(name);
      const back = readSafetensors(writeSafetensors(tensors, { metadata }));
      expectSame(back.tensors, tensors);
      expect(back.metadata).toEqual(metadata);
    }
  });
});
