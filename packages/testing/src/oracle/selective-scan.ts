import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** h = exp(delta A) h + delta B u and y = sum_n C h + D u, step by step in double precision. */
export function naiveSelectiveScan(inputs: {
  input: Array64;
  delta: Array64;
  transition: Array64;
  inputMatrix: Array64;
  outputMatrix: Array64;
  skip?: Array64 | undefined;
  state?: Array64 | undefined;
}): { output: Array64; state: Array64 } {
  const { input, delta, transition, inputMatrix, outputMatrix, skip } = inputs;
  const [batch, time, channels] = input.shape as [number, number, number];
  const states = transition.shape[1]!;
  const output = array64([batch, time, channels]);
  const state = array64([batch, channels, states], inputs.state ? inputs.state.data : 0);
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < time; t++) {
      for (let c = 0; c < channels; c++) {
        const place = (b * time + t) * channels + c;
        const [u, step] = [input.data[place]!, delta.data[place]!];
        let sum = (skip ? skip.data[c]! : 0) * u;
        for (let n = 0; n < states; n++) {
          const lane = (b * channels + c) * states + n;
          const column = (b * time + t) * states + n;
          const hidden = Math.exp(step * transition.data[c * states + n]!) * state.data[lane]! + step * inputMatrix.data[column]! * u;
          state.data[lane] = hidden;
          sum += outputMatrix.data[column]! * hidden;
        }
        output.data[place] = sum;
      }
    }
  }
  return { output, state };
}
