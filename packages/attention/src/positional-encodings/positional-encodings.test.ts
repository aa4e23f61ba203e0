import * as tf from '@tensorflow/tfjs-core';
import { setupBackend } from '@seqloom/core';
import { array64, expectCloseTo, failOnLeaks, randomTensor, uniform64 } from '@seqloom/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { LearnedPositions, sinusoidalPositions } from './absolute.ts';
import { alibiSlopes } from './alibi.ts';
import { naiveAlibiSlopes, naiveFrequencies, naiveRotate, naiveSinusoid, naiveXposFactor } from './naive.ts';
import { rotaryEmbedding } from './parallel.ts';
import { computedAngles, rotaryAngles } from './rotary-angles.ts';
import { rotaryFrequencies } from './rotary-frequencies.ts';

describe.each(['cpu', 'wasm'] as const)('positional encodings on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });
  failOnLeaks();

  it('rotary equals its naive form: partial, interleaved, positions per row up to a million', async () => {
    const [D, R] = [6, 4];
    const positions = [
      [0, 3, 999_999],
      [7, 1024, 123_456],
    ];
    const x = uniform64([2, 3, 1, D], 5);
    for (const interleaved of [false, true]) {
      const wanted = positions.flatMap((row, b) =>
        row.flatMap((position, t) => {
          const start = (b * 3 + t) * D;
          return naiveRotate([...x.data.subarray(start, start + D)], position, naiveFrequencies(R), interleaved);
        }),
      );
      const query = randomTensor([2, 3, 1, D], 5);
      const given = tf.tidy(() => rotaryEmbedding({ query, key: query, positions: tf.tensor2d(positions) }, { dims: R, interleaved }));
      await expectCloseTo(given.query, array64([2, 3, 1, D], wanted), 2e-6, 'rotated');
      tf.dispose([query, given.query, given.key]);
    }
  });

  it('angles computed on the backend equal those tabled on the host, up to a million', async () => {
    const frequencies = rotaryFrequencies(16, 1e4, { type: 'yarn', factor: 4, originalLength: 64 });
    const positions = tf.tensor2d([
      [0, 1, 1023, 1024],
      [12_345, 99_999, 654_321, 1_048_575],
    ]);
    const [tabled, computed] = [rotaryAngles(positions, frequencies), computedAngles(positions, frequencies)];
    for (const name of ['cos', 'sin'] as const) {
      const wanted = [...(await tabled[name].data())];
      await expectCloseTo(computed[name], array64([2, 4, 8], wanted), 2e-6, name);
    }
    const rows = rotaryAngles(positions, frequencies);
    expect(rows.cos.shape).toEqual([2, 4, 8]);
    const twice = tf.tensor2d([
      [3, 4],
      [3, 4],
    ]);
    const same = rotaryAngles(twice, frequencies);
    expect(same.cos.shape).toEqual([1, 2, 8]);
    tf.dispose([positions, twice, tabled, computed, rows, same] as unknown as tf.TensorContainer);
  });

  it('xPos equals rotation times its factor, and its scores depend on the distance alone', async () => {
    const D = 4;
    const [query, key] = [randomTensor([1, 1, 1, D], 1), randomTensor([1, 1, 1, D], 2)];
    const score = (m: number, n: number): number =>
      tf.tidy(() => {
        const at = (start: number) => rotaryEmbedding({ query, key, positions: { start, length: 1 } }, { interleaved: true, xpos: {} });
        return tf.sum(tf.mul(at(m).query, at(n).key)).dataSync()[0]!;
      });
    expect(score(9, 4)).toBeCloseTo(score(1009, 1004), 5);
    expect(score(9, 4)).not.toBeCloseTo(score(9, 8), 3);
    const rotated = naiveRotate([...query.dataSync()], 700, naiveFrequencies(D), true);
    const wanted = rotated.map((value, c) => value * naiveXposFactor(c >> 1, D, 700));
    const given = tf.tidy(() => rotaryEmbedding({ query, key, positions: tf.tensor2d([[700]]) }, { interleaved: true, xpos: {} }).query);
    await expectCloseTo(given, array64([1, 1, 1, D], wanted), 2e-6, 'xPos query');
    tf.dispose([query, key, given]);
  });

  it('sinusoids equal their naive form, learned positions their rows', async () => {
    const given = sinusoidalPositions({ start: 5, length: 2 }, 6);
    await expectCloseTo(given, array64([1, 2, 6], [...naiveSinusoid(5, 6), ...naiveSinusoid(6, 6)]), 1e-6, 'sinusoids');
    given.dispose();
    const learned = new LearnedPositions({ maxLength: 8, dim: 3 });
    const run = learned.forward({ start: 6, length: 2 });
    const ids = tf.tensor2d([[6, 7]]);
    const picked = learned.forward(ids);
    expect([...run.dataSync()]).toEqual([...learned.table.weight.value.dataSync()].slice(18));
    expect([...picked.dataSync()]).toEqual([...run.dataSync()]);
    expect(() => learned.forward({ start: 7, length: 2 })).toThrow(/positions must be within \[0, 8\)/);
    tf.dispose([run, ids, picked]);
    learned.dispose();
  });
});

describe('frequencies and slopes', () => {
  it('factor 1 changes nothing', () => {
    const plain = [...rotaryFrequencies(16).frequencies];
    const scalings = [
      { type: 'linear', factor: 1 },
      { type: 'ntk', factor: 1 },
      { type: 'dynamic-ntk', factor: 1, originalLength: 64, length: 64 },
      { type: 'yarn', factor: 1, originalLength: 64 },
      { type: 'llama3', factor: 1, originalLength: 64 },
    ] as const;
    for (const scaling of scalings) {
      const { frequencies, magnitude } = rotaryFrequencies(16, 1e4, scaling);
      expect([...frequencies]).toEqual(plain);
      expect(magnitude).toBe(1);
    }
    expect(plain).toEqual(naiveFrequencies(16));
  });

  it('YaRN and Llama 3 keep the fastest pairs, interpolate the slowest and lie between for the rest', () => {
    const plain = rotaryFrequencies(64).frequencies;
    for (const type of ['yarn', 'llama3'] as const) {
      const { frequencies, magnitude } = rotaryFrequencies(64, 1e4, { type, factor: 8, originalLength: 2048 });
      expect(frequencies[0]).toBe(plain[0]);
      expect(frequencies[31]).toBeCloseTo(plain[31]! / 8, 12);
      frequencies.forEach((theta, r) => {
        expect(theta).toBeLessThanOrEqual(plain[r]!);
        expect(theta).toBeGreaterThanOrEqual(plain[r]! / 8 - 1e-15);
      });
      expect(magnitude).toBeCloseTo(type === 'yarn' ? 0.1 * Math.log(8) + 1 : 1, 12);
    }
  });

  it('NTK keeps the fastest pair and interpolates the slowest', () => {
    const { frequencies } = rotaryFrequencies(16, 1e4, { type: 'ntk', factor: 4 });
    expect(frequencies[0]).toBe(1);
    expect(frequencies[7]).toBeCloseTo(naiveFrequencies(16)[7]! / 4, 12);
    const grown = rotaryFrequencies(16, 1e4, { type: 'dynamic-ntk', factor: 1, originalLength: 64, length: 256 });
    expect([...grown.frequencies]).toEqual([...frequencies]);
  });

  it('linear divides every frequency, Llama 3 goes by wavelength', () => {
    const plain = naiveFrequencies(64, 5e5);
    const linear = rotaryFrequencies(64, 5e5, { type: 'linear', factor: 4 });
    expect([...linear.frequencies]).toEqual(plain.map((theta) => theta / 4));
    const [factor, low, high, originalLength] = [32, 1, 4, 8192];
    const llama = rotaryFrequencies(64, 5e5, {
      type: 'llama3',
      factor,
      originalLength,
      lowFrequencyFactor: low,
      highFrequencyFactor: high,
    });
    const kinds = new Set<string>();
    plain.forEach((theta, r) => {
      const wavelength = (2 * Math.PI) / theta;
      const s = (originalLength / wavelength - low) / (high - low);
      const kind = wavelength < originalLength / high ? 'kept' : wavelength > originalLength / low ? 'divided' : 'between';
      const wanted = kind === 'kept' ? theta : kind === 'divided' ? theta / factor : ((1 - s) * theta) / factor + s * theta;
      kinds.add(kind);
      expect(llama.frequencies[r]! / wanted).toBeCloseTo(1, 12);
    });
    expect(kinds.size).toBe(3);
  });

  it("Hymba's ntk is the dynamic one of factor 2 at its greatest length", () => {
    const { frequencies } = rotaryFrequencies(64, 1e4, { type: 'dynamic-ntk', factor: 2, originalLength: 2048, length: 8192 });
    const base = 1e4 * ((2 * 8192) / 2048 - 1) ** (64 / 62);
    naiveFrequencies(64, base).forEach((theta, r) => expect(frequencies[r]! / theta).toBeCloseTo(1, 12));
  });

  it('YaRN without truncation keeps the bounds of its ramp as they are', () => {
    const [dims, base, factor, originalLength] = [64, 150000, 32, 4096];
    const bound = (turns: number): number => (dims * Math.log(originalLength / (2 * Math.PI * turns))) / (2 * Math.log(base));
    const { frequencies } = rotaryFrequencies(dims, base, { type: 'yarn', factor, originalLength, truncate: false });
    naiveFrequencies(dims, base).forEach((theta, r) => {
      const ramp = Math.min(Math.max((r - bound(32)) / (bound(1) - bound(32)), 0), 1);
      expect(frequencies[r]! / (theta * (1 - ramp) + (theta / factor) * ramp)).toBeCloseTo(1, 12);
    });
  });

  it('slopes follow the powers rule, and the doubled list where heads are no power of two', () => {
    expect([...alibiSlopes(8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((n) => 2 ** -n));
    expect(new Set(alibiSlopes(12)).size).toBe(12);
    for (const heads of [1, 3, 6, 12, 20]) expect([...alibiSlopes(heads)]).toEqual(naiveAlibiSlopes(heads).map(Math.fround));
  });

  it('refuses what does not fit', () => {
    expect(() => rotaryFrequencies(5)).toThrow(/dims must be an even whole number/);
    expect(() => rotaryFrequencies(4, 0)).toThrow(/base must be above 0/);
    expect(() => rotaryFrequencies(4, 10, { type: 'linear', factor: 0 })).toThrow(/scaling.factor must be above 0/);
    expect(() => alibiSlopes(0)).toThrow(/heads must be a whole number/);
    tf.tidy(() => {
      const query = tf.zeros([1, 1, 1, 2]);
      const call = (): unknown => rotaryEmbedding({ query, key: query, positions: { start: 0, length: 1 } }, { dims: 4 });
      expect(call).toThrow(/options.dims must be at most the head width 2/);
      expect(rotaryAngles({ start: 0, length: 1 }, rotaryFrequencies(2)).cos.shape).toEqual([1, 1, 1]);
    });
  });
});
