import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import {
  advance,
  childState,
  deriveSeed,
  divideHeads,
  fail,
  joinStates,
  lastRows,
  naturalNumber,
  parseConfig,
  SequenceMixer,
  stopGradient,
} from '@seqloom/core';
import type { MixerResult, MixInput, State, StateShapes } from '@seqloom/core';
import { boundedShapes, fitCache, resetRows } from '../segments/cache.ts';
import { phaseShape } from '../segments/phase.ts';
import { chooseRows, walkSegments } from '../segments/walk.ts';
import type { SegmentPiece } from '../segments/walk.ts';
import { memformerEntries, reached, startMemory } from './layer.ts';
import { GatedWriter, NormalisedWriter } from './modules.ts';
import { writeMemory } from './write.ts';

const { outputDeviation: _unused, ...entries } = memformerEntries;
const Schema = v.strictObject({
  ...entries,
  /** gradients reach back over this many segments of a call at most; 0: all */
  bpttDepth: v.optional(naturalNumber, 0),
});

/** Config of `MemformerRecurrence`: dim, heads, slots and segmentLength; all else has a default. */
export type MemformerRecurrenceConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'memformer';

/** What goes from piece to piece: the memory, outputs of the unfinished segment, and the stack's state within it (null: at its start). */
interface Carry {
  readonly memory: tf.Tensor3D;
  readonly window: tf.Tensor3D | null;
  readonly inner: State | null;
}

/**
 * Memformer as a decoder alone: a causal stack runs on segments, its cross layers read one memory as their context, and the outputs of a
 * full segment are written to it for the segments after.
 *
 * The state is `memory` [B, N, D] (zeros until a segment is full), `window` [B, L - 1, D], outputs of the unfinished segment, the stack's
 * state within it under `stack.`, caches bounded at L - 1 tokens, and `phase`. Parameters beside the stack with the normalised writer:
 * 4 D^2 + 3 D + N D; the gated one has 14 D^2 + 13 D more.
 *
 * @see Wu et al. 2020, arXiv 2010.06891
 */
export class MemformerRecurrence extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly stack: SequenceMixer;
  readonly writer: NormalisedWriter | GatedWriter;

  /**
   * @param config plain JSON
   * @param stack a causal-self mixer of width `dim` that hands its context to the layers that read; it then belongs to this layer
   * @throws SeqLoomError on a config that does not fit, or a stack of another width or pattern
   */
  constructor(config: MemformerRecurrenceConfig, stack: SequenceMixer) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, slots, writer, seed } = this.config;
    divideHeads(MECHANISM, dim, heads);
    if (stack.dim !== dim || stack.pattern !== 'causal-self')
      fail({
        mechanism: MECHANISM,
        argument: 'stack',
        wanted: `a causal-self mixer of width ${dim}`,
        given: `a ${stack.pattern} mixer of width ${stack.dim}`,
        remedy: 'Build stack and memory for the same width.',
      });
    this.dim = dim;
    this.stack = stack;
    const Writer = writer === 'normalised' ? NormalisedWriter : GatedWriter;
    this.writer = new Writer(slots, dim, deriveSeed(seed, 'writer'));
  }

  stateShapes(batch: number): StateShapes {
    const { slots, segmentLength } = this.config;
    const inner = Object.entries({ ...boundedShapes(this.stack.stateShapes(batch), segmentLength - 1), position: [batch] });
    return {
      memory: [batch, slots, this.dim],
      ...(segmentLength > 1 ? { window: [batch, segmentLength - 1, this.dim] } : {}),
      phase: phaseShape(batch),
      ...Object.fromEntries(inner.map(([name, shape]) => [`stack.${name}`, shape])),
    };
  }

  override mixingFlops(length: number): number {
    const { slots, segmentLength } = this.config;
    const write = (slots * (8 * this.dim * this.dim + 4 * segmentLength * this.dim)) / segmentLength;
    // 4 D per slot for each cross layer are the stack's own
    return this.stack.mixingFlops(Math.min(length, segmentLength)) + write + 4 * this.dim * this.dim;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, lengths } = input;
    const { segmentLength, bpttDepth } = this.config;
    const batch = x.shape[0];
    const phase = state.phase!.shape[1]!;
    const shapes = this.stack.stateShapes(batch);
    const capacity = segmentLength - 1;
    // rows at one place need no more of their caches than what they have filled
    const filled = lengths === null && phase < segmentLength ? phase : capacity;
    const start: Carry = {
      memory: startMemory(state, this.writer.firstMemory(), reached(state.position, segmentLength)),
      window: (state.window as tf.Tensor3D | undefined) ?? null,
      inner: phase === 0 ? null : fitCache(childState(state, 'stack'), shapes, filled),
    };
    const walk = walkSegments(input, segmentLength, start, (piece, carry) => {
      const detached = bpttDepth > 0 && piece.index > 0 && piece.index % bpttDepth === 0;
      const memory = detached ? stopGradient(carry.memory) : carry.memory;
      const before = piece.starts === true || !carry.inner ? this.#emptyCache(batch, piece, shapes) : carry.inner;
      const { x: tokens, valid, lengths: own } = piece;
      const result = this.stack.mix({ ...input, x: tokens, valid, lengths: own, state: before, context: memory, contextValid: null });
      return { output: result.output, carry: this.#write(piece, result, { ...carry, memory }, shapes) };
    });
    const inner = fitCache(walk.carry.inner ?? this.stack.initialState(batch), shapes, capacity);
    const position = advance(state.position, x, lengths);
    return {
      output: walk.output,
      state: {
        ...joinStates(position, { stack: inner }),
        memory: tf.mul(walk.carry.memory, reached(position, segmentLength)),
        phase: walk.phase,
        ...(walk.carry.window ? { window: walk.carry.window } : {}),
      },
    };
  }

  /** What a piece leaves: rows whose segment is full write it, and begin the next one empty. */
  #write({ lengths, ends }: SegmentPiece, { output, state }: MixerResult, { memory, window }: Carry, shapes: StateShapes): Carry {
    const { heads, segmentLength, temperature, updates } = this.config;
    const [batch, , dim] = output.shape;
    let next = memory;
    if (ends !== false) {
      const before = window ?? (tf.zeros([batch, 0, dim]) as tf.Tensor3D);
      // one row more, for rows of which no token is in this piece
      const room = tf.concat([tf.zeros([batch, 1, dim]), before], 1) as tf.Tensor3D;
      const segment = lastRows(room, output, lengths, segmentLength);
      const settings = { heads, temperature, updates };
      next = chooseRows(ends, writeMemory(segment, memory, this.writer.tensors(), settings), memory) as tf.Tensor3D;
    }
    const last = window && lastRows(window, output, lengths, segmentLength - 1);
    return {
      memory: next,
      window: last && (chooseRows(ends, tf.zerosLike(last), last) as tf.Tensor3D),
      inner: ends === true ? null : typeof ends === 'boolean' ? state : resetRows(fitCache(state, shapes, segmentLength), ends),
    };
  }

  // rows at places of their own have room for a whole segment, so that every piece finds its caches alike
  #emptyCache(batch: number, { lengths }: SegmentPiece, shapes: StateShapes): State {
    const state = this.stack.initialState(batch);
    return lengths === null ? state : fitCache(state, shapes, this.config.segmentLength - 1);
  }
}
