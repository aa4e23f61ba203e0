import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/**
 * Causal depthwise convolution in double precision: with x = concat(state, valid input),
 * output_t = act(bias + sum_i weight[:, i] x[t + i]); the new state is the last K - 1 rows of x; outputs at pads are 0.
 */
export function naiveCausalConv1d(
  inputs: { input: Array64; weight: Array64; bias?: Array64 | undefined; state?: Array64 | undefined; lengths?: Array64 | undefined },
  settings: { activation?: 'none' | 'silu' } = {},
): { output: Array64; state: Array64 } {
  const { input, weight, bias, lengths } = inputs;
  const [batch, time, channels] = input.shape as [number, number, number];
  const taps = weight.shape[1]!;
  const output = array64(input.shape);
  const state = array64([batch, taps - 1, channels]);
  for (let b = 0; b < batch; b++) {
    const length = lengths ? lengths.data[b]! : time;
    for (let c = 0; c < channels; c++) {
      const row: number[] = [];
      for (let j = 0; j < taps - 1; j++) row.push(inputs.state ? inputs.state.data[(b * (taps - 1) + j) * channels + c]! : 0);
      for (let t = 0; t < length; t++) row.push(input.data[(b * time + t) * channels + c]!);
      for (let t = 0; t < length; t++) {
        let sum = bias ? bias.data[c]! : 0;
        for (let tap = 0; tap < taps; tap++) sum += weight.data[c * taps + tap]! * row[t + tap]!;
        output.data[(b * time + t) * channels + c] = settings.activation === 'silu' ? sum / (1 + Math.exp(-sum)) : sum;
      }
      for (let j = 0; j < taps - 1; j++) state.data[(b * (taps - 1) + j) * channels + c] = row[length + j]!;
    }
  }
  return { output, state };
}
