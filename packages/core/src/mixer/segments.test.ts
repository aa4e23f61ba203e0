import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { registerGradients } from '../gradient/index.ts';
import { GatedConvolution } from './gated-convolution.ts';
import { planSegments } from './segments.ts';

beforeAll(async () => {
  await tf.setBackend('cpu');
  registerGradients();
});

describe('packed segments', () => {
  it('share a group with others of about their length, so that little is padding', () => {
    const row = [1, 2, 3, 4].flatMap((id) => Array<number>(id === 4 ? 100 : 20).fill(id));
    const { groups } = planSegments('toy', [row], 1, row.length, false);
    expect(groups.map(({ length, segments }) => [length, segments.length])).toEqual([
      [20, 3],
      [100, 1],
    ]);
    const computed = groups.reduce((sum, { length, segments }) => sum + length * segments.length, 0);
    expect(computed).toBe(row.length);
  });

  it('only the first segment of a row goes on from a state', () => {
    const { groups } = planSegments(
      'toy',
      [
        [0, 5, 5, 2],
        [3, 3, 3, 3],
      ],
      2,
      4,
      true,
    );
    const starts = (continues: boolean) =>
      groups.filter((group) => group.continues === continues).flatMap(({ segments }) => segments.map(({ row, start }) => [row, start]));
    expect(starts(true)).toEqual([
      [0, 1],
      [1, 0],
    ]);
    expect(starts(false)).toEqual([[0, 3]]);
  });

  it('gradients stay within a segment, also of parameters', () => {
    const layer = new GatedConvolution({ dim: 2, seed: 1 });
    tf.tidy(() => {
      const x = tf.randomNormal([1, 6, 2], 0, 1, 'float32', 3) as tf.Tensor3D;
      const rows = tf.tensor3d([
        [
          [1, 1],
          [1, 1],
          [1, 1],
          [0, 0],
          [0, 0],
          [0, 0],
        ],
      ]);
      const loss = (input: tf.Tensor, segmentIds?: number[][]): tf.Scalar =>
        tf.sum(tf.mul(layer.forward(input, segmentIds ? { segmentIds } : {}).output, tf.slice(rows, 0, [1, input.shape[1]!, 2])));
      const packed = tf
        .grad((input: tf.Tensor) => loss(input, [[1, 1, 1, 2, 2, 2]]))(x)
        .dataSync();
      const alone = tf
        .grad((input: tf.Tensor) => loss(input))(tf.slice(x, [0, 0, 0], [1, 3, 2]))
        .dataSync();
      expect([...packed.slice(0, 6)]).toEqual([...alone]);
      expect([...packed.slice(6)]).toEqual([0, 0, 0, 0, 0, 0]);
    });
    layer.dispose();
  });

  it.each([
    ['rows missing', [[1, 1]], /2 arrays of 2 numbers/],
    ['a row too short', [[1, 1], [1]], /2 arrays of 2 numbers/],
    [
      'an id that comes back',
      [
        [1, 1],
        [1, 1],
      ].map(() => [2, 3, 2]),
      /id 2 again at token 2 of row 0/,
    ],
    [
      'half an id',
      [
        [0.5, 1],
        [1, 1],
      ],
      /whole numbers from 0/,
    ],
  ])('%s is refused before any work', (_what, ids, message) => {
    const length = ids.length === 2 && ids[0]!.length === 3 ? 3 : 2;
    const layer = new GatedConvolution({ dim: 2 });
    const x = tf.zeros([2, length, 2]);
    const before = tf.memory().numTensors;
    expect(() => layer.forward(x, { segmentIds: ids })).toThrow(message);
    expect(tf.memory().numTensors).toBe(before);
    tf.dispose(x);
    layer.dispose();
  });

  it('a mask beside segments is refused, with its remedy', () => {
    const layer = new GatedConvolution({ dim: 2 });
    tf.tidy(() => {
      expect(() => layer.forward(tf.zeros([1, 2, 2]), { segmentIds: [[1, 0]], mask: tf.ones([1, 2]) })).toThrow(/segment 0/);
    });
    layer.dispose();
  });
});
