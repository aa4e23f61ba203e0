import type { Array64 } from './array64.ts';

/** (x, y) -> (x cos - y sin, y cos + x sin) for each pair of channels of [B, T, H, D], in double precision. */
export function naiveRotary(
  inputs: { input: Array64; cos: Array64; sin: Array64 },
  settings: { interleaved?: boolean } = {},
): { output: Array64 } {
  const { input, cos, sin } = inputs;
  const [batch, time, heads, width] = input.shape as [number, number, number, number];
  const pairs = cos.shape[2]!;
  const output = Float64Array.from(input.data);
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < time; t++) {
      for (let h = 0; h < heads; h++) {
        for (let pair = 0; pair < pairs; pair++) {
          const row = ((b * time + t) * heads + h) * width;
          const first = row + (settings.interleaved ? 2 * pair : pair);
          const second = row + (settings.interleaved ? 2 * pair + 1 : pair + pairs);
          const angle = ((cos.shape[0] === 1 ? 0 : b) * time + t) * pairs + pair;
          const [x, y, c, s] = [input.data[first]!, input.data[second]!, cos.data[angle]!, sin.data[angle]!];
          output[first] = x * c - y * s;
          output[second] = y * c + x * s;
        }
      }
    }
  }
  return { output: { shape: [...input.shape], data: output } };
}
