import * as tf from '@tensorflow/tfjs-core';
import type { MemformerSettings } from './memformer.ts';
import type { MemformerParameters } from './parameters.ts';
import { readMemory } from './read.ts';
import { writeMemory } from './write.ts';

/** The recurrent form, segment by segment: all tokens of a segment read the memory of its start; a full segment then writes it. */
export function recurrentForm(
  { input, memory }: { readonly input: tf.Tensor3D; readonly memory: tf.Tensor3D },
  { read, write }: MemformerParameters,
  { heads, segmentLength, temperature = 0.25, updates = 1 }: MemformerSettings,
): { output: tf.Tensor3D; memory: tf.Tensor3D } {
  const [batch, length, dim] = input.shape;
  const outputs: tf.Tensor3D[] = [];
  let held = memory;
  for (let at = 0; at < length; at += segmentLength) {
    const count = Math.min(segmentLength, length - at);
    const tokens = tf.slice(input, [0, at, 0], [batch, count, dim]);
    outputs.push(readMemory(tokens, held, read, heads));
    if (count === segmentLength) held = writeMemory(tokens, held, write, { heads, temperature, updates });
  }
  return { output: tf.concat(outputs, 1), memory: held === memory ? tf.clone(memory) : held };
}
