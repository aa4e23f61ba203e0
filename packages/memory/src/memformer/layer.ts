import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import {
  advance,
  deriveSeed,
  divideHeads,
  lastRows,
  layerEntries,
  parseConfig,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, State, StateShapes } from '@seqloom/core';
import { phaseShape } from '../segments/phase.ts';
import { chooseRows, walkSegments } from '../segments/walk.ts';
import { AttentionMaps, GatedWriter, NormalisedWriter } from './modules.ts';
import { readMemory } from './read.ts';
import { writeMemory } from './write.ts';

/** Config keys of both Memformer layers. */
export const memformerEntries = {
  ...layerEntries,
  /** attention heads of reader and writer */
  heads: positiveInteger,
  /** N, slots of the memory */
  slots: positiveInteger,
  /** L, tokens of a segment */
  segmentLength: positiveInteger,
  /** biased memory normalisation, as in the paper, or a gated recurrent unit, as in the reference code */
  writer: v.optional(v.picklist(['normalised', 'gated']), 'normalised'),
  /** tau of the normalised writer */
  temperature: v.optional(positiveNumber, 0.25),
  /** times that the gated writer runs per segment */
  updates: v.optional(positiveInteger, 1),
};

const Schema = v.strictObject(memformerEntries);

/** Config of `Memformer`: dim, heads, slots and segmentLength; all else has a default. */
export type MemformerConfig = v.InferInput<typeof Schema>;

/** A memory and the tokens of the unfinished segment, right aligned. */
type Carry = { readonly memory: tf.Tensor3D; readonly window: tf.Tensor3D | null };

/** [B, N, D], the memory of a state; where nothing was written yet, the learned first one. */
export function startMemory(state: State, first: tf.Tensor, written: tf.Tensor): tf.Tensor3D {
  return tf.add(tf.mul(state.memory!, written), tf.mul(tf.expandDims(first, 0), tf.sub(1, written))) as tf.Tensor3D;
}

/** [B, 1, 1], 1 for rows that have seen at least so many tokens. */
export function reached(position: tf.Tensor, tokens: number): tf.Tensor {
  return tf.reshape(tf.cast(tf.greaterEqual(position, tokens), 'float32'), [-1, 1, 1]);
}

/**
 * Reading of an external memory as a layer, to be stacked with any attention: `y = attention(x, M)`; each full segment of x is written to M
 * for the segments after it.
 *
 * The state is `memory` [B, N, D] (zeros until a segment is full), `window` [B, L - 1, D], the inputs of the unfinished segment, and
 * `phase`. Parameters with the normalised writer: 8 D^2 + 6 D + N D; the gated one has 14 D^2 + 13 D more.
 *
 * @see Wu et al. 2020, arXiv 2010.06891
 */
export class Memformer extends SequenceMixer {
  readonly mechanism = 'memformer';
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly reader: AttentionMaps;
  readonly writer: NormalisedWriter | GatedWriter;

  constructor(config: MemformerConfig) {
    super();
    this.config = parseConfig('memformer', Schema, config);
    const { dim, heads, slots, writer, seed, outputDeviation } = this.config;
    divideHeads('memformer', dim, heads);
    this.dim = dim;
    this.reader = new AttentionMaps(dim, deriveSeed(seed, 'reader'), outputDeviation);
    const Writer = writer === 'normalised' ? NormalisedWriter : GatedWriter;
    this.writer = new Writer(slots, dim, deriveSeed(seed, 'writer'));
  }

  stateShapes(batch: number): StateShapes {
    const { slots, segmentLength } = this.config;
    return {
      memory: [batch, slots, this.dim],
      ...(segmentLength > 1 ? { window: [batch, segmentLength - 1, this.dim] } : {}),
      phase: phaseShape(batch),
    };
  }

  override mixingFlops(): number {
    const { slots, segmentLength } = this.config;
    const write = (slots * (8 * this.dim * this.dim + 4 * segmentLength * this.dim)) / segmentLength + 4 * this.dim * this.dim;
    return 4 * slots * this.dim + write;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, lengths } = input;
    const { heads, segmentLength, temperature, updates } = this.config;
    const [reader, writer] = [this.reader.tensors(), this.writer.tensors()];
    const first = startMemory(state, this.writer.firstMemory(), reached(state.position, segmentLength));
    const start: Carry = { memory: first, window: (state.window as tf.Tensor3D | undefined) ?? null };
    const walk = walkSegments(input, segmentLength, start, (piece, { memory, window }) => {
      const output = readMemory(piece.x, memory, reader, heads);
      const before = window ?? (tf.zeros([x.shape[0], 0, this.dim]) as tf.Tensor3D);
      let next = memory;
      if (piece.ends !== false) {
        // one row more, for rows of which no token is in this piece
        const room = tf.concat([tf.zeros([x.shape[0], 1, this.dim]), before], 1) as tf.Tensor3D;
        const segment = lastRows(room, piece.x, piece.lengths, segmentLength);
        next = chooseRows(piece.ends, writeMemory(segment, memory, writer, { heads, temperature, updates }), memory) as tf.Tensor3D;
      }
      if (!window) return { output, carry: { memory: next, window } };
      const rows = lastRows(before, piece.x, piece.lengths, segmentLength - 1);
      return { output, carry: { memory: next, window: chooseRows(piece.ends, tf.zerosLike(rows), rows) as tf.Tensor3D } };
    });
    const position = advance(state.position, x, lengths);
    return {
      output: walk.output,
      state: {
        memory: tf.mul(walk.carry.memory, reached(position, segmentLength)),
        phase: walk.phase,
        ...(walk.carry.window ? { window: walk.carry.window } : {}),
        position,
      },
    };
  }
}
