import { setupBackend, softmaxAttention, tidy } from '@seqloom/core';
import { readGolden } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { chooseBlocks } from './choose-blocks.ts';
import { meanCompression } from './compression.ts';

describe.each(['cpu', 'wasm'] as const)('the choice of blocks on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  const settings = { initialBlocks: 1, localBlocks: 2, window: 0, compressKey: meanCompression, compressValue: meanCompression };

  it.each(['tiny', 'medium', 'hard', 'window'])('is that of the original, as sets, case %s', async (name) => {
    const golden = readGolden(new URL(`../../golden/native-sparse-attention/nsa/${name}.safetensors`, import.meta.url));
    const size = golden.config['block_size'] as number;
    const selected = golden.config['block_counts'] as number;
    const chosen = tidy(() => {
      const [query, key] = ['q', 'k'].map((input) => tf.tensor(golden.inputs[input]!.data, [...golden.inputs[input]!.shape])) as [
        tf.Tensor,
        tf.Tensor,
      ];
      const [batch, length, groups, width] = key.shape as [number, number, number, number];
      const count = Math.floor(length / size);
      const whole = tf.slice(key, [0, 0, 0, 0], [batch, count * size, groups, width]);
      const compressedKey = tf.mean(tf.reshape(whole, [batch, count, size, groups, width]), 2);
      const ends = tf.add(tf.mul(tf.range(0, count), size), size - 1);
      const { logSumExp } = softmaxAttention(
        {
          query,
          key: compressedKey,
          value: compressedKey,
          keyPositions: tf.add(tf.zeros([batch, 1]), ends),
          queryPositions: tf.add(tf.zeros([batch, 1]), tf.range(0, length)),
        },
        { causal: true },
      );
      const sizes = { compressionLength: size, compressionStride: size, selectionBlock: size, selected, scale: width ** -0.5 };
      const positions = tf.reshape(tf.range(0, length), [1, length]);
      const blocks = chooseBlocks({ query, compressedKey, logSumExp }, positions, length, { batch, groups }, { ...settings, ...sizes });
      return tf.transpose(blocks, [0, 2, 1, 3]); // [B, T, G, n]
    });
    const wanted = golden.outputs['block_indices']!;
    const given = await chosen.data();
    const [many, found] = [wanted.shape[3]!, chosen.shape[3]!];
    for (let row = 0; row < given.length / found; row++) {
      const set = (list: ArrayLike<number>): number[] =>
        Array.from(list)
          .filter((block) => block >= 0)
          .toSorted((a, b) => a - b);
      expect(set(given.slice(row * found, (row + 1) * found)), `row ${row}`).toEqual(set(wanted.data.slice(row * many, (row + 1) * many)));
    }
    chosen.dispose();
  });

  it('takes the own block before the first, the first before others, and of equal blocks the earlier', async () => {
    const sizes = { compressionLength: 1, compressionStride: 1, selectionBlock: 1, scale: 1 };
    const pick = (selected: number): number[] => {
      const blocks = tidy(() => {
        const position = tf.tensor2d([[7]]);
        const compressedKey = tf.zeros([1, 8, 1, 2]);
        const scores = { query: tf.ones([1, 1, 1, 2]), compressedKey, logSumExp: tf.fill([1, 1, 1], Math.log(8)) };
        return chooseBlocks(scores, position, 8, { batch: 1, groups: 1 }, { ...settings, ...sizes, selected });
      });
      const list = [...blocks.dataSync()];
      blocks.dispose();
      return list;
    };
    expect([1, 2, 3, 5].map(pick)).toEqual([[7], [7, 0], [7, 0, 6], [7, 0, 6, 1, 2]]);
  });
});
