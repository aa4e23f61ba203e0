import * as tf from '@tensorflow/tfjs-core';
import type { Lm2Parameters, Lm2Settings } from './lm2.ts';
import { readBank } from './read.ts';
import { writeBank } from './write.ts';

/** The recurrent form, segment by segment: all tokens of a segment read the bank of its start; a full segment then writes it. */
export function recurrentForm(
  { input, memory }: { readonly input: tf.Tensor3D; readonly memory: tf.Tensor3D },
  parameters: Lm2Parameters,
  { heads, segmentLength, topK = null }: Lm2Settings,
): { output: tf.Tensor3D; memory: tf.Tensor3D } {
  const [batch, length, dim] = input.shape;
  const outputs: tf.Tensor3D[] = [];
  let bank = memory;
  for (let at = 0; at < length; at += segmentLength) {
    const count = Math.min(segmentLength, length - at);
    const tokens = tf.slice(input, [0, at, 0], [batch, count, dim]);
    outputs.push(readBank(tokens, bank, parameters.read, { heads, topK }));
    if (count === segmentLength) bank = writeBank(tokens, bank, parameters.write, heads);
  }
  return { output: tf.concat(outputs, 1), memory: bank === memory ? tf.clone(memory) : bank };
}
