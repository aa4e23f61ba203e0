import * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';
import { gatherRows } from '../kernel/rows.ts';
import { mapState } from '../state/state.ts';
import type { State, StateShapes } from '../state/state.ts';

/** A run of tokens of one segment. */
interface Segment {
  readonly row: number;
  readonly start: number;
  readonly length: number;
}

/** Segments that are mixed together, as rows of one batch. */
export interface SegmentGroup {
  readonly segments: readonly Segment[];
  /** tokens of the longest one */
  readonly length: number;
  /** whether they go on from the state that the caller gave; otherwise they start anew */
  readonly continues: boolean;
}

/** How packed rows are taken apart. */
export interface SegmentPlan {
  readonly batch: number;
  readonly length: number;
  readonly groups: readonly SegmentGroup[];
}

// segments up to this length share a group: below it the padding costs less than another call
const SHORTEST_BUCKET = 16;

/**
 * Plans how rows of packed sequences are mixed: each segment becomes a row of its own, together with others of about its length, so that
 * less than half of what is computed is padding.
 *
 * @param mechanism who refuses
 * @param ids one array of `length` whole numbers per row; a run of one id is a segment, 0 is padding
 * @param continues whether the first segment of each row goes on from a given state
 * @throws SeqLoomError when ids do not fit the batch, or an id comes back after another one
 */
export function planSegments(
  mechanism: string,
  ids: readonly ArrayLike<number>[],
  batch: number,
  length: number,
  continues: boolean,
): SegmentPlan {
  const refuse = (wanted: string, given: string, remedy: string): never =>
    fail({ mechanism, argument: 'segmentIds', wanted, given, remedy });
  if (!Array.isArray(ids) || ids.length !== batch || ids.some((row) => row.length !== length)) {
    const given = Array.isArray(ids) ? `${ids.length} rows of ${[...new Set(ids.map((row) => row.length))].join(', ')}` : typeof ids;
    refuse(`${batch} arrays of ${length} numbers, one per token`, given, 'Pass plain or typed arrays, one per row of the batch.');
  }
  const groups = new Map<string, Segment[]>();
  for (const [row, tokens] of ids.entries()) {
    const seen = new Set<number>();
    let first = true;
    for (let start = 0; start < length;) {
      const id = tokens[start]!;
      if (!Number.isInteger(id) || id < 0)
        refuse('whole numbers from 0', String(id), 'Number the segments of a row from 1, and padding 0.');
      let end = start + 1;
      while (end < length && tokens[end] === id) end++;
      if (id > 0) {
        if (seen.has(id)) refuse('one run of tokens per id', `id ${id} again at token ${start} of row ${row}`, 'Give it a new id.');
        seen.add(id);
        const bucket = Math.max(SHORTEST_BUCKET, 2 ** Math.ceil(Math.log2(end - start)));
        const key = `${first && continues ? 'continues' : 'anew'} ${bucket}`;
        groups.set(key, [...(groups.get(key) ?? []), { row, start, length: end - start }]);
        first = false;
      }
      start = end;
    }
  }
  return {
    batch,
    length,
    groups: [...groups].map(([key, segments]) => ({
      segments,
      length: Math.max(...segments.map((segment) => segment.length)),
      continues: key.startsWith('continues'),
    })),
  };
}

/** Rows of one group, ready to be mixed. */
export interface SegmentRows {
  /** [N, L, D], padding on the right */
  readonly x: tf.Tensor3D;
  /** [N, L] float32; null when all are of one length */
  readonly valid: tf.Tensor2D | null;
  /** [N] float32; null when all are of one length */
  readonly lengths: tf.Tensor1D | null;
}

/** Takes the segments of a group out of packed rows x [B, T, D]. */
export function takeSegments(x: tf.Tensor3D, { segments, length }: SegmentGroup): SegmentRows {
  const [batch, time, width] = x.shape;
  const index = new Int32Array(segments.length * length);
  const live = new Float32Array(segments.length * length);
  for (const [n, segment] of segments.entries()) {
    for (let t = 0; t < segment.length; t++) {
      index[n * length + t] = segment.row * time + segment.start + t;
      live[n * length + t] = 1;
    }
  }
  const table = tf.reshape(x, [batch * time, width]) as tf.Tensor2D;
  const rows = tf.reshape(gatherRows({ table, indices: tf.tensor1d(index, 'int32') }), [segments.length, length, width]) as tf.Tensor3D;
  if (segments.every((segment) => segment.length === length)) return { x: rows, valid: null, lengths: null };
  const valid = tf.tensor2d(live, [segments.length, length]);
  // what stands at padding is replaced, not multiplied: it may be NaN
  const clean = tf.where(tf.cast(tf.expandDims(valid, 2), 'bool'), rows, tf.zerosLike(rows)) as tf.Tensor3D;
  return { x: clean, valid, lengths: tf.tensor1d(segments.map((segment) => segment.length)) };
}

/** Puts the outputs of all groups, [N, L, E] each, back to where their tokens stood; zeros at padding. */
export function placeSegments(outputs: readonly tf.Tensor3D[], { groups, batch, length }: SegmentPlan, width: number): tf.Tensor3D {
  const total = groups.reduce((sum, group) => sum + group.segments.length * group.length, 0);
  // the row behind the last one is zero, for padding
  const index = new Int32Array(batch * length).fill(total);
  let offset = 0;
  for (const group of groups) {
    for (const [n, segment] of group.segments.entries()) {
      for (let t = 0; t < segment.length; t++) index[segment.row * length + segment.start + t] = offset + n * group.length + t;
    }
    offset += group.segments.length * group.length;
  }
  const flat = outputs.map((output) => tf.reshape(output, [-1, width]) as tf.Tensor2D);
  const table = tf.concat([...flat, tf.zeros([1, width]) as tf.Tensor2D], 0);
  return tf.reshape(gatherRows({ table, indices: tf.tensor1d(index, 'int32') }), [batch, length, width]) as tf.Tensor3D;
}

/**
 * The state of each row after its last segment; rows without a token keep the state `before`.
 *
 * @param states of the groups, in the plan's order
 */
export function lastStates(states: readonly State[], before: State, plan: SegmentPlan, shapes: StateShapes): State {
  const last = new Map<number, { readonly group: number; readonly n: number; readonly start: number }>();
  for (const [group, { segments }] of plan.groups.entries()) {
    for (const [n, { row, start }] of segments.entries()) {
      if (start >= (last.get(row)?.start ?? 0)) last.set(row, { group, n, start });
    }
  }
  const offsets = states.map((_, group) => plan.groups.slice(0, group).reduce((sum, { segments }) => sum + segments.length, 0));
  const old = plan.groups.reduce((sum, { segments }) => sum + segments.length, 0);
  const rows = Array.from({ length: plan.batch }, (_, row) => {
    const found = last.get(row);
    return found ? offsets[found.group]! + found.n : old + row;
  });
  return mapState(before, (tensor, name) => {
    const axis = (shapes[name] ?? []).indexOf('length');
    if (axis >= 0 && (shapes[name] ?? []).includes(0)) {
      const used = states.map((state) => state[name]!);
      return mergeMarks(rows.some((row) => row >= old) ? [...used, tensor] : used, axis, rows.length);
    }
    return pickRows(alignGrowing([...states.map((state) => state[name]!), tensor], axis), rows);
  });
}

/** The state's rows of these indices; gradients flow on every backend. */
export function stateRows(state: State, rows: readonly number[]): State {
  return mapState(state, (tensor) => pickRows([tensor], rows));
}

/** Extent of a mark whose rows have nothing in common; it takes no memory. */
const DIFFERS = 2 ** 20;

// a growing tensor without channels marks what the host knows of all rows at once: where states differ, it knows nothing
function mergeMarks(marks: readonly tf.Tensor[], axis: number, rows: number): tf.Tensor {
  const extents = new Set(marks.map((mark) => mark.shape[axis]!));
  const extent = extents.size === 1 ? [...extents][0]! : DIFFERS;
  return tf.zeros(marks[0]!.shape.map((given, at) => (at === 0 ? rows : at === axis ? extent : given)));
}

// zeros in front of shorter caches: a cache ends with its row's own tokens
function alignGrowing(tensors: readonly tf.Tensor[], axis: number): tf.Tensor[] {
  if (axis < 0) return [...tensors];
  const longest = Math.max(...tensors.map((tensor) => tensor.shape[axis]!));
  return tensors.map((tensor) => {
    const missing = longest - tensor.shape[axis]!;
    if (missing === 0) return tensor;
    const front = tf.zeros(tensor.shape.map((extent, at) => (at === axis ? missing : extent)));
    return tensor.size === 0 ? front : tf.concat([front, tensor], axis);
  });
}

function pickRows(tensors: readonly tf.Tensor[], rows: readonly number[]): tf.Tensor {
  const inner = tensors[0]!.shape.slice(1);
  const width = inner.reduce((product, extent) => product * extent, 1);
  if (width === 0) return tf.zeros([rows.length, ...inner]);
  const flat = tensors.map((tensor) => tf.reshape(tensor, [-1, width]) as tf.Tensor2D);
  const table = flat.length === 1 ? flat[0]! : tf.concat(flat, 0);
  return tf.reshape(gatherRows({ table, indices: tf.tensor1d([...rows], 'int32') }), [rows.length, ...inner]);
}
