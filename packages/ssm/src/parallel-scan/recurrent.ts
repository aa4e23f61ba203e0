import * as tf from '@tensorflow/tfjs-core';
import { product, total } from './complex.ts';
import type { Parts } from './complex.ts';
import type { Scan, Scanned } from './parallel.ts';

/** The recurrent form, token by token: `h <- a h + b`. */
export function recurrentForm({ decay, input, hidden, reverse }: Scan): Scanned {
  const [decays, inputs] = [decay, input].map((parts) => parts.map((part) => tf.unstack(part, 1))) as [tf.Tensor[][], tf.Tensor[][]];
  const length = input[0]!.shape[1]!;
  let state: Parts | null = hidden;
  const rows: Parts[] = [];
  for (let step = 0; step < length; step++) {
    const t = reverse ? length - 1 - step : step;
    const [a, b] = [decays.map((part) => part[t]!), inputs.map((part) => part[t]!)];
    state = state ? total(product(a, state), b) : b;
    rows[t] = state;
  }
  return {
    output: input.map((_, part) =>
      tf.stack(
        rows.map((row) => row[part]!),
        1,
      ),
    ),
    hidden: state!.map((part) => tf.clone(part)),
  };
}
