import * as tf from '@tensorflow/tfjs-core';
import { gatherRowsKernel, scatterAddRowsKernel, stopGradient, topKKernel } from '@seqloom/core';

/** How experts are chosen and weighted. */
export interface RoutingOptions {
  /** k, experts per token */
  readonly topK: number;
  /** s from the logits, default softmax */
  readonly score?: 'softmax' | 'sigmoid' | undefined;
  /** G equal groups of neighbouring experts, default 1 */
  readonly groups?: number | undefined;
  /** groups that a token may choose from, default all */
  readonly groupTopK?: number | undefined;
  /** divide the weights of a token by their sum, default true */
  readonly renormalise?: boolean | undefined;
  /** factor on the weights, default 1 */
  readonly scale?: number | undefined;
}

/** Where tokens go. */
export interface Routing {
  /** int32 [N, k], the most wanted expert first; -1 for padding */
  readonly experts: tf.Tensor2D;
  /** [N, k], through which gradients reach the logits */
  readonly weights: tf.Tensor2D;
  /** s [N, E] */
  readonly scores: tf.Tensor2D;
}

// below every score, and no infinity, which shaders may fold away
const EXCLUDED = -1e30;

/** Experts and weights of each token; settings are complete and checked. */
export function route(
  logits: tf.Tensor2D,
  selectionBias: tf.Tensor | null,
  valid: tf.Tensor | null,
  {
    topK,
    score,
    groups,
    groupTopK,
    renormalise,
    scale,
  }: { readonly [Key in keyof Required<RoutingOptions>]: NonNullable<RoutingOptions[Key]> },
): Routing {
  const [rows, count] = logits.shape;
  const keep = valid && tf.reshape(valid, [rows, 1]);
  const known = keep ? keepRows(logits, keep) : logits;
  const scores = (score === 'softmax' ? tf.softmax(known) : tf.sigmoid(known)) as tf.Tensor2D;
  // which experts are best is a constant of the loss
  const fixed = stopGradient(scores);
  const biased = selectionBias ? (tf.add(fixed, selectionBias) as tf.Tensor2D) : fixed;
  const choice = groupTopK < groups ? limitGroups(biased, groups, groupTopK, selectionBias !== null) : biased;
  const chosen = stopGradient(topKKernel.run({ input: choice }, { k: topK }).indices) as tf.Tensor2D;
  const starts = tf.mul(tf.range(0, rows, 1, 'int32'), tf.scalar(count, 'int32'));
  const places = tf.reshape(tf.add(tf.reshape(starts, [rows, 1]), chosen), [rows * topK]);
  // of the scores without bias
  const own = tf.reshape(gatherRowsKernel.run({ table: tf.reshape(scores, [rows * count, 1]), indices: places }, {}).rows, [rows, topK]);
  const shares = renormalise ? tf.div(own, tf.add(tf.sum(own, 1, true), 1e-20)) : own;
  const weights = (scale === 1 ? shares : tf.mul(shares, scale)) as tf.Tensor2D;
  return { experts: keep ? without(chosen, keep) : chosen, weights, scores };
}

/** Zeros for padding, whose logits may be no numbers. */
export function keepRows(logits: tf.Tensor2D, keep: tf.Tensor): tf.Tensor2D {
  const zeros = tf.zerosLike(logits);
  return tf.where(tf.greater(tf.add(keep, zeros), 0.5), logits, zeros);
}

/** The experts where `keep` [N, 1] or [N, k] is 1, -1 where it is 0. */
function without(experts: tf.Tensor2D, keep: tf.Tensor): tf.Tensor2D {
  // (e + 1) keep - 1, exact in integers
  const kept = tf.mul(tf.add(experts, tf.onesLike(experts)), tf.cast(tf.greater(keep, 0.5), 'int32'));
  return tf.sub(kept, tf.onesLike(experts)) as tf.Tensor2D;
}

/** Pushes the experts of all but the best groups out of reach; a group is worth its two best experts when there is a bias, else its best. */
function limitGroups(choice: tf.Tensor2D, groups: number, groupTopK: number, biased: boolean): tf.Tensor2D {
  const [rows, count] = choice.shape;
  const size = count / groups;
  const grouped = tf.reshape(choice, [rows * groups, size]);
  const best = topKKernel.run({ input: grouped }, { k: biased ? Math.min(2, size) : 1 }).values;
  const worth = tf.reshape(tf.sum(best, 1), [rows, groups]);
  const { indices } = topKKernel.run({ input: worth }, { k: groupTopK });
  const hits = tf.equal(tf.reshape(indices, [rows, groupTopK, 1]), tf.reshape(tf.range(0, groups, 1, 'int32'), [1, 1, groups]));
  const kept = tf.reshape(tf.sum(tf.cast(hits, 'float32'), 1), [rows * groups, 1]);
  const open = tf.greater(tf.add(kept, tf.zeros([rows * groups, size])), 0.5);
  return tf.reshape(tf.where(open, grouped, tf.fill([rows * groups, size], EXCLUDED)), [rows, count]);
}

/** How many tokens chose each expert, -1 left out: [E]; with `parts` apart for that many equal runs of rows, [parts, E]. */
export function countLoads(experts: tf.Tensor2D, count: number, parts = 1): tf.Tensor2D {
  const [rows, topK] = experts.shape;
  const size = rows * topK;
  const flat = tf.reshape(experts, [size]);
  const ones = tf.reshape(tf.cast(tf.greaterEqual(flat, tf.zerosLike(flat)), 'float32'), [size, 1]);
  const first = tf.maximum(flat, tf.zerosLike(flat));
  const starts = tf.reshape(tf.mul(tf.range(0, parts, 1, 'int32'), tf.scalar(count, 'int32')), [parts, 1]);
  const indices = parts === 1 ? first : tf.reshape(tf.add(tf.reshape(first, [parts, size / parts]), starts), [size]);
  return tf.reshape(scatterAddRowsKernel.run({ rows: ones, indices }, { rowCount: parts * count }).table, [parts, count]);
}

/** Takes the experts from the tokens that find all of their places taken, tokens and their choices in order. */
export function limitCapacity(experts: tf.Tensor2D, count: number, factor: number): tf.Tensor2D {
  const [rows, topK] = experts.shape;
  const size = rows * topK;
  const places = Math.ceil((factor * size) / count);
  const each = tf.reshape(tf.range(0, count, 1, 'int32'), [1, count]);
  const hits = tf.cast(tf.equal(tf.reshape(experts, [size, 1]), each), 'float32'); // [N k, E]
  // those before it in the queue of its expert
  const before = tf.sum(tf.mul(tf.cumsum(hits, 0, true), hits), 1);
  return without(experts, tf.reshape(tf.cast(tf.less(before, places), 'float32'), [rows, topK]));
}
