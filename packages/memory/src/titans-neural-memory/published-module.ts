import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, rmsNorm, tidy } from '@seqloom/core';
import { activate, slope, standardise, standardiseGradient } from './network.ts';
import { headRows, rowsOf } from './titans-neural-memory.ts';

const MECHANISM = 'titans-neural-memory';
// of torch's LayerNorm, and of its RMSNorm in float32
const EPSILON = 1e-5;
const ROOT_EPSILON = 1.1920929e-7;

/** A learned map with a bias, one number per head. */
export interface PublishedGate {
  /** [D, H] */
  readonly weight: tf.Tensor;
  /** [H] */
  readonly bias: tf.Tensor;
}

/** Learned tensors of `publishedNeuralMemory`; the last four are there with several heads or with norms of heads. */
export interface PublishedMemoryParameters {
  /** factors of the norms before reading and before writing [D] */
  readonly retrieveNorm: tf.Tensor;
  readonly storeNorm: tf.Tensor;
  /** gamma of the network's norm [H, E], and its weights [H, in, out] */
  readonly gamma: tf.Tensor;
  readonly weights: readonly tf.Tensor[];
  /** [D, H E] */
  readonly query: tf.Tensor;
  readonly key: tf.Tensor;
  readonly value: tf.Tensor;
  readonly stepSize: PublishedGate;
  readonly decay: PublishedGate;
  /** null: no momentum */
  readonly momentum: PublishedGate | null;
  /** [D, H], gate of a head's output */
  readonly gate?: tf.Tensor | undefined;
  /** [H E, D] */
  readonly combine?: tf.Tensor | undefined;
  /** [H, E], one is added */
  readonly queryGamma?: tf.Tensor | undefined;
  readonly keyGamma?: tf.Tensor | undefined;
  readonly outputGamma?: tf.Tensor | undefined;
}

/** The memory of `publishedNeuralMemory`: gamma first, then the weights, each [B H, ...]. */
export interface PublishedMemoryState {
  /** at which gradients are taken */
  readonly references: readonly tf.Tensor[];
  readonly weights: readonly tf.Tensor[];
  readonly momenta: readonly tf.Tensor[];
}

/** Settings of `publishedNeuralMemory`. */
export interface PublishedMemorySettings {
  /** c, tokens whose gradients are added up to one step */
  readonly chunkSize: number;
  /** tokens whose gradients are taken at the same weights, a multiple of c; null: all of a memory's life */
  readonly batchSize?: number | null;
  readonly maxStepSize?: number;
  /** soft bound on the norm of a step's gradient, per tensor; null: none */
  readonly maxGradientNorm?: number | null;
}

/**
 * The neural memory of titans-pytorch: one step per chunk, with the sum of its tokens' gradients of the mean squared error, momentum and
 * decay of the chunk's mean; a token reads the memory as it was after the last chunk before it (or with its own, if it ends it). The
 * norm's factor is part of the memory. For comparison and golden parity; tokens after the last full chunk are not written.
 *
 * @param x [B, T, D]
 * @returns output [B, T, D] and the memory; the caller's
 * @throws SeqLoomError on a wrong rank or setting
 * @see lucidrains/titans-pytorch, `titans_pytorch/neural_memory.py`
 */
export function publishedNeuralMemory(
  x: tf.Tensor,
  parameters: PublishedMemoryParameters,
  settings: PublishedMemorySettings,
  state?: PublishedMemoryState,
): { output: tf.Tensor3D; state: PublishedMemoryState } {
  checkTensor(MECHANISM, 'x', x, ['B', 'T', 'D']);
  const { chunkSize, batchSize = null, maxGradientNorm = null } = settings;
  const whole = (value: number): boolean => Number.isInteger(value) && value >= 1;
  checkSetting(MECHANISM, 'chunkSize', whole(chunkSize), 'a whole number, at least 1', chunkSize, 'It counts tokens.');
  const fits = batchSize === null || (whole(batchSize) && batchSize % chunkSize === 0);
  checkSetting(MECHANISM, 'batchSize', fits, `null or a multiple of ${chunkSize}`, batchSize, 'It counts tokens of whole chunks.');
  const [batch, length] = x.shape as [number, number, number];
  const heads = parameters.gamma.shape[0]!;
  return tidy(() => {
    const first = [parameters.gamma, ...parameters.weights].map((tensor) => repeated(tensor, batch));
    let { references, weights, momenta }: PublishedMemoryState = state ?? {
      references: first,
      weights: first,
      momenta: parameters.momentum ? first.map((tensor) => tf.zerosLike(tensor)) : [],
    };
    const steps = Math.floor(length / chunkSize);
    const history = [weights];
    if (steps > 0) {
      const tokens = stored(tf.slice(x, [0, 0, 0], [batch, steps * chunkSize, -1]), parameters, settings);
      for (let n = 0; n < steps; n++) {
        const rows = (tensor: tf.Tensor): tf.Tensor => tf.slice(tensor, [0, n * chunkSize, 0], [batch * heads, chunkSize, -1]);
        const gate = (tensor: tf.Tensor, like: tf.Tensor): tf.Tensor =>
          tf.reshape(tf.slice(tensor, [0, n, 0], [batch * heads, 1, 1]), [batch * heads, ...like.shape.slice(1).map(() => 1)]);
        const gradients = gradientsOf(rows(tokens.key), rows(tokens.value), rows(tokens.stepSize), references).map((gradient) =>
          maxGradientNorm === null ? gradient : softBound(gradient, maxGradientNorm),
        );
        const { momentum } = tokens;
        if (momentum) momenta = momenta.map((held, i) => tf.sub(tf.mul(gate(momentum, held), held), gradients[i]!));
        const added = momentum ? momenta : gradients.map((gradient) => tf.neg(gradient));
        weights = weights.map((weight, i) => tf.add(tf.mul(gate(tokens.kept, weight), weight), added[i]!));
        history.push(weights);
        if (batchSize !== null && ((n + 1) * chunkSize) % batchSize === 0) references = weights;
      }
    }
    const output = retrieved(x, history, parameters, chunkSize);
    const own = (tensors: readonly tf.Tensor[]): tf.Tensor[] => tensors.map((tensor) => tf.clone(tensor));
    return { output, state: { references: own(references), weights: own(weights), momenta: own(momenta) } };
  });
}

// [H, ...] as [B H, ...]
function repeated(tensor: tf.Tensor, batch: number): tf.Tensor {
  const shape = tensor.shape;
  return tf.reshape(tf.add(tf.reshape(tensor, [1, ...shape]), tf.zeros([batch, ...shape])), [batch * shape[0]!, ...shape.slice(1)]);
}

const project = (x: tf.Tensor, weight: tf.Tensor): tf.Tensor => {
  const flat = tf.matMul(tf.reshape(x, [-1, x.shape[2]!]) as tf.Tensor2D, weight as tf.Tensor2D);
  return tf.reshape(flat, [x.shape[0]!, x.shape[1]!, weight.shape[1]!]);
};

// [B, T, H E] as [B H, T, E]
const cut = (x: tf.Tensor, heads: number): tf.Tensor => rowsOf(tf.reshape(x, [x.shape[0]!, x.shape[1]!, heads, x.shape[2]! / heads]));

const normed = (x: tf.Tensor, gamma: tf.Tensor | undefined): tf.Tensor =>
  gamma ? tf.mul(rmsNorm({ input: x }, { epsilon: ROOT_EPSILON }), tf.add(headRows(gamma, x.shape[0]! / gamma.shape[0]!), 1)) : x;

/** Keys, values and gates of tokens [B, n c, D], heads as rows; gates of chunks are of the mean of their tokens. */
function stored(
  x: tf.Tensor,
  parameters: PublishedMemoryParameters,
  { chunkSize, maxStepSize = 1 }: PublishedMemorySettings,
): { key: tf.Tensor; value: tf.Tensor; stepSize: tf.Tensor; kept: tf.Tensor; momentum: tf.Tensor | null } {
  const [batch, length, dim] = x.shape as [number, number, number];
  const heads = parameters.gamma.shape[0]!;
  const rows = rmsNorm({ input: x, weight: parameters.storeNorm }, { epsilon: ROOT_EPSILON });
  const means = tf.mean(tf.reshape(rows, [batch, length / chunkSize, chunkSize, dim]), 2);
  const gate = (from: tf.Tensor, { weight, bias }: PublishedGate): tf.Tensor => cut(tf.sigmoid(tf.add(project(from, weight), bias)), heads);
  return {
    key: normed(cut(project(rows, parameters.key), heads), parameters.keyGamma),
    value: cut(project(rows, parameters.value), heads),
    stepSize: tf.mul(gate(rows, parameters.stepSize), maxStepSize),
    kept: tf.sub(1, gate(means, parameters.decay)),
    momentum: parameters.momentum ? gate(means, parameters.momentum) : null,
  };
}

/** Gradients of the sum of `stepSize * mean((M(k) - v)^2)` by gamma and by each weight. */
function gradientsOf(key: tf.Tensor, value: tf.Tensor, stepSize: tf.Tensor, [gamma, ...weights]: readonly tf.Tensor[]): tf.Tensor[] {
  const inputs: tf.Tensor[] = [];
  const sums: tf.Tensor[] = [];
  for (const [index, weight] of weights.entries()) {
    inputs.push(index === 0 ? key : activate(sums[index - 1]!, 'gelu'));
    sums.push(tf.matMul(inputs[index]!, weight));
  }
  const factor = tf.add(tf.expandDims(gamma!, 1), 1);
  const standard = standardise(sums.at(-1)!, EPSILON);
  const difference = tf.sub(tf.add(tf.mul(standard.rows, factor), key), value);
  const upstream = tf.mul(difference, tf.mul(stepSize, 2 / key.shape[2]!));
  let error = standardiseGradient(standard, tf.mul(upstream, factor));
  const gradients: tf.Tensor[] = [];
  for (let index = weights.length - 1; index >= 0; index--) {
    gradients.unshift(tf.matMul(inputs[index]!, error, true, false));
    if (index > 0) error = tf.mul(tf.matMul(error, weights[index]!, false, true), slope(sums[index - 1]!, 'gelu'));
  }
  return [tf.sum(tf.mul(upstream, standard.rows), 1), ...gradients];
}

// norms grow to the bound and not beyond, and never fall below its half
function softBound(gradient: tf.Tensor, bound: number): tf.Tensor {
  const flat = tf.reshape(gradient, [gradient.shape[0]!, -1]);
  const norm = tf.sqrt(tf.maximum(tf.sum(tf.square(flat), 1, true), 1e-14));
  const wanted = tf.mul(tf.add(tf.tanh(tf.div(norm, bound / 2)), 1), bound / 2);
  return tf.reshape(tf.mul(flat, tf.div(wanted, norm)), gradient.shape);
}

/** Token t reads weights number floor((t + 1) / c). */
function retrieved(
  x: tf.Tensor,
  history: readonly (readonly tf.Tensor[])[],
  parameters: PublishedMemoryParameters,
  chunkSize: number,
): tf.Tensor3D {
  const [batch, length] = x.shape as [number, number, number];
  const heads = parameters.gamma.shape[0]!;
  const rows = rmsNorm({ input: x, weight: parameters.retrieveNorm }, { epsilon: ROOT_EPSILON });
  const query = normed(cut(project(rows, parameters.query), heads), parameters.queryGamma);
  const parts: tf.Tensor[] = [];
  for (const [n, [gamma, ...weights]] of history.entries()) {
    const start = Math.max(0, n * chunkSize - 1);
    const end = Math.min(length, (n + 1) * chunkSize - 1);
    if (end <= start) continue;
    const from = tf.slice(query, [0, start, 0], [batch * heads, end - start, -1]);
    let inner = from;
    for (const [index, weight] of weights.entries()) inner = tf.matMul(index === 0 ? inner : activate(inner, 'gelu'), weight);
    parts.push(tf.add(from, tf.mul(standardise(inner, EPSILON).rows, tf.add(tf.expandDims(gamma!, 1), 1))));
  }
  let read = normed(tf.concat(parts, 1), parameters.outputGamma); // [B H, T, E]
  if (parameters.gate) read = tf.mul(read, cut(tf.sigmoid(project(rows, parameters.gate)), heads));
  const width = read.shape[2]!;
  const joined = tf.reshape(tf.transpose(tf.reshape(read, [batch, heads, length, width]), [0, 2, 1, 3]), [batch, length, heads * width]);
  return (parameters.combine ? project(joined, parameters.combine) : joined) as tf.Tensor3D;
}
