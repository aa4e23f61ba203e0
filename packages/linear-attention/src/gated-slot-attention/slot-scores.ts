import { linearAttentionKernel } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

/** What the first pass works on. */
export interface SlotKeys {
  /** [B, T, Hq, K] */
  readonly query: tf.Tensor;
  /** [B, T, H, K] */
  readonly key: tf.Tensor;
  /** [B, T, H, M] */
  readonly write: tf.Tensor;
  /** [B, T, H, M] */
  readonly logDecay: tf.Tensor;
  /** [B, H, M, K] */
  readonly keySlots: tf.Tensor;
}

/**
 * The first pass: `K~_t = diag(exp(logDecay_t)) K~_{t-1} + s_t k_t^T`, `z_t = scale K~_t q_t`.
 *
 * The gated rule reads a state by its first axis, and this pass reads K~ by its second. But with `L = sum(u_t (K~_t^T p_t))` the gradient
 * of L by the queries p of the gated rule is `K~_t u_t`: the scores are that gradient for u = q, and their own gradients are the rule's
 * again, with the upstream of the scores as its queries.
 *
 * @returns scores z [B, T, Hq, M] and the key slots after the last token [B, H, M, K]
 */
export function slotScores(
  { query, key, write, logDecay, keySlots }: SlotKeys,
  scale: number,
  chunkSize: number,
): { scores: tf.Tensor4D; keySlots: tf.Tensor4D } {
  const attributes = { updateRule: 'gated', scale, chunkSize } as const;
  const [batch, length, queryHeads] = query.shape as [number, number, number];
  const scoreShape = [batch, length, queryHeads, write.shape[3]!];
  const pass = tf.customGrad((...args) => {
    const save = args.pop() as tf.GradSaveFunc;
    const [q, k, s, a, before] = args as tf.Tensor[] as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
    const nothing = tf.zeros(scoreShape);
    const inputs = { query: nothing, key: s, value: k, logDecay: a, state: before };
    const scores = linearAttentionKernel.runGradient(inputs, { output: q, state: tf.zerosLike(before) }, attributes).query!;
    const after = linearAttentionKernel.run(inputs, attributes).state;
    const packed = pack(scores, after);
    // last of all, since what is saved stays when a later step throws
    save([q, k, s, a, before]);
    return {
      // one tensor carries both results: a custom gradient has one output
      value: packed,
      gradFunc: (upstream: tf.Tensor, saved: tf.Tensor[]) => {
        const [q, k, s, a, before] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
        const [dScores, dAfter] = unpack(upstream, scoreShape, before.shape);
        const inputs = { query: dScores, key: s, value: k, logDecay: a, state: before };
        const found = linearAttentionKernel.runGradient(inputs, { output: q, state: dAfter }, attributes);
        const dQuery = linearAttentionKernel.run(inputs, attributes).output;
        return [dQuery, found.value!, found.key!, found.logDecay!, found.state!];
      },
    };
  });
  return tf.tidy(() => {
    const packed = pass(query, key, write, logDecay, keySlots) as tf.Tensor;
    const [scores, after] = unpack(packed, scoreShape, keySlots.shape);
    return { scores: scores as tf.Tensor4D, keySlots: after as tf.Tensor4D };
  });
}

function pack(scores: tf.Tensor, slots: tf.Tensor): tf.Tensor {
  return tf.concat([tf.reshape(scores, [scores.size]), tf.reshape(slots, [slots.size])], 0);
}

function unpack(packed: tf.Tensor, scoreShape: readonly number[], slotShape: readonly number[]): [tf.Tensor, tf.Tensor] {
  const size = scoreShape.reduce((a, b) => a * b, 1);
  return [
    tf.reshape(tf.slice(packed, [0], [size]), [...scoreShape]),
    tf.reshape(tf.slice(packed, [size], [packed.size - size]), [...slotShape]),
  ];
}
