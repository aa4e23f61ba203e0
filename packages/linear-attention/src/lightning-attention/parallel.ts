import { keepValid } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { parallelForm as allProduct } from '../linear-attention/parallel.ts';
import { parallelForm as decayedProduct } from '../retention/parallel.ts';
import type { Decayed, DecayedCall, DecayedTensors } from '../retention/parallel.ts';

/** The parallel form: causal `O = ((Q K^T) * M) V` with `M_nm = exp(-s (n - m))`, lightning attention 1; noncausal `O = Q (K^T V)`, linear in T. */
export function parallelForm(tensors: DecayedTensors, call: DecayedCall): Decayed {
  if (!call.noncausal) return decayedProduct(tensors, call);
  const { scale, mask = null } = call;
  return tf.tidy(() => {
    const [query, value] = [tf.mul(tensors.query, scale) as tf.Tensor4D, tensors.value as tf.Tensor4D];
    const { output, memory } = allProduct({ query, key: keepValid(tensors.key as tf.Tensor4D, mask), value }, 'all');
    return { output: keepValid(output, mask), memory };
  });
}
