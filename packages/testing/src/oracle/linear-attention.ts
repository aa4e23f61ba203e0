/**
 * The specification of the `LinearAttention` kernel in double precision, one token at a time.
 *
 * Per batch row and state head, with state S [Dk, Dv], key k, value v, log decay g (per head or per key channel), beta b:
 *
 *   linear        S_t = S_{t-1} + k_t v_t^T
 *   gated         S_t = exp(g_t) S_{t-1} + k_t v_t^T
 *   delta         S_t = S_{t-1} + b_t k_t (v_t - S_{t-1}^T k_t)^T
 *   gated_delta   S_t = exp(g_t) S_{t-1} + b_t k_t (v_t - (exp(g_t) S_{t-1})^T k_t)^T
 *   output        o_t = scale S_t^T q_t
 */
import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** Inputs of the oracle, in the layout of the kernel contract. */
export type LinearAttentionInputs64 = {
  /** [B, T, Hq, Dk] */
  readonly query: Array64;
  /** [B, T, H, Dk] */
  readonly key: Array64;
  /** [B, T, H, Dv] */
  readonly value: Array64;
  /** [B, T, H] or [B, T, H, Dk] */
  readonly logDecay?: Array64;
  /** [B, T, H] */
  readonly beta?: Array64;
  /** [B, H, Dk, Dv] */
  readonly state?: Array64;
};

/** Settings of the oracle. */
export interface LinearAttentionOptions64 {
  readonly updateRule: 'linear' | 'gated' | 'delta' | 'gated_delta';
  readonly scale?: number;
}

/** Output [B, T, Hq, Dv] and final state [B, H, Dk, Dv] of linear attention, in double precision. */
export function naiveLinearAttention(
  inputs: LinearAttentionInputs64,
  options: LinearAttentionOptions64,
): { output: Array64; state: Array64 } {
  const { query, key, value, logDecay, beta } = inputs;
  const [batch, length, queryHeads, keyDim] = query.shape as [number, number, number, number];
  const heads = key.shape[2]!;
  const valueDim = value.shape[3]!;
  const group = queryHeads / heads;
  const scale = options.scale ?? keyDim ** -0.5;
  const gated = options.updateRule === 'gated' || options.updateRule === 'gated_delta';
  const delta = options.updateRule === 'delta' || options.updateRule === 'gated_delta';
  const perChannel = logDecay?.shape.length === 4;
  const output = array64([batch, length, queryHeads, valueDim]);
  const state = array64([batch, heads, keyDim, valueDim], inputs.state?.data ?? 0);
  const update = new Float64Array(valueDim);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const S = state.data.subarray((b * heads + h) * keyDim * valueDim, (b * heads + h + 1) * keyDim * valueDim);
      for (let t = 0; t < length; t++) {
        const token = (b * length + t) * heads + h;
        const k = key.data.subarray(token * keyDim, (token + 1) * keyDim);
        const v = value.data.subarray(token * valueDim, (token + 1) * valueDim);
        if (gated && logDecay) {
          for (let d = 0; d < keyDim; d++) {
            const decay = Math.exp(logDecay.data[perChannel ? token * keyDim + d : token]!);
            for (let e = 0; e < valueDim; e++) S[d * valueDim + e]! *= decay;
          }
        }
        for (let e = 0; e < valueDim; e++) {
          let recalled = 0;
          if (delta) for (let d = 0; d < keyDim; d++) recalled += S[d * valueDim + e]! * k[d]!;
          update[e] = delta ? beta!.data[token]! * (v[e]! - recalled) : v[e]!;
        }
        for (let d = 0; d < keyDim; d++) for (let e = 0; e < valueDim; e++) S[d * valueDim + e]! += k[d]! * update[e]!;
        for (let g = 0; g < group; g++) {
          const row = (b * length + t) * queryHeads + h * group + g;
          for (let e = 0; e < valueDim; e++) {
            let read = 0;
            for (let d = 0; d < keyDim; d++) read += query.data[row * keyDim + d]! * S[d * valueDim + e]!;
            output.data[row * valueDim + e] = scale * read;
          }
        }
      }
    }
  }
  return { output, state };
}
