import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor } from './check-tensor.ts';
import { defineKernel } from './define.ts';

/** Tensors that `topK` reads. */
export type TopKInputs = {
  /** float32 [..., N] */
  readonly input: tf.Tensor;
};

/** Settings of the `TopKRows` kernel. */
export type TopKAttributes = {
  /** how many of each row to keep, at most N */
  readonly k: number;
};

// the largest float32
const LARGEST = 3.4028234663852886e38;

// [..., k] indices within rows of `width` as places in the flat input, [rows * k, 1]
function flatPlaces(indices: tf.Tensor, width: number): tf.Tensor {
  const k = indices.shape.at(-1)!;
  const rows = indices.size / k;
  const starts = tf.mul(tf.range(0, rows, 1, 'int32'), tf.scalar(width, 'int32'));
  return tf.reshape(tf.add(tf.reshape(starts, [rows, 1]), tf.reshape(indices, [rows, k])), [rows * k, 1]);
}

/** The kernel contract behind `topK`. */
export const topKKernel = defineKernel<TopKInputs, TopKAttributes, 'values' | 'indices'>({
  name: 'TopKRows',
  outputs: ['values', 'indices'],
  composed({ input }, { k }) {
    // tfjs-webgpu gives out a row of one as its own top without counting the new owner, and its buffer is freed twice
    if (input.shape.at(-1) === 1) return { values: tf.clone(input), indices: tf.zeros(input.shape, 'int32') };
    // tfjs orders equal values by index on every backend, but takes the difference of two infinities for one on cpu
    const { indices } = tf.topk(tf.clipByValue(input, -LARGEST, LARGEST), k, true);
    const places = flatPlaces(indices, input.shape.at(-1)!);
    return { values: tf.reshape(tf.gatherND(tf.reshape(input, [input.size]), places), indices.shape), indices };
  },
  gradient: {
    inputs: ['input'],
    needs: ['indices'],
    composed({ input }, { indices }, { values: upstream }) {
      const places = flatPlaces(indices, input.shape.at(-1)!);
      return { input: tf.reshape(tf.scatterND(places, tf.reshape(upstream, [upstream.size]), [input.size]), input.shape) };
    },
  },
});

/**
 * The k largest of each row, largest first; of equal values the one with the lower index comes first, so the answer is deterministic.
 *
 * @param inputs `input` float32 [..., N], without NaN
 * @param options `k` from 1 to N
 * @returns `values` [..., k], through which gradients flow, and `indices` int32 [..., k]
 * @throws SeqLoomError when the input is not a float32 tensor of rank 1 or more, or k does not fit
 */
export function topK(inputs: TopKInputs, options: TopKAttributes): { values: tf.Tensor; indices: tf.Tensor } {
  const { input } = inputs;
  checkTensor('top-k', 'input', input, input instanceof tf.Tensor && input.rank > 0 ? input.shape : ['channels']);
  const [k, width] = [options?.k, input.shape.at(-1)!];
  checkSetting(
    'top-k',
    'k',
    Number.isInteger(k) && k >= 1 && k <= width,
    `a whole number from 1 to ${width}`,
    k,
    'Keep at most the whole row.',
  );
  return topKKernel.run({ input }, { k });
}
