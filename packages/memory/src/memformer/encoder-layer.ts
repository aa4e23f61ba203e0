import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import {
  advance,
  deriveSeed,
  divideHeads,
  Linear,
  Module,
  normal,
  Parameter,
  parseConfig,
  positiveInteger,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { affineOf, LayerNorm } from '../dense.ts';
import { chooseRows } from '../segments/walk.ts';
import { memformerEncoder } from './encoder.ts';
import type { EncoderLayerTensors } from './encoder.ts';
import { memformerEntries, reached, startMemory } from './layer.ts';
import { AttentionMaps, GatedWriter, NormalisedWriter } from './modules.ts';
import { BUCKETS } from './position-buckets.ts';

const Schema = v.strictObject({
  ...memformerEntries,
  /** encoder layers */
  depth: v.optional(positiveInteger, 1),
});

/** Config of `MemformerEncoder`: dim, heads, slots and segmentLength; all else has a default. */
export type MemformerEncoderConfig = v.InferInput<typeof Schema>;

/** One layer of the encoder: self-attention, reading, and a feed-forward layer, each behind a norm. */
class EncoderLayer extends Module {
  readonly selfNorm: LayerNorm;
  readonly self: AttentionMaps;
  readonly readNorm: LayerNorm;
  readonly read: AttentionMaps;
  readonly channelNorm: LayerNorm;
  readonly up: Linear;
  readonly down: Linear;

  constructor(dim: number, seed: number, deviation: number | undefined) {
    super();
    this.selfNorm = new LayerNorm(dim);
    this.self = new AttentionMaps(dim, deriveSeed(seed, 'self'), deviation);
    this.readNorm = new LayerNorm(dim);
    this.read = new AttentionMaps(dim, deriveSeed(seed, 'read'), deviation);
    this.channelNorm = new LayerNorm(dim);
    this.up = new Linear({ in: dim, out: 4 * dim, bias: true, seed: deriveSeed(seed, 'up') });
    this.down = new Linear({ in: 4 * dim, out: dim, bias: true, seed: deriveSeed(seed, 'down'), deviation });
  }

  tensors(): EncoderLayerTensors {
    return {
      selfNorm: this.selfNorm.tensors(),
      self: this.self.tensors(),
      readNorm: this.readNorm.tensors(),
      read: this.read.tensors(),
      channelNorm: this.channelNorm.tensors(),
      up: affineOf(this.up),
      down: affineOf(this.down),
    };
  }
}

/**
 * Memformer's encoder, as published: layers that see their segment in both directions and read one memory; after the last layer the segment
 * is written to it.
 *
 * A call is cut into segments from its start, the last one may be short; the state is `memory` [B, N, D], zeros before the first token. No
 * segment sees a later one. Parameters per layer: 16 D^2 + 17 D; for all: 32 H + 2 D and the writer.
 *
 * @see Wu et al. 2020, arXiv 2010.06891
 */
export class MemformerEncoder extends SequenceMixer {
  readonly mechanism = 'memformer';
  readonly pattern = 'noncausal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly layers: readonly EncoderLayer[];
  readonly positionBias: Parameter;
  readonly norm: LayerNorm;
  readonly writer: NormalisedWriter | GatedWriter;

  constructor(config: MemformerEncoderConfig) {
    super();
    this.config = parseConfig('memformer', Schema, config);
    const { dim, heads, slots, depth, writer, seed, outputDeviation } = this.config;
    divideHeads('memformer', dim, heads);
    this.dim = dim;
    this.layers = Array.from({ length: depth }, (_, index) => new EncoderLayer(dim, deriveSeed(seed, `layer${index}`), outputDeviation));
    this.positionBias = new Parameter([BUCKETS, heads], normal(0.02), deriveSeed(seed, 'positionBias'));
    this.norm = new LayerNorm(dim);
    const Writer = writer === 'normalised' ? NormalisedWriter : GatedWriter;
    this.writer = new Writer(slots, dim, deriveSeed(seed, 'writer'));
  }

  stateShapes(batch: number): StateShapes {
    return { memory: [batch, this.config.slots, this.dim] };
  }

  override mixingFlops(length: number): number {
    const { slots, segmentLength, depth } = this.config;
    return 4 * this.dim * (depth * (Math.min(length, segmentLength) + slots) + slots);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { heads, segmentLength, temperature, updates } = this.config;
    const [batch, length, dim] = x.shape;
    const parameters = {
      layers: this.layers.map((layer) => layer.tensors()),
      positionBias: this.positionBias.value,
      norm: this.norm.tensors(),
      write: this.writer.tensors(),
    };
    const outputs: tf.Tensor3D[] = [];
    let memory = startMemory(state, this.writer.firstMemory(), reached(state.position, 1));
    for (let at = 0; at < length; at += segmentLength) {
      const count = Math.min(segmentLength, length - at);
      const mask = valid && tf.slice(valid, [0, at], [batch, count]);
      const result = memformerEncoder({ input: tf.slice(x, [0, at, 0], [batch, count, dim]), memory, mask }, parameters, {
        heads,
        temperature,
        updates,
      });
      outputs.push(result.output);
      const some = mask ? (tf.clipByValue(tf.sum(mask, 1), 0, 1) as tf.Tensor1D) : true;
      memory = chooseRows(some, result.state.memory, memory) as tf.Tensor3D;
    }
    const position = advance(state.position, x, lengths);
    return { output: tf.concat(outputs, 1), state: { memory: tf.mul(memory, reached(position, 1)), position } };
  }
}
