import * as tf from '@tensorflow/tfjs-core';
import { gatherRows, Random, scatterAddRows, stopGradient, tidy, topKKernel } from '@seqloom/core';

/** Vectors of length 1 along the last axis, `x / max(|x|, 1e-12)`. */
export function unitVectors<T extends tf.Tensor>(x: T): T {
  return tidy(() => tf.mul(x, tf.rsqrt(tf.maximum(tf.sum(tf.square(x), -1, true), 1e-24))));
}

/**
 * Cosines of tokens and centroids, `s_tc = x̂_t · μ_c`, detached: routing is a choice.
 *
 * @param x [B, T, H, D]
 * @param centroids [H, C, D]
 * @returns [B, H, T, C]
 */
export function similarities(x: tf.Tensor, centroids: tf.Tensor): tf.Tensor4D {
  return tidy(() => {
    const [batch, length, heads, width] = x.shape as [number, number, number, number];
    const rows = tf.reshape(tf.transpose(unitVectors(stopGradient(x)), [2, 0, 1, 3]), [heads, batch * length, width]);
    const cosines = tf.matMul(rows, tf.transpose(stopGradient(centroids), [0, 2, 1])); // [H, B T, C]
    return tf.transpose(tf.reshape(cosines, [heads, batch, length, centroids.shape[1]!]), [1, 0, 2, 3]);
  });
}

/** The nearest centroid of each token, of equally near ones the first: [B, H, T] int32 from similarities [B, H, T, C]. */
export function nearestClusters(similarity: tf.Tensor): tf.Tensor3D {
  return tidy(() => {
    const { indices } = topKKernel.run({ input: similarity }, { k: 1 });
    return tf.reshape(indices, similarity.shape.slice(0, 3) as [number, number, number]);
  });
}

/** Tokens that move centroids. */
export interface RoutedPoints {
  /** [B, T, H, D], each is a set of tokens (queries, keys) that share the centroids */
  readonly points: readonly tf.Tensor[];
  /** [H, C, D] */
  readonly centroids: tf.Tensor;
  /** [B, T], 1 for tokens and 0 for padding, one for each set */
  readonly masks?: readonly (tf.Tensor | null | undefined)[] | undefined;
}

/**
 * One step of online k-means: `μ_c <- λ μ_c + (1 - λ) n_c`, n_c the direction of the sum of unit vectors nearest to μ_c.
 *
 * A cluster to which nothing belongs keeps its centroid.
 *
 * @param routed tokens and centroids; no gradient passes
 * @param decay λ, 0 for plain k-means, at most 1
 * @returns new centroids [H, C, D], owned by the caller
 */
export function movedCentroids({ points, centroids, masks = [] }: RoutedPoints, decay: number): tf.Tensor3D {
  return tidy(() => {
    const [heads, count, width] = centroids.shape as [number, number, number];
    const slots = heads * count + 1;
    const sums = points.map((x, set) => {
      const [batch, length] = x.shape as [number, number];
      const cluster = tf.cast(nearestClusters(similarities(x, centroids)), 'float32'); // [B, H, T]
      let slot: tf.Tensor = tf.add(cluster, tf.reshape(tf.range(0, heads * count, count, 'float32'), [1, heads, 1]));
      const mask = masks[set];
      // padding goes to a slot of its own
      if (mask) slot = tf.add(slots - 1, tf.mul(tf.sub(slot, slots - 1), tf.reshape(mask, [batch, 1, length])));
      let rows: tf.Tensor = unitVectors(stopGradient(x));
      if (mask) rows = tf.mul(rows, tf.reshape(mask, [batch, length, 1, 1]));
      const flat = tf.reshape(tf.transpose(rows, [0, 2, 1, 3]), [batch * heads * length, width]);
      return scatterAddRows({ rows: flat, indices: tf.cast(tf.reshape(slot, [-1]), 'int32') }, { rowCount: slots });
    });
    const total = tf.slice(
      sums.reduce((a, b) => tf.add(a, b)),
      [0, 0],
      [slots - 1, width],
    );
    const found = tf.sign(tf.max(tf.abs(total), 1, true)); // 0 where nothing belongs
    const old = tf.reshape(stopGradient(centroids), [slots - 1, width]);
    const target = tf.add(unitVectors(total), tf.mul(tf.sub(1, found), old));
    return tf.reshape(tf.add(tf.mul(old, decay), tf.mul(target, 1 - decay)), [heads, count, width]);
  });
}

/**
 * Centroids by k-means, from random tokens on: how the reference starts on its first batch.
 *
 * @param points sets of tokens [B, T, H, D]
 * @param settings number of clusters, iterations (default 10) and seed (default 0) of the random choice
 * @returns centroids [H, C, D], owned by the caller
 */
export function fittedCentroids(
  points: readonly tf.Tensor[],
  settings: { readonly clusters: number; readonly iterations?: number; readonly seed?: number },
): tf.Tensor3D {
  const { clusters, iterations = 10, seed = 0 } = settings;
  return tidy(() => {
    const [, , heads, width] = points[0]!.shape as [number, number, number, number];
    const perHead = points.map((x) => tf.reshape(tf.transpose(unitVectors(stopGradient(x)), [2, 0, 1, 3]), [heads, -1, width]));
    const all = perHead.length === 1 ? perHead[0]! : tf.concat(perHead, 1);
    const count = all.shape[1]!;
    const random = new Random(seed);
    const chosen = Array.from({ length: heads }, (_, head) => {
      // with too few tokens some are taken twice
      const left = Array.from({ length: count }, (__, token) => token);
      const pick = (): number => (left.length > 0 ? left.splice(random.word() % left.length, 1)[0]! : random.word() % count);
      return Array.from({ length: clusters }, () => head * count + pick());
    }).flat();
    const table = tf.reshape(all, [heads * count, width]);
    let centroids = tf.reshape(tf.gatherND(table, tf.tensor2d(chosen, [chosen.length, 1], 'int32')), [heads, clusters, width]);
    for (let step = 0; step < iterations; step++) centroids = movedCentroids({ points, centroids }, 0);
    return centroids as tf.Tensor3D;
  });
}

/**
 * The commitment loss `β mean((x̂_t - μ_c(t))²)` over all tokens and channels, padding left out, which draws tokens to their centroids.
 *
 * @param routed tokens, centroids and masks; gradients reach the tokens alone
 * @param weight β, default 1e-4
 * @returns a scalar, owned by the caller
 */
export function commitmentLoss({ points, centroids, masks = [] }: RoutedPoints, weight = 1e-4): tf.Scalar {
  return tidy(() => {
    const [heads, count, width] = centroids.shape as [number, number, number];
    const table = tf.reshape(stopGradient(centroids), [heads * count, width]);
    const sums = points.map((x, set) => {
      const cluster = tf.cast(nearestClusters(similarities(x, centroids)), 'float32'); // [B, H, T]
      // tfjs-webgpu cannot transpose integers, nor a fresh cast of them
      const row = tf.transpose(tf.add(cluster, tf.reshape(tf.range(0, heads * count, count, 'float32'), [1, heads, 1])), [0, 2, 1]);
      const own = tf.reshape(gatherRows({ table, indices: tf.cast(tf.reshape(row, [-1]), 'int32') }), x.shape);
      const squares = tf.square(tf.sub(unitVectors(x), own));
      const mask = masks[set];
      return tf.sum(mask ? tf.mul(squares, tf.reshape(mask, [...x.shape.slice(0, 2), 1, 1])) : squares);
    });
    const sizes = points.map((x, set) => (masks[set] ? tf.mul(tf.sum(masks[set]), heads * width) : tf.scalar(x.size)));
    return tf.div(tf.mul(tf.addN(sums), weight), tf.maximum(tf.addN(sizes), 1)) as tf.Scalar;
  });
}
