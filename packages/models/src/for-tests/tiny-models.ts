import { Random } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import type { HybridConfig } from '../config.ts';
import { HybridModel } from '../hybrid-model.ts';

/** Random ids [rows, length] of a tiny vocabulary, owned by the caller. */
export function tokenIds(rows: number, length: number, seed = 1, vocabSize = 11): tf.Tensor2D {
  const random = new Random(seed);
  return tf.tensor2d(
    Int32Array.from({ length: rows * length }, () => random.below(vocabSize)),
    [rows, length],
    'int32',
  );
}

/** Builds a model, uses it and disposes it, also when the use throws. */
export function withModel<T>(config: HybridConfig, use: (model: HybridModel) => T): T {
  const model = new HybridModel(config);
  try {
    return use(model);
  } finally {
    model.dispose();
  }
}
