import * as tf from '@tensorflow/tfjs-core';
import type { EvaluationOptions, TokenBatch, TrainingData } from './data/windows.ts';
import type { TrainableModel } from './model.ts';
import { breathe } from './breathe.ts';

/** Result of an evaluation. */
export interface Evaluation {
  /** mean nats per token */
  readonly loss: number;
  /** `loss / ln 2` per byte of text */
  readonly bitsPerByte: number;
  /** tokens that were scored */
  readonly tokens: number;
}

/** Options of `evaluate`. */
export interface EvaluateOptions extends EvaluationOptions {
  /** windows per forward, default 16 */
  readonly rows?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Mean loss on the held-out part of the data, each token scored once and with context before it.
 *
 * @returns nats per token and bits per byte; NaN when aborted before the first window
 */
export async function evaluate(model: TrainableModel, data: TrainingData, options: EvaluateOptions = {}): Promise<Evaluation> {
  let sum = 0;
  let tokens = 0;
  for await (const batch of data.evaluation(options.rows ?? 16, options)) {
    if (options.signal?.aborted) break;
    const total = tf.tidy(() => batchLoss(model, batch, false));
    try {
      sum += (await total.data())[0]!;
    } finally {
      total.dispose();
    }
    tokens += batch.tokens;
    await breathe();
  }
  const loss = sum / tokens;
  return { loss, bitsPerByte: bitsPerByte(loss, data.heldOutBytesPerToken), tokens };
}

/** Summed loss of one batch; to be run inside a tidy. */
export function batchLoss(model: TrainableModel, batch: TokenBatch, training: boolean): tf.Scalar {
  const shape: [number, number] = [batch.rows, batch.length];
  const ids = tf.tensor2d(batch.ids, shape, 'int32');
  const labels = tf.tensor2d(batch.labels, shape, 'int32');
  return model.loss(ids, labels, { training }).sum;
}

/** Nats per token as bits per byte. */
export function bitsPerByte(nats: number, bytesPerToken: number): number {
  return nats / Math.LN2 / bytesPerToken;
}
