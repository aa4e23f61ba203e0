import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { MultiHeadAttention } from '@seqloom/attention';
import {
  advance,
  childState,
  constant,
  deriveSeed,
  divideHeads,
  fail,
  joinStates,
  lastRows,
  layerEntries,
  Linear,
  normal,
  Parameter,
  parseConfig,
  positiveInteger,
  Random,
  SequenceMixer,
  tidy,
  uniform,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { affineOf, LayerNorm } from '../dense.ts';
import { phaseShape } from '../segments/phase.ts';
import { chooseRows, walkSegments } from '../segments/walk.ts';
import { firstSlots } from './first-slots.ts';
import type { Lm2Parameters } from './lm2.ts';
import { readBank } from './read.ts';
import { writeBank } from './write.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** attention heads of read and write, and of the attention beside */
  heads: positiveInteger,
  /** N, slots of the bank; at most dim (dim + 1) / 2 */
  slots: positiveInteger,
  /** L, tokens after which the bank is written */
  segmentLength: positiveInteger,
  /** slots per token and head whose weight counts; null: all */
  topK: v.optional(v.nullable(positiveInteger), null),
  /**
   * the layer builds softmax attention, whose outputs are the tokens that read and write; false: its inputs are; an object: keys of the
   * attention's config, such as kvHeads
   */
  attention: v.optional(v.union([v.boolean(), v.record(v.string(), v.unknown())]), true),
});

/** Config of `Lm2`: dim, heads, slots and segmentLength; all else has a default. */
export type Lm2Config = v.InferInput<typeof Schema>;

const MECHANISM = 'lm2';

/** A bank and the tokens of the unfinished segment, right aligned. */
type Carry = { readonly memory: tf.Tensor3D; readonly window: tf.Tensor3D | null };

/**
 * Causal attention with a bank of slots beside it: `E = attention(x)`, `y = E + sigma(R W_out) R`, R what E reads from the bank; each full
 * segment of E is written to the bank for the segments after it.
 *
 * The state is `memory` [B, N, D] (zeros until a segment is full; slots then start as unit vectors), `window` [B, L - 1, D], E of the
 * unfinished segment, `phase`, and the attention's own under `attention.`. Parameters beside the attention: 12 D^2 + 15 D + 2.
 *
 * @see Kang et al. 2025, arXiv 2502.06049
 */
export class Lm2 extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly attention: SequenceMixer | null;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly gate: Linear;
  readonly writeQuery: Linear;
  readonly writeKey: Linear;
  readonly writeValue: Linear;
  readonly channel: Linear;
  readonly attendedNorm: LayerNorm;
  readonly channelNorm: LayerNorm;
  readonly inputScale: Parameter;
  readonly inputGate: Linear;
  readonly memoryGate: Linear;
  readonly inputBias: Parameter;
  readonly forgetBias: Parameter;

  /**
   * @param config plain JSON
   * @param attention a causal-self mixer of width `dim` in place of the softmax attention; it then belongs to this layer
   * @throws SeqLoomError on a config that does not fit, or an attention of another width or pattern
   */
  constructor(config: Lm2Config, attention?: SequenceMixer) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, slots, topK, seed, outputDeviation } = this.config;
    divideHeads(MECHANISM, dim, heads);
    checkSizes(slots, dim, topK, attention);
    this.dim = dim;
    const seedOf = (name: string): number => deriveSeed(seed, name);
    this.attention = attention ?? this.#softmaxAttention();
    const linear = (name: string, out = dim, bias = true): Linear => new Linear({ in: dim, out, bias, seed: seedOf(name) });
    this.query = linear('query');
    this.key = linear('key', dim, false);
    this.value = new Linear({ in: dim, out: dim, bias: true, seed: seedOf('value'), deviation: outputDeviation });
    this.gate = linear('gate');
    this.writeQuery = linear('writeQuery');
    this.writeKey = linear('writeKey', dim, false);
    this.writeValue = linear('writeValue');
    this.channel = linear('channel');
    // a rectified row may be all zeros, and a bias of zeros would then stand on the kink
    const bias = uniform(1 / Math.sqrt(dim))([dim], new Random(seedOf('channelBias')));
    tidy(() => this.channel.bias!.assign(tf.tensor1d(bias)));
    this.attendedNorm = new LayerNorm(dim);
    this.channelNorm = new LayerNorm(dim);
    this.inputScale = new Parameter([dim], normal(1), seedOf('inputScale'));
    this.inputGate = linear('inputGate', 2 * dim);
    this.memoryGate = linear('memoryGate', 2 * dim);
    this.inputBias = new Parameter([], constant(0), 0);
    this.forgetBias = new Parameter([], constant(1), 0);
  }

  stateShapes(batch: number): StateShapes {
    const { slots, segmentLength } = this.config;
    const inner = this.attention ? Object.entries({ ...this.attention.stateShapes(batch), position: [batch] }) : [];
    return {
      memory: [batch, slots, this.dim],
      ...(segmentLength > 1 ? { window: [batch, segmentLength - 1, this.dim] } : {}),
      phase: phaseShape(batch),
      ...Object.fromEntries(inner.map(([name, shape]) => [`attention.${name}`, shape])),
    };
  }

  override mixingFlops(length: number): number {
    const { slots, segmentLength } = this.config;
    const write = (slots * (12 * this.dim * this.dim + 4 * segmentLength * this.dim)) / segmentLength;
    return (this.attention?.mixingFlops(length) ?? 0) + 4 * slots * this.dim + write;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, lengths } = input;
    const { heads, topK, segmentLength } = this.config;
    const beside = this.attention?.mix({ ...input, state: childState(state, 'attention') });
    const parameters = this.#parameters();
    const start: Carry = { memory: this.#startMemory(state), window: (state.window as tf.Tensor3D | undefined) ?? null };
    const walk = walkSegments({ x: beside?.output ?? x, state, lengths }, segmentLength, start, (piece, { memory, window }) => {
      const output = readBank(piece.x, memory, parameters.read, { heads, topK });
      const before = window ?? (tf.zeros([x.shape[0], 0, this.dim]) as tf.Tensor3D);
      let next = memory;
      if (piece.ends !== false) {
        // one row more, for rows of which no token is in this piece
        const room = tf.concat([tf.zeros([x.shape[0], 1, this.dim]), before], 1) as tf.Tensor3D;
        const segment = lastRows(room, piece.x, piece.lengths, segmentLength);
        next = chooseRows(piece.ends, writeBank(segment, memory, parameters.write, heads), memory) as tf.Tensor3D;
      }
      if (!window) return { output, carry: { memory: next, window } };
      const rows = lastRows(before, piece.x, piece.lengths, segmentLength - 1);
      return { output, carry: { memory: next, window: chooseRows(piece.ends, tf.zerosLike(rows), rows) as tf.Tensor3D } };
    });
    const position = advance(state.position, x, lengths);
    return {
      output: (beside ? tf.add(beside.output, walk.output) : walk.output) as tf.Tensor3D,
      state: {
        ...joinStates(position, beside ? { attention: beside.state } : {}),
        memory: tf.mul(walk.carry.memory, written(position, segmentLength)),
        phase: walk.phase,
        ...(walk.carry.window ? { window: walk.carry.window } : {}),
      },
    };
  }

  #softmaxAttention(): MultiHeadAttention | null {
    const { attention, dim, heads, seed, outputDeviation } = this.config;
    if (attention === false) return null;
    const rest = outputDeviation === undefined ? {} : { outputDeviation };
    const keys = attention === true ? {} : attention;
    return new MultiHeadAttention({ heads, seed: deriveSeed(seed, 'attention'), ...rest, ...keys, dim });
  }

  // a new state is all zeros, and so is the bank until a segment is full: unit vectors stand in
  #startMemory({ memory, position }: MixInput['state']): tf.Tensor3D {
    const { slots, segmentLength } = this.config;
    const some = written(position, segmentLength);
    const first = tf.tensor3d(firstSlots(slots, this.dim), [1, slots, this.dim]);
    return tf.add(tf.mul(memory!, some), tf.mul(first, tf.sub(1, some))) as tf.Tensor3D;
  }

  #parameters(): Lm2Parameters {
    return {
      read: { query: affineOf(this.query), key: affineOf(this.key), value: affineOf(this.value), gate: affineOf(this.gate) },
      write: {
        query: affineOf(this.writeQuery),
        key: affineOf(this.writeKey),
        value: affineOf(this.writeValue),
        channel: affineOf(this.channel),
        attendedNorm: this.attendedNorm.tensors(),
        channelNorm: this.channelNorm.tensors(),
        inputScale: this.inputScale.value,
        inputGate: affineOf(this.inputGate),
        memoryGate: affineOf(this.memoryGate),
        inputBias: this.inputBias.value,
        forgetBias: this.forgetBias.value,
      },
    };
  }
}

/** [B, 1, 1], 1 for rows that have filled a segment, and so have written their bank. */
function written(position: tf.Tensor, segmentLength: number): tf.Tensor {
  return tf.reshape(tf.cast(tf.greaterEqual(position, segmentLength), 'float32'), [-1, 1, 1]);
}

function checkSizes(slots: number, dim: number, topK: number | null, attention: SequenceMixer | undefined): void {
  const refuse = (argument: string, wanted: string, given: string, remedy: string): never =>
    fail({ mechanism: MECHANISM, argument, wanted, given, remedy });
  const most = (dim * (dim + 1)) / 2;
  if (slots > most) refuse('config.slots', `at most ${most}, so that all can start apart`, String(slots), 'Use fewer slots.');
  if (topK !== null && topK > slots) refuse('config.topK', `at most the ${slots} slots`, String(topK), 'Leave it out for all slots.');
  if (attention && (attention.dim !== dim || attention.pattern !== 'causal-self')) {
    const given = `a ${attention.pattern} mixer of width ${attention.dim}`;
    refuse('attention', `a causal-self mixer of width ${dim}`, given, 'Build it for the width of this layer.');
  }
}
