import * as tf from '@tensorflow/tfjs-core';
import type { Pattern } from '@seqloom/core';
import type { LinearAttentionResult } from '../linear-attention/op.ts';
import { resolveSettings } from '../linear-attention/settings.ts';
import type { LinearAttentionState, LinearAttentionTensors, ResolvedSettings } from '../linear-attention/settings.ts';
import { chunkForm } from './chunk.ts';
import type { TaylorCall } from './chunk.ts';
import { parallelForm } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Settings of `taylorAttention`; everything has a default. */
export interface TaylorAttentionSettings {
  /** divide by the sum of the kernel, default true */
  readonly normalise?: boolean;
  /** added to the denominator, default 1e-6 */
  readonly epsilon?: number;
  /** keep each product of two channels once in the state, default true; the result is the same */
  readonly symmetric?: boolean;
  /** default causal-self */
  readonly pattern?: Pattern;
  /** default chunk for causal patterns, parallel for noncausal ones (their only form) */
  readonly form?: 'parallel' | 'chunk' | 'recurrent';
  /** tokens per chunk, default 64 */
  readonly chunkSize?: number;
  /** state of an earlier call with the same `symmetric` and `normalise`; for causal-self */
  readonly state?: LinearAttentionState;
  /** over the keys, [B, S], 1 for tokens and 0 for padding; what stands at padding must be finite */
  readonly mask?: tf.Tensor;
  /** for causal-cross in the parallel form: number of keys that each query sees, [B, T]; default: query i sees keys 0 to i */
  readonly visible?: tf.Tensor;
}

/**
 * Attention with the second-order Taylor series of exp: `o_i = sum_j kappa_ij v_j / (sum_j kappa_ij + epsilon)`,
 * `kappa = 1 + u + u^2 / 2`, `u = q_i k_j / sqrt(d)`, over the keys that query i sees.
 *
 * @param tensors query [B, T, Hq, d], key [B, S, H, d], value [B, S, H, V], float32; Hq is a multiple of H, and S = T for self patterns
 * @param settings pattern, form, state and the rest; see `TaylorAttentionSettings` for the defaults
 * @returns output [B, T, Hq, V] and the state after the last key, `memory` [B, H, F, V + 1] (V where not normalised), F = 1 + d + d (d + 1) / 2
 *   when symmetric and 1 + d + d^2 when not
 * @throws SeqLoomError on a wrong rank, shape, dtype, or settings that do not go together
 * @see Arora et al. 2024, arXiv 2402.18668
 */
export function taylorAttention(tensors: LinearAttentionTensors, settings: TaylorAttentionSettings = {}): LinearAttentionResult {
  const { symmetric = true, normalise = true, form: _, ...rest } = settings;
  const resolved = resolveSettings(
    tensors,
    { scale: 1, ...settings, normalise, featureMap: { name: 'taylor2', symmetric } },
    'based-taylor',
  );
  const call: TaylorCall = { ...rest, normalise, scale: 1 };
  if (resolved.form === 'chunk') return chunkForm(tensors, call, symmetric);
  if (resolved.form === 'recurrent') return recurrentForm(tensors, call, symmetric);
  const { output, memory } = tf.tidy(() => weighAll(tensors, resolved, symmetric));
  return { output, state: { memory } };
}

function weighAll({ query, key, value }: LinearAttentionTensors, settings: ResolvedSettings, symmetric: boolean): Parallel {
  const { pattern, normalise, epsilon, mask, visible, state } = settings;
  const [batch, keys, heads, width] = value.shape as [number, number, number, number];
  const sums = parallelForm(
    {
      query: query as tf.Tensor4D,
      key: key as tf.Tensor4D,
      value: (normalise ? tf.concat([value, tf.ones([batch, keys, heads, 1])], 3) : value) as tf.Tensor4D,
      mask: mask && (tf.cast(mask, 'float32') as tf.Tensor2D),
      memory: state?.memory as tf.Tensor4D | undefined,
    },
    pattern.startsWith('noncausal') ? 'all' : visible ? (tf.cast(visible, 'float32') as tf.Tensor2D) : 'causal',
    symmetric,
  );
  if (!normalise) return { output: sums.output, memory: sums.memory };
  const [numerator, denominator] = tf.split(sums.output, [width, 1], 3) as [tf.Tensor4D, tf.Tensor4D];
  return { output: tf.div(numerator, tf.add(denominator, epsilon)), memory: sums.memory };
}

// a type rather than an interface, so that tf.tidy accepts it
type Parallel = { output: tf.Tensor4D; memory: tf.Tensor4D };
