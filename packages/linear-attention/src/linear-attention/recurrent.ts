import { linearAttentionUpdate } from '@seqloom/core';
import type { Features, Sums } from './parallel.ts';
import type * as tf from '@tensorflow/tfjs-core';

/** The recurrent form, token by token: `S <- S + k_t v_t^T`, `o_t = S^T q_t`; chunks of one token. */
export function recurrentForm({ query, key, value, memory }: Features, logDecay?: tf.Tensor4D): Sums {
  const updateRule = logDecay ? 'gated' : 'linear';
  const { output, state } = linearAttentionUpdate({ query, key, value, logDecay, state: memory }, { updateRule, scale: 1, chunkSize: 1 });
  return { output, memory: state };
}
