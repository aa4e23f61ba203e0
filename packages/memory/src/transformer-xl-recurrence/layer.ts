import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { alignedPositions, appendRows, existingKeys, joinTime } from '@seqloom/attention';
import {
  advance,
  deriveSeed,
  divideHeads,
  layerEntries,
  Linear,
  naturalNumber,
  normal,
  Parameter,
  parseConfig,
  positiveInteger,
  SequenceMixer,
  stopGradient,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { finishedSegments } from '../segments/phase.ts';
import { distanceEmbedding } from './distance-embedding.ts';
import { transformerXlAttention } from './transformer-xl-recurrence.ts';

const Schema = v.strictObject({
  ...layerEntries,
  heads: positiveInteger,
  /** channels of a head; default dim / heads */
  headDim: v.optional(positiveInteger),
  /** M, tokens that the memory holds */
  memoryLength: naturalNumber,
  /** L, tokens of a segment: a token sees the M tokens before its segment, and its segment so far; null: the M tokens before itself */
  segmentLength: v.optional(v.nullable(positiveInteger), null),
  /** larger distances count as this one; null: none does */
  clampLength: v.optional(v.nullable(positiveInteger), null),
  /** what the memory holds: layer inputs, as published, or their keys and values */
  cache: v.optional(v.picklist(['inputs', 'keys']), 'inputs'),
  /** no gradient goes through the memory that a call is given */
  detachMemory: v.optional(v.boolean(), false),
  form: v.optional(v.picklist(['parallel', 'chunk']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 128),
});

/** Config of `TransformerXlRecurrence`: dim, heads and memoryLength; all else has a default. */
export type TransformerXlRecurrenceConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'transformer-xl-recurrence';

/**
 * Transformer-XL attention as a layer: projections without biases, relative positions, and a memory of the tokens before.
 *
 * The state is `memory` [B, C, dim], the last C = M + L - 1 inputs of the layer (C = M without segments), zeros in front; or `key` and
 * `value` [B, C, heads, headDim] with `cache: 'keys'`. Parameters: 5 matrices (query, key, value, position, output) and u, v.
 *
 * @see Dai et al. 2019, arXiv 1901.02860
 */
export class TransformerXlRecurrence extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly position: Linear;
  readonly output: Linear;
  readonly contentBias: Parameter;
  readonly positionBias: Parameter;
  readonly #headDim: number;
  /** C */
  readonly #cached: number;

  constructor(config: TransformerXlRecurrenceConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, memoryLength, segmentLength, seed, outputDeviation } = this.config;
    this.#headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, heads);
    this.#cached = memoryLength + (segmentLength ?? 1) - 1;
    this.dim = dim;
    const wide = heads * this.#headDim;
    const project = (name: string): Linear => new Linear({ in: dim, out: wide, seed: deriveSeed(seed, name) });
    this.query = project('query');
    this.key = project('key');
    this.value = project('value');
    this.position = project('position');
    this.output = new Linear({ in: wide, out: dim, seed: deriveSeed(seed, 'output'), deviation: outputDeviation });
    const bias = (name: string): Parameter => new Parameter([heads, this.#headDim], normal(0.02), deriveSeed(seed, name));
    this.contentBias = bias('contentBias');
    this.positionBias = bias('positionBias');
  }

  stateShapes(batch: number): StateShapes {
    const cached = this.#cached;
    if (cached === 0) return {};
    if (this.config.cache === 'inputs') return { memory: [batch, cached, this.dim] };
    const shape = [batch, cached, this.config.heads, this.#headDim];
    return { key: shape, value: shape };
  }

  override mixingFlops(length: number): number {
    return 6 * this.config.heads * this.#headDim * Math.min(length, this.#cached + 1);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { memoryLength, segmentLength, cache, clampLength, form, chunkSize } = this.config;
    const [batch, length] = x.shape;
    const cached = this.#cached;
    const split = (rows: tf.Tensor): tf.Tensor => tf.reshape(rows, [rows.shape[0]!, rows.shape[1]!, this.config.heads, this.#headDim]);
    const held = (name: string): tf.Tensor | null => {
      const tensor = state[name];
      return tensor ? (this.config.detachMemory ? stopGradient(tensor) : tensor) : null;
    };
    const memory = held('memory');
    const source = memory ? joinTime(memory, x) : x; // [B, C + T, D]
    const keep = (kept: tf.Tensor | null, own: tf.Tensor): tf.Tensor => (kept ? joinTime(kept, own) : own);
    const key = keep(held('key'), split(this.key.forward(source)));
    const value = keep(held('value'), split(this.value.forward(source)));
    const keys = key.shape[1]!;
    const distances = distanceEmbedding(keys, this.dim, clampLength);
    const relative = tf.reshape(this.position.forward(distances), [keys, this.config.heads, this.#headDim]);
    const { output } = transformerXlAttention(
      {
        query: split(this.query.forward(x)),
        key,
        value,
        relative,
        contentBias: this.contentBias.value,
        positionBias: this.positionBias.value,
      },
      {
        reach: cached,
        keyPositions: alignedPositions(existingKeys(state.position, cached, length, valid)),
        ...(segmentLength === null ? {} : { earliest: this.#earliest(state.position, length, segmentLength, memoryLength) }),
        form,
        chunkSize,
      },
    );
    const next: Record<string, tf.Tensor> = { position: advance(state.position, x, lengths) };
    if (cached > 0 && cache === 'inputs') {
      const rows = (tensor: tf.Tensor): tf.Tensor => tf.expandDims(tensor, 2);
      next.memory = tf.squeeze(appendRows(rows(state.memory!), rows(x), lengths, cached), [2]);
    } else if (cached > 0) {
      const fresh = (joined: tf.Tensor): tf.Tensor => tf.slice(joined, [0, cached, 0, 0], [-1, length, -1, -1]);
      next.key = appendRows(state.key!, fresh(key), lengths, cached);
      next.value = appendRows(state.value!, fresh(value), lengths, cached);
    }
    const joined = tf.reshape(output, [batch, length, this.config.heads * this.#headDim]);
    return { output: this.output.forward(joined) as tf.Tensor3D, state: next as unknown as MixerResult['state'] };
  }

  /** [B, T], index among the keys of the first one in the memory of each token's segment */
  #earliest(position: tf.Tensor, length: number, segmentLength: number, memoryLength: number): tf.Tensor {
    const start = tf.reshape(position, [-1, 1]);
    const at = tf.add(start, tf.reshape(tf.range(0, length), [1, length]));
    const segment = tf.mul(finishedSegments(at, segmentLength) as tf.Tensor, segmentLength);
    return tf.add(tf.sub(segment, start), this.#cached - memoryLength);
  }
}
