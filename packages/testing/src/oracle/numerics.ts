import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** log(1 + exp(x)) in double precision. */
export function naiveSoftplus(input: Array64): Array64 {
  return array64(
    input.shape,
    input.data.map((x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))),
  );
}

/** log(sigmoid(x)) in double precision. */
export function naiveLogSigmoid(input: Array64): Array64 {
  return array64(
    input.shape,
    input.data.map((x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)))),
  );
}

/** Cumulative sums over axis 1 of [B, T, ...] that start again at every chunk, in double precision. */
export function naiveChunkCumulativeSum(input: Array64, settings: { chunkSize: number; reverse?: boolean; exclusive?: boolean }): Array64 {
  const [batch, time] = input.shape as [number, number];
  const width = input.data.length / (batch * time);
  const result = array64(input.shape);
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < time; t++) {
      for (let other = 0; other < time; other++) {
        const together = Math.floor(other / settings.chunkSize) === Math.floor(t / settings.chunkSize);
        const counts = other === t ? !settings.exclusive : settings.reverse ? other > t : other < t;
        if (!together || !counts) continue;
        for (let c = 0; c < width; c++) {
          const place = (b * time + t) * width + c;
          result.data[place] = result.data[place]! + input.data[(b * time + other) * width + c]!;
        }
      }
    }
  }
  return result;
}
