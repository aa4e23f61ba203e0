import * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention } from '@seqloom/core';
import { axisRange } from './axes.ts';
import type { NeighborhoodAxis } from './axes.ts';
import type { FlatHeads, FlatResult } from './gathered.ts';

/** The parallel form: full attention under the mask of the neighborhoods; every pair is computed. */
export function parallelForm(heads: FlatHeads, shape: readonly number[], axes: readonly NeighborhoodAxis[], scale: number): FlatResult {
  return tf.tidy(() => {
    const size = heads.query.shape[1]!;
    const bias = tf.tensor(hiddenPairs(shape, axes), [1, 1, size, size]);
    return softmaxAttention({ ...heads, bias }, { scale });
  });
}

/** 0 where a query sees a key, far below any score where not: [N * N]. */
function hiddenPairs(shape: readonly number[], axes: readonly NeighborhoodAxis[]): Float32Array {
  const perAxis = shape.map((length, axis) =>
    Array.from({ length }, (_, query) => {
      const { residue, start, end } = axisRange(axes[axis]!, length, query);
      const step = axes[axis]!.dilation;
      return Array.from({ length: end - start }, (__, r) => residue + step * (start + r));
    }),
  );
  const size = shape.reduce((product, length) => product * length, 1);
  const bias = new Float32Array(size * size).fill(-1e30);
  for (let query = 0; query < size; query++) {
    let seen = [0];
    let block = size;
    let rest = query;
    shape.forEach((length, axis) => {
      block /= length;
      const along = perAxis[axis]![Math.floor(rest / block)]!;
      seen = seen.flatMap((base) => along.map((place) => base * length + place));
      rest %= block;
    });
    for (const key of seen) bias[query * size + key] = 0;
  }
  return bias;
}
