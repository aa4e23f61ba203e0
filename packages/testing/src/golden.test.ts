import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { setupBackend, writeSafetensors } from '@seqloom/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goldenSuite, readGolden, runGolden } from './golden.ts';
import type { GoldenSubject } from './golden.ts';

// y = w * x^2, n = number of tokens; loss = sum(y * c): dx = 2 w x c, dw = sum(x^2 c)
const folder = mkdtempSync(join(tmpdir(), 'golden-'));
const [x, w, c] = [
  [1, -2, 3],
  [0.5, 2, -1],
  [1, 0.25, -0.5],
];
const f32 = (data: number[]): { dtype: 'F32'; shape: number[]; data: Float32Array } => ({
  dtype: 'F32',
  shape: [data.length],
  data: Float32Array.from(data),
});
writeFileSync(
  join(folder, 'tiny.safetensors'),
  writeSafetensors(
    {
      'in.x': f32(x!),
      'in.ids': { dtype: 'I32', shape: [1], data: Int32Array.of(7) },
      'param.w.weight': f32(w!),
      'buffer.scale': f32([1]),
      'out.y': f32(x!.map((v, i) => w![i]! * v * v)),
      'out.lse': f32([-Infinity]),
      'cot.y': f32(c!),
      'grad.x': f32(x!.map((v, i) => 2 * w![i]! * v * c![i]!)),
      'grad.w.weight': f32(x!.map((v, i) => v * v * c![i]!)),
    },
    { metadata: { op: 'square', case: 'tiny', loss_terms: 'y', config: '{"B": 1}' } },
  ),
);

const subject: GoldenSubject = {
  op: 'square',
  folder,
  run: ({ inputs, parameters }) => ({
    y: tf.mul(parameters['w.weight']!, tf.square(inputs.x!)),
    lse: tf.tensor1d([-Infinity]),
  }),
};

afterAll(() => {
  rmSync(folder, { recursive: true });
});

goldenSuite(subject);

describe('golden files', () => {
  beforeAll(async () => {
    await setupBackend('cpu');
  });
  const golden = readGolden(join(folder, 'tiny.safetensors'));

  it('are read into their parts', () => {
    expect(golden).toMatchObject({ op: 'square', name: 'tiny', lossTerms: ['y'], config: { B: 1 } });
    expect(Object.keys(golden.inputs)).toEqual(['ids', 'x']);
    expect([...golden.inputs.ids!.data]).toEqual([7]);
    expect(Object.keys(golden.gradients).toSorted()).toEqual(['w.weight', 'x']);
  });

  it('catch outputs, gradients and names that are wrong, and leak nothing', async () => {
    const before = tf.memory().numTensors;
    const good = await runGolden(subject, golden);
    expect(good.faults).toEqual([]);
    expect(good.forward.error).toBeLessThan(1e-6);
    const off = await runGolden(
      { ...subject, run: (given, one) => ({ ...subject.run(given, one), y: tf.mul(subject.run(given, one).y!, 1.0001) }) },
      golden,
    );
    expect(off.faults.join('\n')).toMatch(/output y: relative RMS error 1\.00e-4/);
    const gradient = tf.customGrad((v: tf.Tensor | tf.GradSaveFunc) => ({
      value: tf.clone(v as tf.Tensor),
      gradFunc: (dy: tf.Tensor) => tf.mul(dy, 1.01),
    }));
    const wrong = await runGolden(
      { ...subject, run: (given, one) => ({ ...subject.run(given, one), y: gradient(subject.run(given, one).y!) }) },
      golden,
    );
    expect(wrong.faults.join('\n')).toMatch(/gradient of x: relative RMS error 1\.00e-2/);
    const missing = await runGolden({ ...subject, run: (given) => ({ y: subject.run(given, golden).y! }) }, golden);
    expect(missing.faults).toEqual(['output lse is missing']);
    expect(tf.memory().numTensors).toBe(before);
  });
});
