import { selectiveScan } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

/** What both forms read, all float32. */
export interface SelectiveSteps {
  /** [B, T, C] */
  readonly input: tf.Tensor;
  /** step sizes, at least 0, and 0 at padding, [B, T, C] */
  readonly delta: tf.Tensor;
  /** [C, N] */
  readonly transition: tf.Tensor;
  /** [B, T, G, N] */
  readonly inputMatrix: tf.Tensor;
  /** [B, T, G, N] */
  readonly outputMatrix: tf.Tensor;
  /** [B, C, N] */
  readonly memory: tf.Tensor;
}

/** What both forms return. */
export type SelectiveReads = { output: tf.Tensor; memory: tf.Tensor };

/**
 * The chunked form: the `SelectiveScan` kernel, once per group of channels; `h_t = exp(delta A) h_{t-1} + delta B x`, `y_t = C h_t`.
 *
 * @param chunkSize steps that the composed kernel holds at once; null lets it choose by memory
 */
export function chunkForm(steps: SelectiveSteps, chunkSize: number | null): SelectiveReads {
  const { input, delta, transition, inputMatrix, outputMatrix, memory } = steps;
  const [batch, length, groups, states] = inputMatrix.shape as [number, number, number, number];
  const scan = (parts: Omit<SelectiveSteps, 'memory'> & { state: tf.Tensor }) => selectiveScan(parts, { chunkSize });
  const matrix = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [batch, length, states]);
  if (groups === 1) {
    const { output, state } = scan({
      input,
      delta,
      transition,
      inputMatrix: matrix(inputMatrix),
      outputMatrix: matrix(outputMatrix),
      state: memory,
    });
    return { output, memory: state };
  }
  const [inputs, deltas, matricesIn, matricesOut] = [input, delta, inputMatrix, outputMatrix].map((part) => tf.split(part, groups, 2));
  const [transitions, memories] = [tf.split(transition, groups, 0), tf.split(memory, groups, 1)];
  const reads = transitions.map((part, g) =>
    scan({
      input: inputs![g]!,
      delta: deltas![g]!,
      transition: part,
      inputMatrix: matrix(matricesIn![g]!),
      outputMatrix: matrix(matricesOut![g]!),
      state: memories[g]!,
    }),
  );
  const join = (parts: tf.Tensor[], axis: number): tf.Tensor => tf.concat(parts, axis);
  return {
    output: join(
      reads.map(({ output }) => output),
      2,
    ),
    memory: join(
      reads.map(({ state }) => state),
      1,
    ),
  };
}
