import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import {
  ChannelMixer,
  deriveSeed,
  fail,
  layerEntries,
  Linear,
  Parameter,
  parseConfig,
  positiveInteger,
  RmsNorm,
  tidy,
  uniform,
} from '@seqloom/core';
import { MemoryTable } from './memory-table.ts';
import { selectSlots } from './select-slots.ts';
import type { ChosenSlots } from './select-slots.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** H, lookups per token */
  heads: v.optional(positiveInteger, 4),
  /** n, half keys per head, for n^2 slots */
  halfKeys: positiveInteger,
  /** k, slots per token and head, at most n */
  topK: v.optional(positiveInteger, 32),
  /** K, width of a key, even; default dim rounded up to an even number */
  keyDim: v.optional(positiveInteger),
  /** width of a value; default dim */
  valueDim: v.optional(positiveInteger),
  /** Memory+: the lookup is gated by silu of the token and projected; false: the plain lookup, projected where its width is not dim */
  gated: v.optional(v.boolean(), true),
  /** root-mean-square norms of half queries and half keys */
  queryKeyNorm: v.optional(v.boolean(), false),
  weighting: v.optional(v.picklist(['softmax', 'relu']), 'softmax'),
  /** keep the table's gradients as rows, for `SparseAdamW`; false: one as large as the table, for any optimiser */
  sparse: v.optional(v.boolean(), true),
});

/** Config of `MemoryLayer`: dim and halfKeys; all else has a default. */
export type MemoryLayerConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'memory-layers-at-scale';

/**
 * A memory layer in place of an MLP: `out = W2 (lookup(x) * silu(W1 x))`, or the lookup alone. Time grows with n, for n^2 slots.
 *
 * Keys and queries are the layer's own; the table may belong to several layers, which then train it together.
 *
 * Parameters beside the table of n^2 E: H K (D + 1) + H n K, and gated D E + E D + D.
 *
 * @see Berges et al. 2024, arXiv 2412.09764; Lample et al. 2019, arXiv 1907.05242
 */
export class MemoryLayer extends ChannelMixer {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly keyDim: number;
  readonly query: Linear;
  /** [H, 2, n, K / 2] */
  readonly keys: Parameter;
  readonly queryNorm: RmsNorm | null;
  readonly keyNorm: RmsNorm | null;
  readonly table: MemoryTable;
  readonly gate: Linear | null;
  readonly output: Linear | null;

  /**
   * @param config plain JSON
   * @param table of another layer, to share it; it decides whether gradients are sparse
   * @throws SeqLoomError on a config that does not fit, or a table of another size
   */
  constructor(config: MemoryLayerConfig, table?: MemoryTable) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, halfKeys, topK, gated, queryKeyNorm, sparse, seed, outputDeviation } = this.config;
    const valueDim = this.config.valueDim ?? dim;
    this.dim = dim;
    this.keyDim = this.config.keyDim ?? dim + (dim % 2);
    check(topK, halfKeys, this.keyDim, valueDim, table);
    const seedOf = (name: string): number => deriveSeed(seed, name);
    const wide = heads * this.keyDim;
    this.query = new Linear({ in: dim, out: wide, bias: true, seed: seedOf('query'), deviation: Math.sqrt(2 / (dim + wide)) });
    const shape = [heads, 2, halfKeys, this.keyDim / 2];
    this.keys = new Parameter(shape, uniform(1 / Math.sqrt(this.keyDim)), seedOf('keys'), { decay: false });
    this.queryNorm = queryKeyNorm ? new RmsNorm({ dim: this.keyDim / 2 }) : null;
    this.keyNorm = queryKeyNorm ? new RmsNorm({ dim: this.keyDim / 2 }) : null;
    this.table = table ?? new MemoryTable({ halfKeys, dim: valueDim, sparse, seed: seedOf('table') });
    this.gate = gated ? new Linear({ in: dim, out: valueDim, seed: seedOf('gate') }) : null;
    this.output =
      gated || valueDim !== dim
        ? new Linear({ in: valueDim, out: dim, bias: gated, seed: seedOf('output'), deviation: outputDeviation })
        : null;
  }

  override idleWeights(): number {
    const { heads, topK } = this.config;
    const [slots, width] = this.table.values.shape as [number, number];
    return Math.max(0, slots - heads * topK) * width;
  }

  forward(x: tf.Tensor3D, _options: { training?: boolean } = {}): tf.Tensor3D {
    const [batch, length, dim] = x.shape;
    if (x.rank !== 3 || dim !== this.dim || x.dtype !== 'float32') {
      const given = `${x.dtype} [${(x.shape as number[]).join(', ')}]`;
      fail({ mechanism: MECHANISM, argument: 'x', wanted: `float32 [B, T, ${this.dim}]`, given, remedy: 'Pass batch, time, channels.' });
    }
    return tidy(() => {
      const read = tf.reshape(this.table.lookUp(this.choose(x)), [batch, length, this.table.config.dim]);
      const gate = this.gate?.forward(x);
      const gated = gate ? tf.mul(read, tf.mul(gate, tf.sigmoid(gate))) : read;
      return (this.output ? this.output.forward(gated) : gated) as tf.Tensor3D;
    });
  }

  /** The slots that each token reads and their weights, [B T, H k]: what a report on the use of the table is made of. */
  choose(x: tf.Tensor3D): ChosenSlots {
    const { heads, topK, weighting } = this.config;
    const [batch, length] = x.shape;
    const half = this.keyDim / 2;
    return tidy(() => {
      const flat = this.query.forward(x);
      const normed = this.queryNorm ? this.queryNorm.forward(tf.reshape(flat, [batch * length, 2 * heads, half])) : flat;
      const query = tf.reshape(normed, [batch * length, heads, this.keyDim]) as tf.Tensor3D;
      const keys = this.keyNorm ? this.keyNorm.forward(this.keys.value) : this.keys.value;
      return selectSlots(query, keys as tf.Tensor4D, topK, weighting);
    });
  }
}

function check(topK: number, halfKeys: number, keyDim: number, valueDim: number, table: MemoryTable | undefined): void {
  const refuse = (argument: string, wanted: string, given: string, remedy: string): never =>
    fail({ mechanism: MECHANISM, argument, wanted, given, remedy });
  if (topK > halfKeys) refuse('config.topK', `at most the ${halfKeys} half keys`, String(topK), 'Use more half keys or fewer slots.');
  if (keyDim % 2 !== 0) refuse('config.keyDim', 'an even number', String(keyDim), 'A key has two halves.');
  if (table && (table.config.halfKeys !== halfKeys || table.config.dim !== valueDim)) {
    const given = `${table.config.halfKeys ** 2} slots of ${table.config.dim}`;
    refuse('table', `${halfKeys ** 2} slots of ${valueDim}`, given, 'Layers that share a table have its half keys and its width.');
  }
}
