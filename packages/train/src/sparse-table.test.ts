import * as tf from '@tensorflow/tfjs-core';
import { Embedding, Linear, Module, setupBackend, softmaxCrossEntropy, tidy } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { MemoryLayer, SparseAdamW } from '@seqloom/memory';
import { expect, it } from 'vitest';
import { ByteTokeniser } from './data/byte-tokeniser.ts';
import { memoryStore } from './data/memory-store.ts';
import { WindowData } from './data/windows.ts';
import type { TrainableModel } from './model.ts';
import { train } from './trainer.ts';

/** A token is predicted from the one before it, through a memory layer. */
class PairModel extends Module implements TrainableModel {
  readonly config = { dim: 8 };
  readonly embedding = new Embedding({ count: 256, dim: 8, seed: 1 });
  readonly memory = new MemoryLayer({ dim: 8, heads: 2, halfKeys: 16, topK: 4, gated: false, seed: 2 });
  readonly head = new Linear({ in: 8, out: 256, bias: true, seed: 3 });

  loss(ids: tf.Tensor, labels: tf.Tensor): { sum: tf.Scalar; state: State } {
    return tidy(() => {
      const rows = tf.reshape(this.memory.forward(this.embedding.forward(ids) as tf.Tensor3D), [-1, 8]);
      const { loss } = softmaxCrossEntropy({ logits: this.head.forward(rows), labels: tf.reshape(labels, [-1]) });
      return { sum: tf.sum(loss) as tf.Scalar, state: { position: tf.zeros([ids.shape[0]!]) } };
    });
  }
}

it('a sparse table of a memory layer learns beside the optimiser of all other parameters, at the step events', async () => {
  await setupBackend('wasm');
  const text = 'the quick brown fox jumps over the lazy dog. '.repeat(60);
  const data = new WindowData(await memoryStore(text, { tokeniser: new ByteTokeniser() }), { length: 16, seed: 1 });
  const tensors = tf.memory().numTensors;
  const model = new PairModel();
  const { table } = model.memory;
  const optimiser = new SparseAdamW(table, { learningRate: 0.02 });
  const before = Float32Array.from(await table.values.value.data());
  const losses: number[] = [];
  for await (const event of train(model, { data, rows: 4, steps: 12, accumulate: 2, evaluateEvery: null })) {
    if (event.type === 'start') expect(event.parameters).toBe(model.countParameters() - table.values.size);
    if (event.type !== 'step') continue;
    expect(table.pending).toBe(2);
    const { rows, inPlace } = await optimiser.step({ gradientScale: 1 / (2 * 4 * 16) });
    expect(inPlace).toBe(true);
    expect(rows).toBeGreaterThan(1);
    expect(table.pending).toBe(0);
    losses.push(event.loss);
  }
  expect(losses).toHaveLength(12);
  expect(losses.at(-1)!).toBeLessThan(losses[0]! - 0.05);
  const after = await table.values.value.data();
  expect(after.some((value, i) => value !== before[i])).toBe(true);
  model.dispose();
  expect(tf.memory().numTensors).toBe(tensors);
});
