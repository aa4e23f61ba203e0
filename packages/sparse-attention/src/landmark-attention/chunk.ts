import * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention, tidy } from '@seqloom/core';
import type { PartialAttention } from '@seqloom/core';
import { insideBlocks, listAttention } from '../blocks/list-attention.ts';
import type { Heads } from '../blocks/list-attention.ts';
import { groupedScores } from '../blocks/selection.ts';
import { blockRotation } from './block-rotation.ts';
import type { BlockRotation } from './block-rotation.ts';
import { groupedSoftmax } from './grouped-softmax.ts';
import type { LandmarkSettings } from './landmark-attention.ts';
import { bestBlocks, retrieve } from './retrieval.ts';

/** Complete blocks taken apart: ordinary tokens [B, E, l - 1, G, D] and landmarks [B, E, G, D]. */
function takeApart(x: tf.Tensor, blocks: number, blockLength: number): { ordinary: tf.Tensor5D; landmarks: tf.Tensor4D } {
  const [batch, , groups, width] = x.shape as [number, number, number, number];
  const whole = tf.slice(x, [0, 0, 0, 0], [batch, blocks * blockLength, groups, width]);
  const rows = tf.reshape(whole, [batch, blocks, blockLength, groups * width]);
  const [ordinary, landmarks] = tf.split(rows, [blockLength - 1, 1], 2) as [tf.Tensor, tf.Tensor];
  return {
    ordinary: tf.reshape(ordinary, [batch, blocks, blockLength - 1, groups, width]),
    landmarks: tf.reshape(landmarks, [batch, blocks, groups, width]),
  };
}

/** The chunk form: a whole sequence, either with all earlier blocks or with those that each query retrieves. */
export function chunkForm({ query, key, value }: Heads, settings: LandmarkSettings): tf.Tensor4D {
  const { blockLength, retrieved, rotaryBase, scale } = settings;
  const [batch, length, groups, width] = key.shape as [number, number, number, number];
  const rotation = blockRotation(width, rotaryBase, blockLength);
  const positions = tf.reshape(tf.range(0, length, 1, 'float32'), [1, length]);
  const turn = (x: tf.Tensor): tf.Tensor => rotation?.insideBlock(x, positions) ?? x;
  const heads = { query: turn(query), key: turn(key), value };
  const own = insideBlocks(heads, { block: blockLength, scale, hideLast: true });
  // the last block is nobody's earlier block
  const earlier = Math.ceil(length / blockLength) - 1;
  if (earlier === 0) return own.output as tf.Tensor4D;
  const keys = takeApart(heads.key, earlier, blockLength);
  const values = takeApart(value, earlier, blockLength).ordinary;
  if (retrieved === null)
    return everyBlock(heads.query, own, { key: keys.ordinary, landmarks: keys.landmarks, value: values }, rotation, scale);
  const seekers = { query: heads.query, landmarks: keys.landmarks, own: tf.floor(tf.div(positions, blockLength)), rotation };
  const inRow = (x: tf.Tensor5D): tf.Tensor => tf.reshape(x, [batch, earlier * (blockLength - 1), groups, x.shape[4]]);
  const [ordinaryKey, ordinaryValue] = [inRow(keys.ordinary), inRow(values)];
  const read = (copies: tf.Tensor, blocks: tf.Tensor): tf.Tensor =>
    listAttention({ query: copies, key: ordinaryKey, value: ordinaryValue }, blocks, { keyBlock: blockLength - 1, scale }).output;
  return retrieve(seekers, own, bestBlocks(seekers, retrieved, settings), read, settings);
}

/** The grouped softmax of training, one block of queries at a time, so that memory without gradients stays linear in T. */
function everyBlock(
  query: tf.Tensor,
  own: PartialAttention,
  { key, landmarks, value }: { readonly key: tf.Tensor5D; readonly landmarks: tf.Tensor4D; readonly value: tf.Tensor5D },
  rotation: BlockRotation | null,
  scale: number,
): tf.Tensor4D {
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  const [, earlier, inside, groups, valueDim] = value.shape;
  const blockLength = inside + 1;
  const rowsOf = (x: tf.Tensor, from: number, count: number): tf.Tensor => {
    const flat = tf.reshape(x, [batch, x.shape[1]!, -1]);
    return tf.reshape(tf.slice(flat, [0, from, 0], [batch, count, -1]), [batch, count, ...x.shape.slice(2)]);
  };
  const pieces = [tf.slice(own.output, [0, 0, 0, 0], [batch, Math.min(length, blockLength), heads, valueDim])];
  for (let block = 1; block <= earlier; block++) {
    const from = block * blockLength;
    const count = Math.min(blockLength, length - from);
    const piece = tidy(() => {
      // every query once for each of the earlier blocks
      const asked = tf.reshape(rowsOf(query, from, count), [batch, 1, count, heads * width]);
      let copies: tf.Tensor = tf.reshape(tf.add(asked, tf.zeros([batch, block, count, 1])), [batch, block * count, heads, width]);
      if (rotation) {
        const steps = tf.add(tf.reshape(tf.range(block, 0, -1, 'float32'), [block, 1]), tf.zeros([block, count]));
        copies = rotation.byBlocks(copies, tf.reshape(steps, [1, block * count]), earlier);
      }
      copies = tf.reshape(copies, [batch * block, count, heads, width]);
      const { output } = softmaxAttention(
        {
          query: copies,
          key: tf.reshape(rowsOf(key, 0, block), [batch * block, inside, groups, width]),
          value: tf.reshape(rowsOf(value, 0, block), [batch * block, inside, groups, valueDim]),
        },
        { scale },
      );
      const products = groupedScores(copies, tf.reshape(rowsOf(landmarks, 0, block), [batch * block, 1, groups, width])); // [B c, H, m, 1]
      const logits = tf.transpose(tf.reshape(tf.mul(products, scale), [batch, block, heads, count]), [0, 1, 3, 2]);
      const mine = { output: rowsOf(own.output, from, count), logSumExp: rowsOf(own.logSumExp, from, count) };
      return groupedSoftmax(mine, tf.reshape(output, [batch, block, count, heads, valueDim]), logits);
    });
    pieces.push(piece);
  }
  return tf.concat(pieces, 1) as tf.Tensor4D;
}
