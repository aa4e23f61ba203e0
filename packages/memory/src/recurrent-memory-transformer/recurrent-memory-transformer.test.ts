import { disposeState, setupBackend } from '@seqloom/core';
import type { MixerResult, SequenceMixer, State } from '@seqloom/core';
import { recordKernels, relativeError64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { RecurrentMemoryTransformer } from './layer.ts';
import { recurrentMemory } from './recurrent-memory-transformer.ts';

const DIM = 8;
const build = (extra: object = {}): RecurrentMemoryTransformer =>
  new RecurrentMemoryTransformer({ dim: DIM, heads: 2, segmentLength: 4, memoryTokens: 2, memoryDeviation: 0.5, ...extra });

/** Runs the stack on its own, from its start. */
const alone =
  (stack: SequenceMixer) =>
  (x: tf.Tensor3D): tf.Tensor3D => {
    const { output } = stack.mix({
      x,
      state: stack.initialState(x.shape[0]),
      valid: null,
      lengths: null,
      context: null,
      contextValid: null,
      training: false,
    });
    return output;
  };

const same = async (a: tf.Tensor, b: tf.Tensor): Promise<void> => {
  expect(relativeError64(await a.data(), await b.data())).toBeLessThan(1e-5);
};

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it('the layer over whole segments is the op around its stack, and goes on with the memory that the op returns', async () => {
    const layer = build({ depth: 2 });
    const x = tf.randomNormal([2, 12, DIM], 0, 1, 'float32', 5) as tf.Tensor3D;
    const { output, state } = layer.forward(x);
    const memory = tf.tidy(() => tf.add(tf.zeros([2, 2, DIM]), tf.expandDims(layer.firstMemory.value, 0)));
    const op = recurrentMemory({ input: x, memory }, { cell: alone(layer.stack), segmentLength: 4 });
    await same(output, op.output);
    await same(state.memory!, op.state.memory);
    disposeState(state);
    tf.dispose([x, output, memory, op.output, op.state.memory]);
    layer.dispose();
  });

  it('a call of whole segments runs the stack once per segment, also after other whole segments', () => {
    const layer = build();
    const x = tf.zeros([1, 8, DIM]);
    const count = (state?: State): number => {
      let result: MixerResult | undefined;
      const kernels = recordKernels(() => (result = layer.forward(x, state ? { state } : {})));
      tf.dispose(result!.output);
      disposeState(result!.state);
      return kernels.filter((name) => name === 'SoftmaxAttention').length;
    };
    expect(count()).toBe(2);
    const before = layer.forward(x);
    expect(count(before.state)).toBe(2);
    before.output.dispose();
    disposeState(before.state);
    x.dispose();
    layer.dispose();
  });

  it('a loss on the last segment reaches the first memory and the first segment; with bpttDepth 1 it does not', async () => {
    for (const [bpttDepth, reaches] of [
      [null, true],
      [1, false],
    ] as const) {
      const layer = build({ bpttDepth });
      const x = tf.randomNormal([1, 12, DIM], 0, 1, 'float32', 5);
      const loss = (input: tf.Tensor): tf.Scalar => tf.sum(tf.slice(layer.forward(input).output, [0, 8, 0], [1, 4, DIM]));
      const byInput = tf.tidy(() => tf.sum(tf.abs(tf.slice(tf.grad(loss)(x), [0, 0, 0], [1, 4, DIM]))));
      const byMemory = tf.tidy(() =>
        tf.sum(tf.abs(tf.variableGrads(() => loss(x), [layer.firstMemory.variable]).grads[layer.firstMemory.variable.name]!)),
      );
      expect((await byInput.data())[0]! > 0).toBe(reaches);
      expect((await byMemory.data())[0]! > 0).toBe(reaches);
      tf.dispose([x, byInput, byMemory]);
      layer.dispose();
    }
  });

  it('rows whose packed segments end at different places of a segment go on each from its own', async () => {
    const layer = build();
    const x = tf.randomNormal([2, 21, DIM], 0, 1, 'float32', 5);
    const next = tf.randomNormal([2, 6, DIM], 0, 1, 'float32', 6);
    // 21 tokens, and 3 after padding: rows of two groups, each of which stands at one place
    const segmentIds = [Array.from({ length: 21 }, () => 1), Array.from({ length: 21 }, (_, t) => (t < 18 ? 0 : 1))];
    const packed = layer.forward(x, { segmentIds });
    const together = layer.forward(next, { state: packed.state });
    for (const [row, from] of [0, 18].entries()) {
      const tokens = tf.slice(x, [row, from, 0], [1, 21 - from, DIM]);
      const before = layer.forward(tokens);
      const own = tf.slice(next, [row, 0, 0], [1, 6, DIM]);
      const after = layer.forward(own, { state: before.state });
      const given = tf.slice(together.output, [row, 0, 0], [1, 6, DIM]);
      await same(given, after.output);
      tf.dispose([tokens, before.output, own, after.output, given]);
      disposeState(before.state);
      disposeState(after.state);
    }
    disposeState(packed.state);
    disposeState(together.state);
    tf.dispose([x, next, packed.output, together.output]);
    layer.dispose();
  });

  it('state does not grow, whatever the length', () => {
    const layer = build();
    expect(layer.stateBytes(1, 10)).toBe(layer.stateBytes(1, 1e6));
    layer.dispose();
  });
});
