import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { registerGradients } from '../gradient/index.ts';
import { Mlp, tidyLosses } from './channel-mixer.ts';
import type { LossSink } from './channel-mixer.ts';

beforeAll(async () => {
  await tf.setBackend('cpu');
  registerGradients();
});

describe('a feed-forward layer', () => {
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
  // at -2, -0.5, 1 and 3; x times the normal distribution function, and its approximation, to seven digits
  const wanted = {
    silu: [-2, -0.5, 1, 3].map((x) => x * sigmoid(x)),
    gelu: [-0.0455003, -0.1542688, 0.8413447, 2.9959502],
    'gelu-tanh': [-0.0454023, -0.154286, 0.841192, 2.9963627],
    relu: [0, 0, 1, 3],
    none: [-2, -0.5, 1, 3],
  } as const;

  it.each(Object.keys(wanted) as (keyof typeof wanted)[])('has the activation %s', (activation) => {
    const layer = new Mlp({ dim: 1, hidden: 1, gated: false, activation });
    tf.tidy(() => {
      for (const { weight } of [layer.up, layer.down]) weight.assign(tf.ones([1, 1]));
      const given = layer.forward(tf.tensor3d([-2, -0.5, 1, 3], [1, 4, 1])).dataSync();
      given.forEach((value, at) => expect(value).toBeCloseTo(wanted[activation][at]!, 6));
      const slope = tf
        .grad((x) => layer.forward(x as tf.Tensor3D))(tf.tensor3d([0.3], [1, 1, 1]))
        .dataSync()[0]!;
      const at = (x: number): number => layer.forward(tf.tensor3d([x], [1, 1, 1])).dataSync()[0]!;
      expect(slope).toBeCloseTo((at(0.31) - at(0.29)) / 0.02, 3);
    });
    layer.dispose();
  });
});

describe('losses of a scope', () => {
  it('live on with its result, and nothing else does', () => {
    const before = tf.memory().numTensors;
    const added: tf.Scalar[] = [];
    const sink: LossSink = { add: (_name, value) => void added.push(value) };
    const result = tidyLosses(sink, (losses) => {
      const x = tf.scalar(2);
      losses!.add('balance', tf.mul(x, x));
      return tf.mul(x, 5);
    });
    expect([result, ...added].map((value) => value.dataSync()[0])).toEqual([10, 4]);
    expect(tf.memory().numTensors).toBe(before + 2);
    tf.dispose([result, added]);
    const alone = tidyLosses(undefined, (losses) => {
      expect(losses).toBeUndefined();
      return tf.scalar(1);
    });
    alone.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
});
