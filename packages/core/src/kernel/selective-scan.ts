import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor } from './check-tensor.ts';
import { chunkScan, scanGradients } from './scan/chunk-scan.ts';
import { columnSum } from '../numerics/column-sum.ts';
import { defineKernel } from './define.ts';
import { sliceTime } from '../numerics/slice-time.ts';

/** Tensors that `selectiveScan` reads. */
export type SelectiveScanInputs = {
  /** u, float32 [B, T, C] */
  readonly input: tf.Tensor;
  /** step size, positive (after softplus), [B, T, C] */
  readonly delta: tf.Tensor;
  /** A, negative, [C, N] */
  readonly transition: tf.Tensor;
  /** B, [B, T, N] */
  readonly inputMatrix: tf.Tensor;
  /** C, [B, T, N] */
  readonly outputMatrix: tf.Tensor;
  /** D, weight of the input that goes straight to the output, [C] */
  readonly skip?: tf.Tensor | undefined;
  /** h before the first step, [B, C, N]; zeros when left out */
  readonly state?: tf.Tensor | undefined;
};

/** Settings of the `SelectiveScan` kernel. */
export type SelectiveScanAttributes = {
  /** steps that the composed form holds at once with their lanes [B, steps, C, N]; null lets it choose by memory */
  readonly chunkSize: number | null;
};

const MECHANISM = 'selective-scan';

// elements of [B, steps, C, N] that a chunk of its own choice may hold: the only tensors with both T and N in them
const CHUNK_ELEMENTS = 1 << 20;

interface Sizes {
  readonly batch: number;
  readonly time: number;
  readonly channels: number;
  readonly states: number;
  /** steps per chunk */
  readonly length: number;
}

function sizesOf({ input, transition }: SelectiveScanInputs, { chunkSize }: SelectiveScanAttributes): Sizes {
  const [batch, time, channels] = input.shape as [number, number, number];
  const states = transition.shape[1]!;
  const length = Math.min(time, chunkSize ?? Math.max(16, Math.floor(CHUNK_ELEMENTS / (batch * channels * states))));
  return { batch, time, channels, states, length };
}

// what one chunk of time looks like, with the lanes [C, N] apart
interface Chunk {
  readonly input: tf.Tensor; // [B, Q, C]
  readonly delta: tf.Tensor; // [B, Q, C]
  readonly inputMatrix: tf.Tensor; // [B, Q, N]
  readonly outputMatrix: tf.Tensor; // [B, Q, N]
  readonly decay: tf.Tensor; // exp(delta A), [B, Q, C * N]
  readonly hidden: tf.Tensor; // [B, Q, C * N]
}

function runChunk(inputs: SelectiveScanInputs, start: number, count: number, state: tf.Tensor, sizes: Sizes): Chunk {
  const { batch, channels, states } = sizes;
  const cut = (part: tf.Tensor) => sliceTime(part, start, count);
  const [input, delta, inputMatrix, outputMatrix] = [inputs.input, inputs.delta, inputs.inputMatrix, inputs.outputMatrix].map(cut) as [
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
  ];
  const lanes = [batch, count, channels * states];
  const column = (part: tf.Tensor) => tf.reshape(part, [batch, count, channels, 1]);
  const decay = tf.reshape(tf.exp(tf.mul(column(delta), inputs.transition)), lanes);
  const added = tf.reshape(tf.mul(column(tf.mul(delta, input)), tf.reshape(inputMatrix, [batch, count, 1, states])), lanes);
  const [hidden] = chunkScan([decay], [added], [state], false) as [tf.Tensor];
  return { input, delta, inputMatrix, outputMatrix, decay, hidden };
}

function lastStep(hidden: tf.Tensor): tf.Tensor {
  return sliceTime(hidden, hidden.shape[1]! - 1, 1);
}

function firstState(state: tf.Tensor | undefined, { batch, channels, states }: Sizes): tf.Tensor {
  return state ? tf.reshape(state, [batch, 1, channels * states]) : tf.zeros([batch, 1, channels * states]);
}

function chunkStarts({ time, length }: Sizes): number[] {
  return Array.from({ length: Math.ceil(time / length) }, (_, chunk) => chunk * length);
}

// one chunk of the gradient: everything but the sums over chunks
function chunkGradients(
  inputs: SelectiveScanInputs,
  start: number,
  count: number,
  state: tf.Tensor,
  upstream: { readonly output: tf.Tensor; readonly last: tf.Tensor },
  sizes: Sizes,
): tf.Tensor[] {
  const { batch, channels, states } = sizes;
  const { input, delta, inputMatrix, outputMatrix, decay, hidden } = runChunk(inputs, start, count, state, sizes);
  const rows = batch * count;
  const dOutput = sliceTime(upstream.output, start, count);
  const perRow = (part: tf.Tensor) => tf.reshape(part, [rows, channels, states]) as tf.Tensor3D;
  const asRow = (part: tf.Tensor) => tf.reshape(part, [rows, 1, -1]) as tf.Tensor3D;
  const asColumn = (part: tf.Tensor) => tf.reshape(part, [rows, -1, 1]) as tf.Tensor3D;
  // dh from the output: dy_c C_n
  const dHidden = tf.reshape(tf.mul(asColumn(dOutput), asRow(outputMatrix)), hidden.shape);
  const scan = scanGradients([decay], [hidden], [state], [dHidden], [upstream.last], false);
  const gradient = perRow(scan.input[0]!);
  // d decay * decay: the gradient of the exponent delta A
  const dExponent = perRow(tf.mul(scan.decay[0]!, decay));
  const drive = tf.reshape(tf.matMul(gradient, asColumn(inputMatrix)), input.shape); // sum_n g B_n
  const dDelta = tf.reshape(tf.sum(tf.mul(dExponent, inputs.transition), 2), input.shape);
  const dInput = tf.mul(delta, drive);
  return [
    inputs.skip ? tf.add(dInput, tf.mul(dOutput, inputs.skip)) : dInput,
    tf.add(tf.mul(input, drive), dDelta),
    tf.reshape(tf.matMul(asRow(tf.mul(delta, input)), gradient), inputMatrix.shape),
    tf.reshape(tf.matMul(asRow(dOutput), perRow(hidden)), outputMatrix.shape),
    tf.reshape(columnSum(tf.reshape(tf.mul(dExponent, asColumn(delta)), [rows, channels * states])), [channels, states]),
    scan.state[0]!,
  ];
}

/** The kernel contract behind `selectiveScan`. */
export const selectiveScanKernel = defineKernel<SelectiveScanInputs, SelectiveScanAttributes, 'output' | 'state'>({
  name: 'SelectiveScan',
  outputs: ['output', 'state'],
  composed(inputs, attributes) {
    const sizes = sizesOf(inputs, attributes);
    const { batch, time, channels, states, length } = sizes;
    let state = firstState(inputs.state, sizes);
    const pieces = chunkStarts(sizes).map((start) => {
      const count = Math.min(length, time - start);
      const [read, last] = tf.tidy(() => {
        const { hidden, outputMatrix } = runChunk(inputs, start, count, state, sizes);
        const lanes = tf.reshape(hidden, [batch * count, channels, states]);
        const sum = tf.matMul(lanes, tf.reshape(outputMatrix, [batch * count, states, 1]));
        return [tf.reshape(sum, [batch, count, channels]), lastStep(hidden)];
      }) as [tf.Tensor, tf.Tensor];
      state = last;
      return read;
    });
    const read = tf.concat(pieces, 1);
    const output = inputs.skip ? tf.add(read, tf.mul(inputs.input, inputs.skip)) : read;
    return { output, state: tf.reshape(state, [batch, channels, states]) };
  },
  gradient: {
    inputs: ['input', 'delta', 'transition', 'inputMatrix', 'outputMatrix', 'skip', 'state'],
    needs: [],
    composed(inputs, _saved, upstream, attributes) {
      const sizes = sizesOf(inputs, attributes);
      const { batch, time, channels, states, length } = sizes;
      const starts = chunkStarts(sizes);
      const countAt = (start: number) => Math.min(length, time - start);
      // the states at the chunk borders, [B, 1, C * N] each; all others are computed again
      const borders = [firstState(inputs.state, sizes)];
      for (const start of starts.slice(0, -1)) {
        borders.push(tf.tidy(() => lastStep(runChunk(inputs, start, countAt(start), borders.at(-1)!, sizes).hidden)));
      }
      let last: tf.Tensor = tf.reshape(upstream.state, [batch, 1, channels * states]);
      let dTransition: tf.Tensor = tf.zerosLike(inputs.transition);
      const pieces: tf.Tensor[][] = [];
      for (let chunk = starts.length - 1; chunk >= 0; chunk--) {
        const start = starts[chunk]!;
        const [sum, dState, ...parts] = tf.tidy(() => {
          const given = { output: upstream.output, last };
          const found = chunkGradients(inputs, start, countAt(start), borders[chunk]!, given, sizes);
          return [tf.add(dTransition, found[4]!), found[5]!, ...found.slice(0, 4)];
        });
        pieces.unshift(parts);
        [dTransition, last] = [sum!, dState!];
      }
      const [input, delta, inputMatrix, outputMatrix] = [0, 1, 2, 3].map((part) =>
        tf.concat(
          pieces.map((piece) => piece[part]!),
          1,
        ),
      );
      return {
        input: input!,
        delta: delta!,
        inputMatrix: inputMatrix!,
        outputMatrix: outputMatrix!,
        transition: dTransition,
        ...(inputs.skip && { skip: columnSum(tf.mul(upstream.output, inputs.input)) }),
        ...(inputs.state && { state: tf.reshape(last, inputs.state.shape) }),
      };
    },
  },
});

/**
 * Selective state space scan of Mamba (Gu and Dao 2023), the recurrence alone.
 *
 * Per channel c and state n: `h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t` and `y_t = sum_n C_t h_t + D u_t`.
 *
 * @param inputs `input` u, `delta` [B, T, C], `transition` A [C, N], `inputMatrix` B, `outputMatrix` C [B, T, N], and optionally
 *   `skip` D [C] and `state` [B, C, N]
 * @param options `chunkSize` (null): steps that the composed form holds at once, which bounds its memory and changes no result
 * @returns `output` y [B, T, C] and `state` [B, C, N]
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 */
export function selectiveScan(
  inputs: SelectiveScanInputs,
  options: Partial<SelectiveScanAttributes> = {},
): { output: tf.Tensor; state: tf.Tensor } {
  const { input, delta, transition, inputMatrix, outputMatrix, skip, state } = inputs;
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['batch', 'time', 'channels'], extents);
  checkTensor(MECHANISM, 'delta', delta, ['batch', 'time', 'channels'], extents);
  checkTensor(MECHANISM, 'transition', transition, ['channels', 'states'], extents);
  checkTensor(MECHANISM, 'inputMatrix', inputMatrix, ['batch', 'time', 'states'], extents);
  checkTensor(MECHANISM, 'outputMatrix', outputMatrix, ['batch', 'time', 'states'], extents);
  if (skip) checkTensor(MECHANISM, 'skip', skip, ['channels'], extents);
  if (state) checkTensor(MECHANISM, 'state', state, ['batch', 'channels', 'states'], extents);
  const { chunkSize = null } = options;
  const right = chunkSize === null || (Number.isInteger(chunkSize) && chunkSize > 0);
  checkSetting(MECHANISM, 'chunkSize', right, 'null or a whole number of at least 1', chunkSize, 'Leave it out to have it chosen.');
  return selectiveScanKernel.run({ input, delta, transition, inputMatrix, outputMatrix, skip, state }, { chunkSize });
}
