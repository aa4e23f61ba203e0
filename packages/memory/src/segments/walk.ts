import * as tf from '@tensorflow/tfjs-core';
import { gatherRows } from '@seqloom/core';
import type { MixInput } from '@seqloom/core';
import { finishedSegments, phaseEntry } from './phase.ts';

/** Tokens of one segment, or of a part of it, that are run together. */
export interface SegmentPiece {
  /** [B, W, D], padding on the right, where values are finite but arbitrary */
  readonly x: tf.Tensor3D;
  /** [B, W], 1 for tokens; null when there is no padding */
  readonly valid: tf.Tensor2D | null;
  /** [B], tokens per row; null when there is no padding */
  readonly lengths: tf.Tensor1D | null;
  /** the piece begins a segment: of all rows, of none, or [B] 1 where it does */
  readonly starts: boolean | tf.Tensor1D;
  /** the piece ends a segment: of all rows, of none, or [B] 1 where it does */
  readonly ends: boolean | tf.Tensor1D;
  /** 0 for the first piece of the call */
  readonly index: number;
}

/** What a walk gives back. */
export interface SegmentWalk<Carry> {
  /** [B, T, E] */
  readonly output: tf.Tensor3D;
  readonly carry: Carry;
  /** the state entry `phase` after the call */
  readonly phase: tf.Tensor;
}

/**
 * Runs the tokens of a call segment by segment: segment s of a row holds its tokens s L to (s + 1) L - 1, whatever the calls were.
 *
 * Rows that stand at the same place of their segment, which the extent of `state.phase` says, run in pieces without padding. Rows that had
 * padding stand at places of their own, which the host never learns: then every piece is gathered per row and says by tensors where
 * segments begin and end.
 *
 * @param input x [B, T, D], state with `phase` and `position`, lengths [B] or null
 * @param segmentLength L
 * @param carry what goes from piece to piece
 * @param run runs one piece; its output [B, W, E] may hold anything at padding
 */
export function walkSegments<Carry>(
  input: Pick<MixInput, 'x' | 'state' | 'lengths'>,
  segmentLength: number,
  carry: Carry,
  run: (piece: SegmentPiece, carry: Carry) => { output: tf.Tensor3D; carry: Carry },
): SegmentWalk<Carry> {
  const { x, state, lengths } = input;
  const phase = state.phase!.shape[1]!;
  if (lengths !== null || phase >= segmentLength) return walkApart(input, segmentLength, carry, run);
  const [batch, length, width] = x.shape;
  const outputs: tf.Tensor3D[] = [];
  let held = carry;
  let place = phase;
  for (let at = 0, index = 0; at < length; index++) {
    const count = Math.min(segmentLength - place, length - at);
    const result = run(
      {
        x: tf.slice(x, [0, at, 0], [batch, count, width]),
        valid: null,
        lengths: null,
        starts: place === 0,
        ends: place + count === segmentLength,
        index,
      },
      held,
    );
    outputs.push(result.output);
    held = result.carry;
    at += count;
    place = (place + count) % segmentLength;
  }
  return { output: outputs.length === 1 ? outputs[0]! : tf.concat(outputs, 1), carry: held, phase: phaseEntry(batch, place) };
}

/** The walk where every row stands at its own place of its segment. */
function walkApart<Carry>(
  { x, state, lengths }: Pick<MixInput, 'x' | 'state' | 'lengths'>,
  segmentLength: number,
  carry: Carry,
  run: (piece: SegmentPiece, carry: Carry) => { output: tf.Tensor3D; carry: Carry },
): SegmentWalk<Carry> {
  const [batch, length, width] = x.shape;
  const total = lengths ?? (tf.fill([batch], length) as tf.Tensor1D);
  const place = tf.sub(state.position, tf.mul(finishedSegments(state.position, segmentLength), segmentLength)) as tf.Tensor1D;
  // a row that stands at the last place of a segment touches the most segments
  const count = Math.ceil((segmentLength + length - 1) / segmentLength);
  const wide = Math.min(segmentLength, length);
  const columns = tf.reshape(tf.range(0, wide), [1, wide]);
  const rows = tf.reshape(tf.range(0, batch), [batch, 1]);
  const table = tf.reshape(x, [batch * length, width]);
  const outputs: tf.Tensor3D[] = [];
  let held = carry;
  for (let index = 0; index < count; index++) {
    const border = tf.sub(index * segmentLength, place); // tokens of this call before the segment, if not negative
    const from = tf.relu(border);
    const left = tf.sub(tf.minimum(tf.add(border, segmentLength), total), from);
    const own = tf.relu(left) as tf.Tensor1D;
    const some = tf.cast(tf.greater(own, 0), 'float32');
    const at = tf.clipByValue(tf.add(tf.reshape(from, [batch, 1]), columns), 0, length - 1);
    const flat = tf.cast(tf.reshape(tf.add(tf.mul(rows, length), at), [batch * wide]), 'int32');
    const full = tf.cast(tf.greaterEqual(total, tf.add(border, segmentLength)), 'float32');
    const result = run(
      {
        x: tf.reshape(gatherRows({ table, indices: flat }), [batch, wide, width]),
        valid: tf.cast(tf.less(columns, tf.reshape(own, [batch, 1])), 'float32') as tf.Tensor2D,
        lengths: own,
        starts: tf.mul(some, tf.cast(tf.greaterEqual(border, 0), 'float32')) as tf.Tensor1D,
        ends: tf.mul(some, full) as tf.Tensor1D,
        index,
      },
      held,
    );
    outputs.push(result.output);
    held = result.carry;
  }
  return { output: joinApart(outputs, place, segmentLength, length), carry: held, phase: phaseEntry(batch, segmentLength) };
}

/** Puts the outputs of pieces [B, W, E] back to the order of the call's tokens. */
function joinApart(outputs: readonly tf.Tensor3D[], place: tf.Tensor1D, segmentLength: number, length: number): tf.Tensor3D {
  const [batch, wide, width] = outputs[0]!.shape;
  const time = tf.reshape(tf.range(0, length), [1, length]);
  const own = tf.reshape(place, [batch, 1]);
  const piece = finishedSegments(tf.add(own, time), segmentLength) as tf.Tensor;
  const column = tf.sub(time, tf.relu(tf.sub(tf.mul(piece, segmentLength), own)));
  const start = tf.mul(tf.reshape(tf.range(0, batch), [batch, 1]), outputs.length * wide);
  const flat = tf.cast(tf.reshape(tf.add(tf.add(start, tf.mul(piece, wide)), column), [batch * length]), 'int32');
  const table = tf.reshape(tf.concat([...outputs], 1), [batch * outputs.length * wide, width]);
  return tf.reshape(gatherRows({ table, indices: flat }), [batch, length, width]);
}

/** `fresh` where `flag` [B] is 1, `kept` where it is 0; both [B, ...] and finite. */
export function chooseRows(flag: boolean | tf.Tensor1D, fresh: tf.Tensor, kept: tf.Tensor): tf.Tensor {
  if (typeof flag === 'boolean') return flag ? fresh : kept;
  const weight = tf.reshape(flag, [flag.shape[0], ...kept.shape.slice(1).map(() => 1)]);
  return tf.add(tf.mul(fresh, weight), tf.mul(kept, tf.sub(1, weight)));
}
