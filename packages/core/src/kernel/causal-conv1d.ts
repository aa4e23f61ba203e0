import * as tf from '@tensorflow/tfjs-core';
import { checkIndices, checkSetting, checkTensor } from './check-tensor.ts';
import { columnSum } from '../numerics/column-sum.ts';
import { defineKernel } from './define.ts';
import { sliceTime } from '../numerics/slice-time.ts';

/** Tensors that `causalConv1d` reads. */
export type CausalConv1dInputs = {
  /** float32 [B, T, C] */
  readonly input: tf.Tensor;
  /** taps per channel, [C, K]; tap K - 1 multiplies the current token */
  readonly weight: tf.Tensor;
  /** [C] */
  readonly bias?: tf.Tensor | undefined;
  /** the K - 1 tokens before the first, oldest first, [B, K - 1, C]; zeros when left out */
  readonly state?: tf.Tensor | undefined;
  /** number of valid tokens of each row, the rest being padding on the right, float32 or int32 [B] */
  readonly lengths?: tf.Tensor | undefined;
};

/** Settings of the `CausalConv1d` kernel. */
export type CausalConv1dAttributes = {
  /** what the sum passes through */
  readonly activation: 'none' | 'silu';
};

const MECHANISM = 'causal-conv1d';

// 1 at valid tokens, 0 at pads: [B, T, 1]
function validMask(lengths: tf.Tensor, time: number): tf.Tensor {
  const places = tf.range(0, time, 1, 'float32');
  const valid = tf.less(tf.reshape(places, [1, time]), tf.reshape(tf.cast(lengths, 'float32'), [-1, 1]));
  return tf.reshape(tf.cast(valid, 'float32'), [-1, time, 1]);
}

// flat row numbers in [B * (T + K - 1)] of the last K - 1 valid tokens, [B * (K - 1), 1]
function stateRows(lengths: tf.Tensor, history: number, joined: number): tf.Tensor {
  const batch = lengths.shape[0]!;
  const starts = tf.add(tf.mul(tf.range(0, batch, 1, 'int32'), tf.scalar(joined, 'int32')), tf.cast(lengths, 'int32'));
  const rows = tf.add(tf.reshape(starts, [batch, 1]), tf.reshape(tf.range(0, history, 1, 'int32'), [1, history]));
  return tf.reshape(rows, [batch * history, 1]);
}

// state and input in one row of time, pads replaced by zeros: [B, K - 1 + T, C]
function joinTime({ input, state, lengths }: CausalConv1dInputs, taps: number): tf.Tensor3D {
  const [batch, time, channels] = input.shape as [number, number, number];
  let clean = input;
  if (lengths) {
    // pads may hold anything, NaN too, so they are swapped for a row of zeros rather than multiplied by zero
    const table = tf.concat([tf.reshape(input, [batch * time, channels]), tf.zeros([1, channels])], 0);
    const mask = tf.cast(tf.reshape(validMask(lengths, time), [batch * time]), 'int32');
    const own = tf.range(0, batch * time, 1, 'int32');
    const last = tf.scalar(batch * time, 'int32');
    const rows = tf.add(last, tf.mul(mask, tf.sub(own, last)));
    clean = tf.reshape(tf.gatherND(table, tf.reshape(rows, [batch * time, 1])), [batch, time, channels]);
  }
  if (taps === 1) return clean as tf.Tensor3D;
  const before = state ?? tf.zeros([batch, taps - 1, channels]);
  return tf.concat([before, clean], 1) as tf.Tensor3D;
}

// correlation over time without padding: [B, N + K - 1, C] with taps [K, C] gives [B, N, C]
function correlate(joined: tf.Tensor, taps: tf.Tensor): tf.Tensor {
  const [batch, length, channels] = joined.shape as [number, number, number];
  const count = taps.shape[0]!;
  const rows = tf.reshape(joined, [batch, 1, length, channels]) as tf.Tensor4D;
  const filter = tf.reshape(taps, [1, count, channels, 1]) as tf.Tensor4D;
  return tf.reshape(tf.depthwiseConv2d(rows, filter, 1, 'valid'), [batch, length - count + 1, channels]);
}

function convolve(joined: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor | undefined): tf.Tensor {
  const sum = correlate(joined, tf.transpose(weight));
  return bias ? tf.add(sum, bias) : sum;
}

/** The kernel contract behind `causalConv1d`. */
export const causalConv1dKernel = defineKernel<CausalConv1dInputs, CausalConv1dAttributes, 'output' | 'state'>({
  name: 'CausalConv1d',
  outputs: ['output', 'state'],
  composed(inputs, { activation }) {
    const { input, weight, bias, lengths } = inputs;
    const [batch, time, channels] = input.shape as [number, number, number];
    const history = weight.shape[1]! - 1;
    const joined = joinTime(inputs, history + 1);
    let output = convolve(joined, weight, bias);
    if (activation === 'silu') output = tf.mul(output, tf.sigmoid(output));
    if (lengths) output = tf.mul(output, validMask(lengths, time));
    const shape = [batch, history, channels];
    if (history === 0) return { output, state: tf.zeros(shape) };
    if (!lengths) return { output, state: sliceTime(joined, time, history) };
    const length = time + history;
    const flat = tf.reshape(joined, [batch * length, channels]);
    return { output, state: tf.reshape(tf.gatherND(flat, stateRows(lengths, history, length)), shape) };
  },
  gradient: {
    inputs: ['input', 'weight', 'bias', 'state'],
    needs: [],
    composed(inputs, _saved, upstream, { activation }) {
      const { input, weight, bias, state, lengths } = inputs;
      const [batch, time, channels] = input.shape as [number, number, number];
      const taps = weight.shape[1]!;
      const history = taps - 1;
      const length = time + history;
      const joined = joinTime(inputs, taps);
      let dSum = lengths ? tf.mul(upstream.output, validMask(lengths, time)) : upstream.output;
      if (activation === 'silu') {
        const sum = convolve(joined, weight, bias);
        const sigmoid = tf.sigmoid(sum);
        // silu' = s (1 + y (1 - s))
        dSum = tf.mul(dSum, tf.mul(sigmoid, tf.add(tf.mul(sum, tf.sub(1, sigmoid)), 1)));
      }
      // every token reaches the K - 1 after it: the same correlation with the taps turned round
      const padded =
        history > 0
          ? tf.pad(dSum, [
              [0, 0],
              [history, history],
              [0, 0],
            ])
          : dSum;
      let dJoined = correlate(padded, tf.reverse(tf.transpose(weight), 0));
      if (history > 0) {
        const dState = lengths
          ? tf.reshape(
              tf.scatterND(stateRows(lengths, history, length), tf.reshape(upstream.state, [batch * history, channels]), [
                batch * length,
                channels,
              ]),
              [batch, length, channels],
            )
          : tf.pad(upstream.state, [
              [0, 0],
              [time, 0],
              [0, 0],
            ]);
        dJoined = tf.add(dJoined, dState);
      }
      const dTaps = Array.from({ length: taps }, (_, tap) => columnSum(tf.mul(dSum, history > 0 ? sliceTime(joined, tap, time) : joined)));
      return {
        input: sliceTime(dJoined, history, time),
        weight: tf.stack(dTaps, 1),
        ...(bias && { bias: columnSum(dSum) }),
        ...(state && { state: history > 0 ? sliceTime(dJoined, 0, history) : tf.zerosLike(state) }),
      };
    },
  },
});

/**
 * Short causal depthwise convolution over time, with state (as in Mamba, H3, Based).
 *
 * With x the state followed by the input: `output_t = act(bias + sum_i weight[:, i] * x[t + i])` for i = 0 to K - 1, and the new
 * state is the last K - 1 tokens of x. With `lengths`, pads on the right neither count nor reach the state, and their outputs are 0.
 *
 * @param inputs `input` [B, T, C], `weight` [C, K], and optionally `bias` [C], `state` [B, K - 1, C], `lengths` [B] (0 to T)
 * @param options `activation` ('none')
 * @returns `output` [B, T, C] and `state` [B, K - 1, C], from which the next call continues
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 */
export function causalConv1d(
  inputs: CausalConv1dInputs,
  options: Partial<CausalConv1dAttributes> = {},
): { output: tf.Tensor; state: tf.Tensor } {
  const { activation = 'none' } = options;
  const { input, weight, bias, state, lengths } = inputs;
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['batch', 'time', 'channels'], extents);
  checkTensor(MECHANISM, 'weight', weight, ['channels', 'taps'], extents);
  if (bias) checkTensor(MECHANISM, 'bias', bias, ['channels'], extents);
  if (state) checkTensor(MECHANISM, 'state', state, ['batch', weight.shape[1]! - 1, 'channels'], extents);
  if (lengths) checkTensor(MECHANISM, 'lengths', lengths, ['batch'], extents, lengths.dtype === 'int32' ? 'int32' : 'float32');
  if (lengths) checkIndices(MECHANISM, 'lengths', lengths, input.shape[1]! + 1, 0);
  checkSetting(MECHANISM, 'activation', ['none', 'silu'].includes(activation), "'none' or 'silu'", activation, 'Name one.');
  return causalConv1dKernel.run({ input, weight, bias, state, lengths }, { activation });
}
