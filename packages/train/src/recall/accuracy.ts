import { disposeState, keepState } from '@seqloom/core';
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
 * @param options `piece`: tokens per forward, with the state carried on, so that long sequences need little memory; default: all at once
 */
export async function accuracy(
  model: LogitModel,
  batches: AsyncIterable<TokenBatch> | Iterable<TokenBatch>,
  options: { readonly piece?: number } = {},
): Promise<Accuracy> {
  let [correct, tokens] = [0, 0];
  for await (const batch of batches) {
    const { labels, length } = batch;
    let state: State | undefined;
    try {
      for (let from = 0; from < length; from += options.piece ?? length) {
        const width = Math.min(options.piece ?? length, length - from);
        const { best, next } = answersTo(model, batch, from, width, state);
        if (state) disposeState(state);
        state = next;
        const answers = await best.data().finally(() => best.dispose());
        for (const [at, answer] of answers.entries()) {
          const label = labels[Math.floor(at / width) * length + from + (at % width)]!;
          if (label < 0) continue;
          tokens++;
          if (answer === label) correct++;
        }
        await breathe();
      }
    } finally {
      if (state) disposeState(state);
    }
  }
  return { accuracy: correct / tokens, correct, tokens };
}

/** The likeliest ids [rows, width] of a piece, and the state after it; both are the caller's. */
function answersTo(
  model: LogitModel,
  { ids, rows, length }: TokenBatch,
  from: number,
  width: number,
  state: State | undefined,
): { best: tf.Tensor; next: State } {
  let next: State | undefined;
  const best = tf.tidy(() => {
    const some = Int32Array.from({ length: rows * width }, (_, at) => ids[Math.floor(at / width) * length + from + (at % width)]!);
    const result = model.forward(tf.tensor2d(some, [rows, width], 'int32'), state ? { state } : {});
    next = keepState(result.state);
    return tf.argMax(result.logits, 2);
  });
  return { best, next: next! };
}
