import * as tf from '@tensorflow/tfjs-core';
import { gatherRowsKernel, stopGradient, tidy } from '@seqloom/core';
import type { PartialAttention } from '@seqloom/core';
import { earlierBlocks, groupedScores, selectBlocks } from '../blocks/selection.ts';
import type { BlockRotation } from './block-rotation.ts';
import { groupedSoftmax } from './grouped-softmax.ts';
import type { LandmarkSettings } from './landmark-attention.ts';

/** Queries that look for earlier blocks. */
export interface Seekers {
  /** [B, T, H, D], turned by their places in their blocks */
  readonly query: tf.Tensor;
  /** [B, N, G, D], keys of the landmarks of blocks 0 to N - 1, turned by their places in their blocks */
  readonly landmarks: tf.Tensor;
  /** [1 or B, T], own block of each query, at most N */
  readonly own: tf.Tensor;
  readonly rotation: BlockRotation | null;
}

/** Earlier blocks of each query, and how many blocks away they are taken to stand. */
export interface Retrieved {
  /** whole numbers in float32 [B, H, T, K], -1 for none */
  readonly blocks: tf.Tensor;
  /** float32 [B, H, T, K] */
  readonly distance: tf.Tensor;
}

/** All earlier blocks, at their true distance. */
export function allBlocks({ query, landmarks, own }: Seekers): Retrieved {
  return tidy(() => {
    const [batch, length, heads] = query.shape as [number, number, number];
    const count = landmarks.shape[1]!;
    const number = tf.add(tf.range(0, count, 1, 'float32'), tf.zeros([batch, heads, length, count]));
    const visible = tf.expandDims(earlierBlocks(own, count), 1); // [1 or B, 1, T, N]
    const blocks = tf.sub(tf.mul(tf.add(number, 1), visible), 1);
    return { blocks, distance: trueDistance(own, number, visible) };
  });
}

/** How far before the own block, 0 for blocks that are not visible. */
function trueDistance(own: tf.Tensor, blocks: tf.Tensor, visible: tf.Tensor): tf.Tensor {
  const place = tf.reshape(own, [own.shape[0]!, 1, own.shape[1]!, 1]);
  return tf.mul(tf.sub(place, blocks), visible);
}

/** The blocks whose landmarks score best, per head and query, without gradient. */
export function bestBlocks(seekers: Seekers, retrieved: number, { positions }: LandmarkSettings): Retrieved {
  const { own, rotation } = seekers;
  const [query, landmarks] = [stopGradient(seekers.query), stopGradient(seekers.landmarks)];
  return tidy(() => {
    const count = landmarks.shape[1]!;
    const stingy = positions === 'stingy';
    const number = tf.range(0, count, 1, 'float32');
    const before = earlierBlocks(own, count); // [1 or B, T, N]
    const distant = (steps: tf.Tensor, most: number): tf.Tensor => (rotation ? rotation.byBlocks(query, steps, most) : query);
    const placed = rotation ? rotation.byBlocks(landmarks, tf.reshape(number, [1, count]), count) : landmarks;
    let scores: tf.Tensor = groupedScores(distant(own, count), placed); // [B, H, T, N]
    if (stingy && rotation) {
      // blocks beyond the last k share one place, k + 1 blocks away
      const far = groupedScores(distant(tf.fill(own.shape, retrieved + 1), retrieved + 1), landmarks);
      const near = tf.expandDims(within(tf.sub(tf.expandDims(own, 2), number), retrieved), 1);
      scores = tf.add(tf.mul(scores, near), tf.mul(far, tf.sub(1, near)));
    }
    const blocks = selectBlocks(scores, { visible: tf.expandDims(before, 1), count: retrieved });
    const valid = tf.clipByValue(tf.add(blocks, 1), 0, 1);
    const actual = trueDistance(own, blocks, valid);
    return { blocks, distance: stingy ? stingyDistance(blocks, valid, actual) : actual };
  });
}

/** 1 where a whole number is at most a bound, else 0. */
function within(numbers: tf.Tensor, bound: tf.Tensor | number): tf.Tensor {
  return tf.clipByValue(tf.sub(tf.add(bound, 1), numbers), 0, 1);
}

/** k + 1 minus the slot: a block's rank among the retrieved ones, one more for the last k blocks. */
function stingyDistance(chosen: tf.Tensor, valid: tf.Tensor, distance: tf.Tensor): tf.Tensor {
  const usable = tf.sum(valid, -1, true); // k, or fewer at the start
  const many = chosen.shape.at(-1)!;
  // flat rows: tfjs-webgpu broadcasts at most four axes
  const [here, there] = [tf.reshape(chosen, [-1, many, 1]), tf.reshape(chosen, [-1, 1, many])];
  const smaller = tf.clipByValue(tf.sub(here, there), 0, 1); // [.., K, K]
  const rank = tf.reshape(tf.sum(tf.mul(smaller, tf.reshape(valid, [-1, 1, many])), 2), chosen.shape);
  const slot = tf.add(rank, within(distance, usable));
  return tf.mul(tf.sub(tf.add(usable, 1), slot), valid);
}

/**
 * Attention to the own block and to retrieved blocks through their landmarks.
 *
 * @param seekers queries and landmarks
 * @param own attention to the own block
 * @param found blocks [B, H, T, K] and their distances
 * @param read attention of copies of the queries [B, K T, H, D] to the ordinary tokens of one block each, [B, H, K T, 1]
 * @param settings scale and positions
 * @returns [B, T, H, Dv]
 */
export function retrieve(
  { query, landmarks, rotation }: Seekers,
  own: PartialAttention,
  found: Retrieved,
  read: (copies: tf.Tensor, blocks: tf.Tensor) => tf.Tensor,
  { scale, retrieved }: LandmarkSettings,
): tf.Tensor4D {
  return tidy(() => {
    const [batch, length, heads, width] = query.shape as [number, number, number, number];
    const [, count, groups] = landmarks.shape as [number, number, number];
    const many = found.blocks.shape[3]!;
    const rows = many * length;
    const copied = tf.add(tf.reshape(query, [batch, 1, length, heads * width]), tf.zeros([batch, many, length, 1]));
    let copies: tf.Tensor = tf.reshape(copied, [batch, rows * heads, 1, width]);
    if (rotation) {
      const steps = tf.reshape(tf.transpose(found.distance, [0, 3, 2, 1]), [batch, rows * heads]);
      copies = rotation.byBlocks(copies, steps, Math.max(count, (retrieved ?? 0) + 1));
    }
    copies = tf.reshape(copies, [batch, rows, heads, width]);
    const blocks = tf.transpose(found.blocks, [0, 3, 2, 1]); // [B, K, T, H]
    // query head h of row b meets key head floor(h G / H)
    const first = Float32Array.from({ length: batch * heads }, (_, n) => {
      return Math.floor(n / heads) * count * groups + Math.floor(((n % heads) * groups) / heads);
    });
    const entry = tf.add(tf.mul(tf.relu(blocks), groups), tf.tensor(first, [batch, 1, 1, heads]));
    const indices = tf.cast(tf.reshape(entry, [batch * rows * heads]), 'int32');
    const table = tf.reshape(landmarks, [batch * count * groups, width]);
    const met = tf.reshape(gatherRowsKernel.run({ table, indices }, {}).rows, [batch, rows, heads, width]);
    const products = tf.reshape(tf.mul(tf.sum(tf.mul(copies, met), 3), scale), [batch, many, length, heads]);
    const hidden = tf.mul(tf.minimum(blocks, 0), 1e30);
    const lists = tf.reshape(tf.transpose(found.blocks, [0, 1, 3, 2]), [batch, heads, rows, 1]);
    const outputs = read(copies, lists);
    return groupedSoftmax(own, tf.reshape(outputs, [batch, many, length, heads, outputs.shape[3]!]), tf.add(products, hidden));
  });
}
