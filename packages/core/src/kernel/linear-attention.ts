import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, describe } from './check-tensor.ts';
import type { Extents } from './check-tensor.ts';
import { defineKernel } from './define.ts';
import type { Kernel } from './define.ts';
import { linearAttentionForward, linearAttentionGradient } from './linear-attention/chunks.ts';

/** How a token changes the state; names as in ONNX `LinearAttention`. */
export type LinearAttentionRule = 'linear' | 'gated' | 'delta' | 'gated_delta';

/** Inputs of the `LinearAttention` kernel, all float32. */
export type LinearAttentionInputs = {
  /** [B, T, Hq, Dk]; query head h reads state head floor(h * H / Hq) */
  readonly query: tf.Tensor;
  /** [B, T, H, Dk] */
  readonly key: tf.Tensor;
  /** [B, T, H, Dv] */
  readonly value: tf.Tensor;
  /** log of the decay, at most 0, per head [B, T, H] or per key channel [B, T, H, Dk]; for the gated rules */
  readonly logDecay?: tf.Tensor | undefined;
  /** strength of the write [B, T, H]; for the delta rules */
  readonly beta?: tf.Tensor | undefined;
  /** state before the first token [B, H, Dk, Dv]; zeros when left out */
  readonly state?: tf.Tensor | undefined;
};

/** Settings of one `LinearAttention` call. */
export type LinearAttentionAttributes = {
  readonly updateRule: LinearAttentionRule;
  /** factor of the output */
  readonly scale: number;
  /** tokens per chunk; a matter of speed, not of the result */
  readonly chunkSize: number;
};

/** Options of `linearAttentionUpdate`. */
export interface LinearAttentionOptions {
  readonly updateRule: LinearAttentionRule;
  /** factor of the output; Dk^-0.5 when left out */
  readonly scale?: number;
  /** tokens per chunk, 64 when left out; a matter of speed, not of the result (rounded up to a power of two) */
  readonly chunkSize?: number;
}

/**
 * The `LinearAttention` kernel contract: a matrix-valued state per head, written by one of four rules and read by the query.
 *
 *   linear        S_t = S_{t-1} + k_t v_t^T
 *   gated         S_t = exp(g_t) S_{t-1} + k_t v_t^T
 *   delta         S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T
 *   gated_delta   S_t = exp(g_t) S_{t-1} + beta_t k_t (v_t - exp(g_t) S_{t-1}^T k_t)^T   (decay first, then recall)
 *   output        o_t = scale S_t^T q_t
 *
 * Outputs: `output` [B, T, Hq, Dv] and `state` [B, H, Dk, Dv], the state after the last token. The gradient reads no
 * outputs; the state is saved because a fused forward may keep more behind it.
 * Names, layouts and semantics follow ONNX `LinearAttention` (opset 27).
 */
export const linearAttentionKernel: Kernel<LinearAttentionInputs, LinearAttentionAttributes, 'output' | 'state'> =
  /* @__PURE__ */ defineKernel<LinearAttentionInputs, LinearAttentionAttributes, 'output' | 'state'>({
    name: 'LinearAttention',
    outputs: ['output', 'state'],
    composed: linearAttentionForward,
    gradient: {
      inputs: ['query', 'key', 'value', 'logDecay', 'beta', 'state'],
      needs: ['state'],
      composed: (inputs, _saved, upstream, attributes) => linearAttentionGradient(inputs, attributes, upstream),
    },
  });

const MECHANISM = 'LinearAttention';
const DEFAULT_CHUNK_SIZE = 64;

/**
 * Runs linear attention with one of the four update rules on the current backend; see `linearAttentionKernel` for the formulas.
 *
 * @param inputs query [B, T, Hq, Dk], key [B, T, H, Dk], value [B, T, H, Dv]; logDecay [B, T, H] or [B, T, H, Dk] for the gated rules
 *   (natural log, at most 0); beta [B, T, H] for the delta rules; state [B, H, Dk, Dv] to continue from. Hq is a multiple of H.
 * @param options updateRule, scale (Dk^-0.5), chunkSize (64)
 * @returns output [B, T, Hq, Dv] and the state after the last token [B, H, Dk, Dv]; both are the caller's to dispose
 * @throws SeqLoomError when rank, shape, dtype or the choice of inputs does not fit the rule
 */
export function linearAttentionUpdate(
  inputs: LinearAttentionInputs,
  options: LinearAttentionOptions,
): { output: tf.Tensor4D; state: tf.Tensor4D } {
  check(inputs, options);
  const attributes: LinearAttentionAttributes = {
    updateRule: options.updateRule,
    scale: options.scale ?? inputs.query.shape[3]! ** -0.5,
    chunkSize: options.chunkSize ?? DEFAULT_CHUNK_SIZE,
  };
  return linearAttentionKernel.run(inputs, attributes) as { output: tf.Tensor4D; state: tf.Tensor4D };
}

const RULES: readonly string[] = ['linear', 'gated', 'delta', 'gated_delta'];

function check(inputs: LinearAttentionInputs, options: LinearAttentionOptions): void {
  const { updateRule, scale = 1, chunkSize = DEFAULT_CHUNK_SIZE } = options;
  const setting = (name: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(MECHANISM, name, right, wanted, given, remedy);
  setting('updateRule', RULES.includes(updateRule), `one of ${RULES.join(', ')}`, updateRule, 'Choose one of the four rules.');
  setting('scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for Dk^-0.5.');
  setting('chunkSize', Number.isInteger(chunkSize) && chunkSize >= 1, 'a whole number, at least 1', chunkSize, 'Leave it out for 64.');
  const { query, key, value, logDecay, beta, state } = inputs;
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', query, ['B', 'T', 'Hq', 'Dk'], extents);
  checkTensor(MECHANISM, 'key', key, ['B', 'T', 'H', 'Dk'], extents);
  checkTensor(MECHANISM, 'value', value, ['B', 'T', 'H', 'Dv'], extents);
  const [queryHeads, heads] = [query.shape[2]!, key.shape[2]!];
  setting('query', queryHeads % heads === 0, `of a multiple of ${heads} heads`, `${queryHeads} heads`, 'Group query heads evenly.');
  const gated = updateRule === 'gated' || updateRule === 'gated_delta';
  const delta = updateRule === 'delta' || updateRule === 'gated_delta';
  for (const [name, tensor, needed] of [
    ['logDecay', logDecay, gated],
    ['beta', beta, delta],
  ] as const) {
    const wanted = `${needed ? 'given' : 'left out'} with the rule ${updateRule}`;
    setting(name, (tensor !== undefined) === needed, wanted, describe(tensor), 'Choose the rule that fits the inputs.');
  }
  if (logDecay)
    checkTensor(MECHANISM, 'logDecay', logDecay, logDecay.shape.length === 3 ? ['B', 'T', 'H'] : ['B', 'T', 'H', 'Dk'], extents);
  if (beta) checkTensor(MECHANISM, 'beta', beta, ['B', 'T', 'H'], extents);
  if (state) checkTensor(MECHANISM, 'state', state, ['B', 'H', 'Dk', 'Dv'], extents);
}
