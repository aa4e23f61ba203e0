import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, keepValid, tidy } from '@seqloom/core';
import type { MemoryCarry, MemoryPiece } from './carry.ts';
import { chunkForm } from './chunk.ts';
import type { MemoryActivation, MemoryNetwork } from './network.ts';
import { recurrentForm } from './recurrent.ts';

const MECHANISM = 'titans-neural-memory';

/** Inputs of `titansNeuralMemory`, all float32; every logarithm finite and at most 0. */
export interface TitansInputs {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, T, H, D] */
  readonly key: tf.Tensor;
  /** [B, T, H, E]; E = D with a norm */
  readonly value: tf.Tensor;
  /** theta, how far a token moves the memory [B, T, H] */
  readonly stepSize: tf.Tensor;
  /** log(1 - alpha), what is left of the memory after a token [B, T, H] */
  readonly logDecay: tf.Tensor;
  /** log eta, what is left of the momentum after a token [B, T, H]; left out: no momentum */
  readonly logMomentum?: tf.Tensor | undefined;
  /** [B, T], 1 for tokens and 0 for padding, which changes nothing */
  readonly mask?: tf.Tensor | undefined;
}

/** The memory: layer l = 1, 2, 3 of the network has `weight<l>`, `momentum<l>` and `reference<l>` [B, H, in, out]. */
export type TitansState = Readonly<Record<string, tf.Tensor>>;

/** Settings of `titansNeuralMemory`. */
export interface TitansOptions {
  /**
   * `weight1` to `weight<depth>`, which every memory starts from; `momentum<l>` (default zeros); `reference<l>`, the weights at the start of
   * the unfinished chunk (default the weights)
   */
  readonly state: TitansState;
  /** between the layers of the network, default gelu */
  readonly activation?: MemoryActivation;
  /** `M(x) = x + LayerNorm(MLP(x)) * weight + bias`, both [H, D]; left out: the MLP alone */
  readonly norm?: { readonly weight: tf.Tensor; readonly bias: tf.Tensor } | undefined;
  /** default chunk */
  readonly form?: 'chunk' | 'recurrent';
  /** b, tokens whose gradients are taken at the same weights, default 16; it changes the result, and 1 is the paper's recurrence */
  readonly chunkSize?: number;
  /** tokens that the unfinished chunk has already, default 0 */
  readonly offset?: number;
}

/**
 * Titans' long-term memory: a small network M whose weights take one step of gradient descent per token, with momentum and forgetting.
 *
 *   u_t = gradient of |M(k_t) - v_t|^2 at the weights of the chunk's start
 *   S_t = eta_t S_{t-1} - theta_t u_t
 *   W_t = (1 - alpha_t) W_{t-1} + S_t
 *   o_t = M_{W_t}(q_t)
 *
 * Both forms give the same for any chunk size; `chunk` never makes the weights of a token.
 *
 * @returns output [B, T, H, E] and the state after the last token; the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype, state or setting
 * @see "Titans: Learning to Memorize at Test Time" (Behrouz, Zhong, Mirrokni 2024, arXiv 2501.00663)
 */
export function titansNeuralMemory(inputs: TitansInputs, options: TitansOptions): { output: tf.Tensor4D; state: TitansState } {
  const depth = check(inputs, options);
  const { form = 'chunk', chunkSize = 16, offset = 0, activation = 'gelu', norm } = options;
  const [batch, length, heads, width] = inputs.value.shape as [number, number, number, number];
  return tidy(() => {
    const network: MemoryNetwork = {
      activation,
      norm: norm ? { weight: headRows(norm.weight, batch), bias: headRows(norm.bias, batch) } : null,
    };
    const piece = pieceOf(inputs);
    const run = form === 'chunk' ? chunkForm : recurrentForm;
    let carry = carryOf(options.state, depth, inputs.logMomentum !== undefined);
    const outputs: tf.Tensor[] = [];
    for (let at = 0; at < length;) {
      const place = (offset + at) % chunkSize;
      const count = Math.min(chunkSize - place, length - at);
      const result = run(part(piece, at, count), place === 0 ? { ...carry, references: carry.weights } : carry, network);
      carry = result.carry;
      outputs.push(result.output);
      at += count;
    }
    const unfinished = (offset + length) % chunkSize !== 0;
    const output = tf.reshape(tf.concat(outputs, 1), [batch, heads, length, width]);
    return {
      output: tf.transpose(output, [0, 2, 1, 3]) as tf.Tensor4D,
      state: stateOf(unfinished ? carry : { ...carry, references: carry.weights }, batch),
    };
  });
}

/** [B, T, H, D] as [B * H, T, D]. */
export function rowsOf(x: tf.Tensor): tf.Tensor {
  const [batch, length, heads, width] = x.shape as [number, number, number, number];
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch * heads, length, width]);
}

/** [B, T, H] as [B * H, T]. */
export function gatesOf(x: tf.Tensor): tf.Tensor {
  const [batch, length, heads] = x.shape as [number, number, number];
  return tf.reshape(tf.transpose(x, [0, 2, 1]), [batch * heads, length]);
}

/** [H, D] as [B * H, 1, D]. */
export function headRows(x: tf.Tensor, batch: number): tf.Tensor {
  const [heads, width] = x.shape as [number, number];
  return tf.reshape(tf.add(tf.reshape(x, [1, heads, width]), tf.zeros([batch, heads, width])), [batch * heads, 1, width]);
}

/** Checked inputs as one piece, padding neutral. */
export function pieceOf(inputs: TitansInputs): MemoryPiece {
  const { mask = null, logMomentum } = inputs;
  const heads = inputs.key.shape[2]!;
  const gate = (x: tf.Tensor): tf.Tensor => gatesOf(keepValid(x, mask));
  const [batch, length] = inputs.key.shape as [number, number];
  return {
    query: rowsOf(inputs.query),
    key: rowsOf(inputs.key),
    value: rowsOf(inputs.value),
    stepSize: gate(inputs.stepSize),
    logDecay: gate(inputs.logDecay),
    logMomentum: logMomentum ? gate(logMomentum) : null,
    valid: mask ? gatesOf(tf.add(tf.reshape(tf.cast(mask, 'float32'), [batch, length, 1]), tf.zeros([batch, length, heads]))) : null,
  };
}

function part(piece: MemoryPiece, at: number, count: number): MemoryPiece {
  if (count === piece.stepSize.shape[1]) return piece;
  const rows = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, at, 0], [x.shape[0]!, count, x.shape[2]!]);
  const gates = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, at], [x.shape[0]!, count]);
  return {
    query: rows(piece.query),
    key: rows(piece.key),
    value: rows(piece.value),
    stepSize: gates(piece.stepSize),
    logDecay: gates(piece.logDecay),
    logMomentum: piece.logMomentum ? gates(piece.logMomentum) : null,
    valid: piece.valid ? gates(piece.valid) : null,
  };
}

/** A state [B, H, in, out] as a carry [B * H, in, out]. */
export function carryOf(state: TitansState, depth: number, momentum: boolean): MemoryCarry {
  const flat = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [x.shape[0]! * x.shape[1]!, x.shape[2]!, x.shape[3]!]);
  const layers = Array.from({ length: depth }, (_, index) => index + 1);
  const weights = layers.map((layer) => flat(state[`weight${layer}`]!));
  const held = (name: string, layer: number, instead: tf.Tensor): tf.Tensor => {
    const tensor = state[`${name}${layer}`];
    return tensor ? flat(tensor) : instead;
  };
  return {
    weights,
    momenta: momentum ? layers.map((layer) => held('momentum', layer, tf.zerosLike(weights[layer - 1]!))) : [],
    references: layers.map((layer) => held('reference', layer, weights[layer - 1]!)),
  };
}

/** A carry as a state; every tensor is its own. */
export function stateOf({ weights, momenta, references }: MemoryCarry, batch: number): TitansState {
  const entries = (name: string, tensors: readonly tf.Tensor[]): [string, tf.Tensor][] =>
    tensors.map((tensor, index) => [`${name}${index + 1}`, tf.reshape(tensor, [batch, -1, tensor.shape[1]!, tensor.shape[2]!])]);
  return Object.fromEntries([...entries('weight', weights), ...entries('momentum', momenta), ...entries('reference', references)]);
}

function check(inputs: TitansInputs, options: TitansOptions): number {
  const { state, norm, form = 'chunk', chunkSize = 16, offset = 0, activation = 'gelu' } = options;
  const extents = new Map<string, number>();
  const setting = (name: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(MECHANISM, name, right, wanted, given, remedy);
  checkTensor(MECHANISM, 'query', inputs.query, ['B', 'T', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'key', inputs.key, ['B', 'T', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'value', inputs.value, ['B', 'T', 'H', norm ? 'D' : 'E'], extents);
  checkTensor(MECHANISM, 'stepSize', inputs.stepSize, ['B', 'T', 'H'], extents);
  checkTensor(MECHANISM, 'logDecay', inputs.logDecay, ['B', 'T', 'H'], extents);
  if (inputs.logMomentum) checkTensor(MECHANISM, 'logMomentum', inputs.logMomentum, ['B', 'T', 'H'], extents);
  if (inputs.mask) checkTensor(MECHANISM, 'mask', inputs.mask, ['B', 'T'], extents);
  if (norm) {
    checkTensor(MECHANISM, 'norm.weight', norm.weight, ['H', 'D'], extents);
    checkTensor(MECHANISM, 'norm.bias', norm.bias, ['H', 'D'], extents);
  }
  setting('form', form === 'chunk' || form === 'recurrent', 'chunk or recurrent', form, 'Choose one of the two forms.');
  setting('activation', activation === 'gelu' || activation === 'silu', 'gelu or silu', activation, 'Choose one of the two.');
  setting('chunkSize', Number.isInteger(chunkSize) && chunkSize >= 1, 'a whole number, at least 1', chunkSize, 'It counts tokens.');
  const within = Number.isInteger(offset) && offset >= 0 && offset < chunkSize;
  setting('offset', within, `a whole number from 0 to ${chunkSize - 1}`, offset, 'It counts tokens of the unfinished chunk.');
  const depth = Object.keys(state ?? {}).filter((name) => /^weight\d+$/.test(name)).length;
  setting(
    'state',
    depth >= 1 && depth <= 3,
    'weight1, and up to weight3',
    Object.keys(state ?? {}),
    'Give the weights that the memory starts from.',
  );
  for (let layer = 1; layer <= depth; layer++) {
    const axes = [layer === 1 ? 'D' : `hidden${layer - 1}`, layer === depth ? (norm ? 'D' : 'E') : `hidden${layer}`];
    checkTensor(MECHANISM, `state.weight${layer}`, state[`weight${layer}`], ['B', 'H', ...axes], extents);
    for (const name of [`momentum${layer}`, `reference${layer}`]) {
      if (state[name]) checkTensor(MECHANISM, `state.${name}`, state[name], ['B', 'H', ...axes], extents);
    }
  }
  return depth;
}
