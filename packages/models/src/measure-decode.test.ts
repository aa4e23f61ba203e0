import * as tf from '@tensorflow/tfjs-core';
import { disposeState, setupBackend } from '@seqloom/core';
import { beforeAll, expect, it } from 'vitest';
import { HybridModel } from './hybrid-model.ts';
import { filledState, measureDecode } from './measure-decode.ts';

let model: HybridModel;
beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
  model = new HybridModel({
    vocabSize: 7,
    dim: 8,
    mixers: 'full, window, delta',
    definitions: {
      full: { type: 'mha-mqa-gqa', heads: 2 },
      window: { type: 'sliding-window-attention', heads: 2, window: 4 },
      delta: { type: 'delta-net', heads: 2 },
      mlp: { type: 'mlp' },
    },
    metaTokens: { count: 2 },
  });
});

it('a filled state has the shapes of one that read as many tokens', () => {
  const ids = tf.zeros([2, 9], 'int32') as tf.Tensor2D;
  const { logits, state } = model.forward(ids);
  const filled = filledState(model, 2, 9);
  const shapes = (of: typeof state) => Object.fromEntries(Object.entries(of).map(([name, { shape }]) => [name, shape]));
  expect(shapes(filled)).toEqual(shapes(state));
  expect([...filled.position.dataSync()]).toEqual([...state.position.dataSync()]);
  tf.dispose([ids, logits]);
  disposeState(state);
  disposeState(filled);
});

it('measures every context, says what the state holds, and keeps nothing', async () => {
  const before = tf.memory().numTensors;
  const rows = await measureDecode(model, { contexts: [3, 50], tokens: 2 });
  expect(rows.map(({ context }) => context)).toEqual([3, 50]);
  for (const row of rows) {
    expect(row.stateBytes).toBe(model.stateBytes(1, row.context));
    expect(row.tokensPerSecond * row.millisecondsPerToken).toBeCloseTo(1000, 6);
  }
  expect(tf.memory().numTensors).toBe(before);
});

it.each([[[]], [[0]], [[1.5]]])('contexts %j are refused', async (contexts) => {
  await expect(measureDecode(model, { contexts })).rejects.toThrow(/at least 1/);
});
