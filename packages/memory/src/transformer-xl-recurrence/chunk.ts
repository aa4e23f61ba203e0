import * as tf from '@tensorflow/tfjs-core';
import { parallelForm } from './parallel.ts';
import type { Visibility } from './parallel.ts';
import type { TransformerXlInputs } from './transformer-xl-recurrence.ts';

/** The chunk form: blocks of queries with the keys in their reach, so that scores take T (M + C) numbers instead of T (T + M). */
export function chunkForm(inputs: TransformerXlInputs, visibility: Visibility, chunkSize: number): tf.Tensor4D {
  const { query, key, value, relative } = inputs;
  const { reach, earliest, keyPositions } = visibility;
  const [batch, length] = query.shape as [number, number];
  const keys = key.shape[1]!;
  const cached = keys - length;
  const outputs: tf.Tensor4D[] = [];
  for (let at = 0; at < length; at += chunkSize) {
    const count = Math.min(chunkSize, length - at);
    const from = reach === null ? 0 : Math.max(0, at + cached - reach);
    const size = at + count + cached - from;
    const rows = (x: tf.Tensor, start: number, extent: number): tf.Tensor => tf.slice(x, [0, start, 0, 0], [-1, extent, -1, -1]);
    // indices count from the block's first key; -1 and what was before it stay below 0
    const moved = (x: tf.Tensor | null, start: number, extent: number): tf.Tensor | null =>
      x && tf.maximum(tf.sub(tf.slice(x, [0, start], [batch, extent]), from), -1);
    outputs.push(
      parallelForm(
        {
          ...inputs,
          query: rows(query, at, count),
          key: rows(key, from, size),
          value: rows(value, from, size),
          relative: tf.slice(relative, [keys - size, 0, 0], [size, -1, -1]),
        },
        { reach, earliest: moved(earliest, at, count), keyPositions: moved(keyPositions, from, size) },
      ),
    );
  }
  return outputs.length === 1 ? outputs[0]! : tf.concat(outputs, 1);
}
