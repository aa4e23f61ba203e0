import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** output[n, :] = input[n, :] weight[experts[n], :, :], zeros where experts[n] = -1, in double precision. */
export function naiveExpertMatMul(inputs: { input: Array64; experts: Array64; weight: Array64 }): { output: Array64 } {
  const { input, experts, weight } = inputs;
  const [, inner, outer] = weight.shape as [number, number, number];
  const output = array64([input.shape[0]!, outer]);
  experts.data.forEach((expert, row) => {
    if (expert < 0) return;
    for (let f = 0; f < outer; f++) {
      let sum = 0;
      for (let d = 0; d < inner; d++) sum += input.data[row * inner + d]! * weight.data[(expert * inner + d) * outer + f]!;
      output.data[row * outer + f] = sum;
    }
  });
  return { output };
}
