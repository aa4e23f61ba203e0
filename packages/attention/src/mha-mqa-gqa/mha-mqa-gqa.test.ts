import * as tf from '@tensorflow/tfjs-core';
import { SeqLoomError, setupBackend } from '@seqloom/core';
import { expect, it } from 'vitest';
import { MultiHeadAttention } from './layer.ts';

it('refuses a context of another width', async () => {
  await setupBackend('cpu');
  const layer = new MultiHeadAttention({ dim: 4, heads: 2, pattern: 'noncausal-cross', contextDim: 6 });
  const [x, context] = [tf.zeros([1, 2, 4]), tf.zeros([1, 3, 5])];
  expect(() => layer.forward(x, { context })).toThrow(SeqLoomError);
  expect(() => layer.forward(x, { context })).toThrow(/mha-mqa-gqa: context must be 6 channels wide; got 5/);
  tf.dispose([x, context]);
  layer.dispose();
});

it('names its weights as the parts of the layer', async () => {
  await setupBackend('cpu');
  const layer = new MultiHeadAttention({ dim: 8, heads: 2, kvHeads: 1, bias: true, qkNorm: true, outputGate: true, sinkLogits: true });
  expect([...layer.namedParameters().keys()].toSorted()).toEqual(
    [
      'query.weight',
      'query.bias',
      'key.weight',
      'key.bias',
      'value.weight',
      'value.bias',
      'gate.weight',
      'output.weight',
      'queryNorm.weight',
      'keyNorm.weight',
      'sinkLogits',
    ].toSorted(),
  );
  layer.dispose();
});
