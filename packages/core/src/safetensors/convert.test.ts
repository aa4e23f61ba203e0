import { describe, expect, test } from 'vitest';
import { SeqLoomError } from '../error.ts';
import { encodeBf16, encodeF16, encodeNumbers, toFloat32, toFloat64, toInt32 } from './convert.ts';

const PATTERNS = Uint16Array.from({ length: 65_536 }, (_, i) => i);

// the definition of a binary format, in plain arithmetic
function meaning(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >>> 15 ? -1 : 1;
  const exponent = (bits >>> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

// nearest value of all patterns by search, ties to the even pattern
function nearest(value: number, table: Float64Array, infinity: number): number {
  const size = Math.abs(value);
  let low = 0;
  let high = infinity;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (table[middle] <= size) low = middle;
    else high = middle;
  }
  // infinity stands where the next finite value would
  const above = high === infinity ? 2 * table[infinity - 1] - table[infinity - 2] : table[high];
  const down = size - table[low];
  const up = above - size;
  const bits = down < up || (down === up && low % 2 === 0) ? low : high;
  return bits | (Object.is(Math.sign(value), -0) || value < 0 ? 0x8000 : 0);
}

describe.each([
  { dtype: 'F16' as const, exponentBits: 5, fractionBits: 10, encode: encodeF16, infinity: 0x7c00, quiet: 0x200 },
  { dtype: 'BF16' as const, exponentBits: 8, fractionBits: 7, encode: encodeBf16, infinity: 0x7f80, quiet: 0x40 },
])('$dtype', ({ dtype, exponentBits, fractionBits, encode, infinity, quiet }) => {
  const table = Float64Array.from(PATTERNS, (bits) => meaning(bits, exponentBits, fractionBits));

  test('all 65536 patterns are read exactly: subnormals, both zeros, infinities, NaN with its payload', () => {
    const tensor = { dtype, shape: [65_536], data: PATTERNS };
    const single = toFloat32(tensor);
    const double = toFloat64(tensor);
    const words = new Uint32Array(single.buffer, single.byteOffset, single.length);
    for (const bits of PATTERNS) {
      if (!Object.is(single[bits], table[bits]) || !Object.is(double[bits], table[bits])) expect.fail(`${bits}: ${single[bits]}`);
      if (Number.isNaN(table[bits])) {
        expect((words[bits] >>> (23 - fractionBits)) & (2 ** fractionBits - 1)).toBe(bits & (2 ** fractionBits - 1));
        expect(words[bits] >>> 31).toBe(bits >>> 15);
      }
    }
  });

  test('all patterns are written back as they were; NaN stays NaN', () => {
    for (const values of [toFloat32({ dtype, shape: [65_536], data: PATTERNS }), table]) {
      const back = encodeNumbers(values, dtype, 'x');
      for (const bits of PATTERNS) {
        const right = Number.isNaN(table[bits]) ? (Number(back[bits]) & (infinity | quiet)) === (infinity | quiet) : back[bits] === bits;
        if (!right) expect.fail(`${bits} became ${back[bits]}`);
      }
    }
  });

  test('every midpoint, and the doubles just beside it, round to nearest with ties to even', () => {
    for (let bits = 0; bits < infinity; bits++) {
      const above = bits + 1 === infinity ? 2 * table[bits] - table[bits - 1] : table[bits + 1];
      const middle = (table[bits] + above) / 2;
      const beside = middle * 2 ** -52;
      const even = bits % 2 === 0 ? bits : bits + 1;
      if (encode(middle) !== even || encode(-middle) !== (even | 0x8000)) expect.fail(`${bits} at the midpoint`);
      // one double away from the tie: a detour over float32 would fall back onto it
      if (encode(middle + beside) !== bits + 1 || encode(middle - beside) !== bits) expect.fail(`${bits} beside the midpoint`);
    }
  });

  test('ties among float32 numbers go to the even pattern', () => {
    const middles = Float32Array.from({ length: infinity - 1 }, (_, bits) => (table[bits] + table[bits + 1]) / 2);
    const back = encodeNumbers(middles, dtype, 'x');
    middles.forEach((middle, bits) => {
      if (back[bits] !== (bits % 2 === 0 ? bits : bits + 1)) expect.fail(`${middle} became ${back[bits]}`);
    });
  });

  test('random numbers over the whole range go to the nearest value, from float32 and float64', () => {
    let seed = 12_345;
    const random = (): number => (seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
    const values = Array.from({ length: 20_000 }, () => (random() - 0.5) * 2 ** ((random() - 0.5) * 300));
    const stored = encodeNumbers(values, dtype, 'x');
    values.forEach((value, i) => expect(stored[i]).toBe(nearest(value, table, infinity)));
    const singles = Float32Array.from(values).filter((value) => Number.isFinite(value));
    const narrow = encodeNumbers(singles, dtype, 'x');
    singles.forEach((value, i) => expect(narrow[i]).toBe(nearest(value, table, infinity)));
  });

  test('zeros keep their sign, the smallest and the largest numbers end at zero and infinity', () => {
    expect(encode(-0)).toBe(0x8000);
    expect(encode(Number.MIN_VALUE)).toBe(0);
    expect(encode(-Number.MAX_VALUE)).toBe(0x8000 | infinity);
    expect(encode(Infinity)).toBe(infinity);
    expect(encode(NaN) & 0x7fff).toBe(infinity | quiet);
  });
});

test('f16 overflows from 65520 on', () => {
  expect(encodeF16(65_519.999)).toBe(0x7bff);
  expect(encodeF16(65_520)).toBe(0x7c00);
});

test('f32 and f64 are returned as they are, f64 to f32 rounds once', () => {
  const single = new Float32Array([1, 2]);
  const double = new Float64Array([0.1, 1e300]);
  expect(toFloat32({ dtype: 'F32', shape: [2], data: single })).toBe(single);
  expect(toFloat64({ dtype: 'F64', shape: [2], data: double })).toBe(double);
  expect([...toFloat32({ dtype: 'F64', shape: [2], data: double })]).toEqual([Math.fround(0.1), Infinity]);
});

test('64-bit integers become numbers only within ±(2^53 - 1)', () => {
  const edge = BigInt64Array.of(9_007_199_254_740_991n, -9_007_199_254_740_991n, 0n);
  expect([...toFloat64({ dtype: 'I64', shape: [3], data: edge })]).toEqual([9_007_199_254_740_991, -9_007_199_254_740_991, 0]);
  const beyond = { dtype: 'I64' as const, shape: [2], data: BigInt64Array.of(1n, 2n ** 53n) };
  expect(() => toFloat64(beyond)).toThrow(/element 1 must be within .* got 9007199254740992/);
  expect(() => toFloat32(beyond)).toThrow(SeqLoomError);
  expect(() => toFloat64({ dtype: 'U64', shape: [1], data: BigUint64Array.of(2n ** 64n - 1n) })).toThrow(SeqLoomError);
});

test('int32 is exact or refused', () => {
  expect([...toInt32({ dtype: 'I64', shape: [2], data: BigInt64Array.of(-5n, 2_147_483_647n) })]).toEqual([-5, 2_147_483_647]);
  expect([...toInt32({ dtype: 'BOOL', shape: [2], data: Uint8Array.of(0, 1) })]).toEqual([0, 1]);
  expect(() => toInt32({ dtype: 'I64', shape: [1], data: BigInt64Array.of(2n ** 31n) })).toThrow(SeqLoomError);
  expect(() => toInt32({ dtype: 'F32', shape: [1], data: Float32Array.of(0.5) })).toThrow(SeqLoomError);
});

test.each([
  ['I8', 128],
  ['U8', -1],
  ['U8', 1.5],
  ['U16', 65_536],
  ['I16', -32_769],
  ['I32', 2 ** 31],
  ['U32', -1],
  ['I64', 2 ** 53],
  ['U64', -1],
  ['I32', NaN],
  ['BOOL', 2],
] as const)('%s refuses %d', (dtype, value) => {
  expect(() => encodeNumbers([value], dtype, 'x')).toThrow(/x element 0 must be a whole number from/);
});

test('a tensor whose data is not of its dtype is refused', () => {
  expect(() => toFloat32({ dtype: 'F16', shape: [1], data: new Float32Array(1) } as never)).toThrow(/got dtype "F16" with Float32Array/);
  expect(() => toFloat32(undefined as never)).toThrow(SeqLoomError);
  expect(() => toInt32({ dtype: 'F8', shape: [1], data: new Uint8Array(1) } as never)).toThrow(SeqLoomError);
});
