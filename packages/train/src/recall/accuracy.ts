import type { State } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { breathe } from '../breathe.ts';
import type { TokenBatch } from '../data/windows.ts';

/** A model that gives logits; `HybridModel` is one. */
export interface LogitModel {
  /**
   * @param ids int32 [B, T]
   * @param options `state`: what the call before returned, to go on from there
   * @returns logits [B, T, V] and the state after them
   */
  forward(ids: tf.Tensor, options?: { readonly state?: State }): { readonly logits: tf.Tensor; readonly state: State };
}

/** Result of `accuracy`. */
export interface Accuracy {
  /** share of the labels that were the largest logit, from 0 to 1; NaN when there was none */
  readonly accuracy: number;
  readonly correct: number;
  /** labels that counted */
  readonly tokens: number;
}

/**
 * Share of the labelled positions at which the largest logit is the label's; ties go to the lower id.
 *
 * @param model stays as it is
 * @param batches for example `data.evaluation(32)`
 */
export async function accuracy(model: LogitModel, batches: AsyncIterable<TokenBatch> | Iterable<TokenBatch>): Promise<Accuracy> {
  let [correct, tokens] = [0, 0];
  for await (const { ids, labels, rows, length } of batches) {
    const best = tf.tidy(() => tf.argMax(model.forward(tf.tensor2d(ids, [rows, length], 'int32')).logits, 2));
    try {
      const answers = await best.data();
      for (const [at, label] of labels.entries()) {
        if (label < 0) continue;
        tokens++;
        if (answers[at] === label) correct++;
      }
    } finally {
      best.dispose();
    }
    await breathe();
  }
  return { accuracy: correct / tokens, correct, tokens };
}
