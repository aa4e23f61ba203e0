import * as tf from '@tensorflow/tfjs-core';
import { fail, setupBackend } from '@seqloom/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { array64, uniform64 } from '../oracle/array64.ts';
import type { Array64, Arrays64 } from '../oracle/array64.ts';
import { checkFormGradients, checkFormOutputs, checkHardCase } from './form-parity.ts';
import { checkCoverage, checkOpLeaks, opLaws } from './op-laws.ts';
import type { OpSubject, OpTensors } from './op-subject.ts';
import { toyCard } from './toy-mixer.ts';

/** h_t = sigmoid(g_t) h_{t-1} + x_t over [B, T, C], in double precision. */
function naive(inputs: Arrays64): Arrays64 {
  const [input, gate, start] = [inputs.input!, inputs.gate!, inputs.state!];
  const [batch, length, width] = input.shape as [number, number, number];
  const output = array64([batch, length, width]);
  const state: Array64 = array64([batch, width], start.data);
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      for (let c = 0; c < width; c++) {
        const i = (b * length + t) * width + c;
        const h = state.data[b * width + c]! / (1 + Math.exp(-gate.data[i]!)) + input.data[i]!;
        state.data[b * width + c] = h;
        output.data[i] = h;
      }
    }
  }
  return { output, state };
}

function recurrent(inputs: OpTensors): Record<string, tf.Tensor> {
  return tf.tidy(() => {
    const { input, gate, state } = inputs as Record<string, tf.Tensor>;
    if (input!.rank !== 3) {
      fail({ mechanism: 'toy-average', argument: 'input', wanted: '[B, T, C]', given: `rank ${input!.rank}`, remedy: 'Reshape it.' });
    }
    let h = state!;
    const [inputSteps, decays] = [tf.unstack(input!, 1), tf.unstack(tf.sigmoid(gate!), 1)];
    const outputs = inputSteps.map((step, t) => (h = tf.add(tf.mul(decays[t]!, h), step)));
    return { output: tf.stack(outputs, 1), state: tf.clone(h) };
  });
}

/** y = exp(G) (h0 + sum exp(-G) x), one division per token: right only while the gates are mild. */
function parallel(inputs: OpTensors): Record<string, tf.Tensor> {
  return tf.tidy(() => {
    const { input, gate, state } = inputs as Record<string, tf.Tensor>;
    const length = input!.shape[1]!;
    const total = tf.cumsum(tf.neg(tf.softplus(tf.neg(gate!))), 1);
    const lower = tf.reshape(tf.linalg.bandPart(tf.ones([length, length]), -1, 0), [1, length, length, 1]);
    const gaps = tf.sub(tf.expandDims(total, 2), tf.expandDims(total, 1)); // [B, T, S, C]
    const weights = tf.mul(tf.exp(tf.mul(gaps, lower)), lower);
    const sums = tf.sum(tf.mul(weights, tf.expandDims(input!, 1)), 2);
    const output = tf.add(sums, tf.mul(tf.exp(total), tf.expandDims(state!, 1)));
    return { output, state: tf.squeeze(tf.slice(output, [0, length - 1, 0], [-1, 1, -1]), [1]) };
  });
}

const inputs = (length: number, seed: number): Arrays64 => ({
  input: uniform64([2, length, 3], seed),
  gate: uniform64([2, length, 3], seed + 1, -2, 3),
  state: uniform64([2, 3], seed + 2),
});

const subject: OpSubject = {
  card: { ...toyCard, forms: ['naive', 'recurrent', 'parallel'], degenerate: ['with open gates it is a running sum'] },
  naive,
  forms: { recurrent, parallel },
  inputs,
  gradients: ['input', 'gate', 'state'],
  lengths: [1, 7, 33],
  hard: [{ title: 'gates of 100 and -100', inputs: () => ({ ...inputs(9, 3), gate: uniform64([2, 9, 3], 4, -100, 100) }) }],
  degenerate: [
    {
      title: 'with open gates it is a running sum',
      run: async () => {
        const x = tf.randomUniform([1, 5, 2], -1, 1, 'float32', 3);
        const result = recurrent({ input: x, gate: tf.mul(tf.ones([1, 5, 2]), 40), state: tf.zeros([1, 2]) });
        expect(await tf.max(tf.abs(tf.sub(result.output!, tf.cumsum(x, 1)))).data()).toEqual(Float32Array.of(0));
      },
    },
  ],
  badInputs: [{ title: 'an input without rank', argument: 'input', call: () => recurrent({ input: { rank: 1 } as tf.Tensor }) }],
};

opLaws(subject);

describe('an op that breaks a law fails that law', () => {
  beforeAll(async () => {
    await setupBackend('wasm');
  });

  const wrong = (run: (given: OpTensors) => Record<string, tf.Tensor>, rest: Partial<OpSubject> = {}): OpSubject => ({
    ...subject,
    ...rest,
    forms: { recurrent: run },
  });
  const doubled = tf.customGrad((x: tf.Tensor | tf.GradSaveFunc) => ({
    value: tf.clone(x as tf.Tensor),
    gradFunc: (dy: tf.Tensor) => tf.mul(dy, 1.001),
  }));

  it('by outputs that are off by one in ten thousand', async () => {
    const off = wrong((given) => tf.tidy(() => ({ ...recurrent(given), output: tf.mul(recurrent(given).output!, 1.0001) })));
    await expect(checkFormOutputs(off, 'recurrent')).rejects.toThrow(/T = 1: output: relative RMS error 1\.0\de-4/);
    await expect(checkFormOutputs(subject, 'recurrent')).resolves.toBeUndefined();
  });

  it('by a wrong final state', async () => {
    const off = wrong((given) => tf.tidy(() => ({ ...recurrent(given), state: tf.clone(given.state!) })));
    await expect(checkFormOutputs(off, 'recurrent')).rejects.toThrow(/T = 7: state/);
  });

  it('by gradients that are off by one in a thousand', async () => {
    const off = wrong((given) => recurrent({ ...given, gate: doubled(given.gate!) }));
    await expect(checkFormGradients(off, 'recurrent')).rejects.toThrow(/T = 7: gradient of gate along a random direction/);
  });

  it('by a gradient that is missing', async () => {
    const off = wrong((given) => tf.tidy(() => recurrent({ ...given, gate: tf.zeros(given.gate!.shape) })));
    await expect(checkFormGradients(off, 'recurrent')).rejects.toThrow(/gradient of gate is missing/);
  });

  it('by numbers that overflow at hard gates', async () => {
    const off = wrong((given) => tf.tidy(() => recurrent({ ...given, gate: tf.log(tf.exp(given.gate!)) })));
    await expect(checkHardCase(off, 'recurrent', subject.hard![0]!)).rejects.toThrow(/gates of 100/);
  });

  it('by leaking, by returning an input, by changing one', async () => {
    const leaks = wrong((given) => ({ ...recurrent(given), state: tf.add(recurrent(given).state!, 0) }));
    await expect(checkOpLeaks(leaks, 'recurrent')).rejects.toThrow(/made \d+ tensors more than it returned/);
    const returns = wrong((given) => ({ ...recurrent(given), echo: given.input! }));
    await expect(checkOpLeaks(returns, 'recurrent')).rejects.toThrow(/returned one of its inputs/);
  });

  it('by a form or a degenerate equality of the card that is not tested', () => {
    expect(() => checkCoverage({ ...subject, forms: { recurrent } })).toThrow(/the card's forms parallel are not tested/);
    expect(() => checkCoverage({ ...subject, degenerate: [] })).toThrow(/1 degenerate equalities, 0 are tested/);
  });
});
