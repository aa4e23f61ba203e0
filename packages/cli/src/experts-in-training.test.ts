import * as tf from '@tensorflow/tfjs-core';
import { setupBackend } from '@seqloom/core';
import { HybridModel } from '@seqloom/models';
import type { MixtureOfExperts } from '@seqloom/models';
import { memoryStore, ByteTokeniser, train, WindowData } from '@seqloom/train';
import { beforeAll, expect, it } from 'vitest';

beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
});

it('a trainer moves the selection biases of experts, adds their losses, and leaks nothing', async () => {
  const before = tf.memory().numTensors;
  const model = new HybridModel({
    vocabSize: 256,
    dim: 8,
    mixers: 'conv*2',
    channels: 'experts*2',
    definitions: {
      conv: { type: 'gated-convolution' },
      experts: {
        type: 'moe-channel-mixers',
        experts: 4,
        topK: 1,
        hidden: 8,
        selectionBias: true,
        balanceRate: 0.5,
        auxiliary: { loadBalance: 0.1, zLoss: 0, sequence: 0 },
      },
    },
    share: { weights: [{ layers: [0, 1], part: 'channel' }] },
  });
  const tokeniser = new ByteTokeniser();
  const data = new WindowData(await memoryStore('abcdefgh'.repeat(200), { tokeniser }), { length: 32, seed: 1 });
  const plain: number[] = [];
  const ids = tf.tensor2d([...tokeniser.encode('abcdefgh')], [1, 8], 'int32');
  tf.tidy(() => {
    for (const training of [false, true]) plain.push(model.loss(ids, ids, { training }).sum.dataSync()[0]!);
  });
  expect(plain[1]! - plain[0]!).toBeGreaterThan(0.01 * 8);
  let steps = 0;
  for await (const event of train(model, { data, rows: 2, steps: 3, schedule: { shape: 'constant', peak: 1e-3 }, evaluateEvery: null }))
    if (event.type === 'step') steps++;
  expect(steps).toBe(3);
  const layer = model.stack.layers[0]!.channel as MixtureOfExperts;
  const bias = [...layer.selectionBias!.value.dataSync()];
  // shared by two layers, it moves once a step, by the rate or not at all
  expect(bias.some((value) => value !== 0)).toBe(true);
  for (const value of bias) expect([0, 0.5, 1, 1.5]).toContain(Math.abs(value));
  ids.dispose();
  model.dispose();
  expect(tf.memory().numTensors).toBe(before);
});
