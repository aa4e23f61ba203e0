import { keepValid, linearAttentionUpdate } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import type { Decayed, DecayedCall, DecayedTensors } from './parallel.ts';

/**
 * The chunked form: within a chunk as the parallel form, from the memory `gamma^(j + 1) q_j S`, and
 * `S <- gamma^C S + sum of gamma^(C - 1 - j) k_j v_j^T`.
 *
 * Noncausal: a causal pass, a causal pass over the reversed tokens, and once less what both of them count, each token with itself.
 */
export function chunkForm(tensors: DecayedTensors, call: DecayedCall): Decayed {
  return tf.tidy(() => {
    const forward = causalPass(tensors, call);
    if (!call.noncausal) return forward;
    const { query, key, value } = tensors;
    const { mask, scale } = call;
    const turn = (tensor: tf.Tensor): tf.Tensor => tf.reverse(tensor, 1);
    const turned = { query: turn(query), key: turn(key), value: turn(value) };
    const backward = causalPass(turned, { ...call, ...(mask ? { mask: turn(mask) } : {}) });
    const own = tf.mul(tf.mul(tf.sum(tf.mul(query, keepValid(key, mask ?? null)), 3, true), scale), value);
    const output = tf.sub(tf.add(forward.output, turn(backward.output)), own) as tf.Tensor4D;
    return { output: keepValid(output, mask ?? null), memory: forward.memory };
  });
}

/** One pass over the tokens in their order, through the kernel's gated rule with a decay per head. */
export function causalPass({ query, key, value }: DecayedTensors, call: DecayedCall): Decayed {
  const { logDecay, scale, chunkSize = 64, memory, mask = null } = call;
  return tf.tidy(() => {
    const [batch, length, heads] = key.shape as [number, number, number];
    const decays = tf.add(tf.zeros([batch, length, heads]), tf.tensor1d([...logDecay]));
    const { output, state } = linearAttentionUpdate(
      { query, key: keepValid(key, mask), value, logDecay: keepValid(decays, mask), ...(memory ? { state: memory } : {}) },
      { updateRule: 'gated', scale, chunkSize },
    );
    return { output, memory: state };
  });
}
