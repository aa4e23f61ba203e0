import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { deriveSeed, Linear, naturalNumber, parseConfig, positiveInteger } from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { headEntries, ProjectedHeads } from '../projected-heads.ts';
import { card } from './card.ts';
import { meanCompression, WindowCompression } from './compression.ts';
import { appendSparseTokens } from './decode.ts';
import { cachedNativeSparseAttention, checkSizes, nativeSparseAttention } from './native-sparse-attention.ts';
import type { SparseSettings, SparseState } from './native-sparse-attention.ts';

const Schema = v.strictObject({
  ...headEntries,
  /** l, tokens per compressed key */
  compressionLength: v.optional(positiveInteger, 32),
  /** d, tokens between the starts of two of them */
  compressionStride: v.optional(positiveInteger, 16),
  /** how a window becomes one key and one value: learned by an MLP as in the paper, or their mean */
  compression: v.optional(v.picklist(['mlp', 'mean']), 'mlp'),
  /** l', tokens per selection block */
  selectionBlock: v.optional(positiveInteger, 64),
  /** n, blocks that a query reads, forced ones included */
  selected: v.optional(positiveInteger, 16),
  /** first blocks that are always read */
  initialBlocks: v.optional(naturalNumber, 1),
  /** last blocks that are always read, the own one included */
  localBlocks: v.optional(positiveInteger, 2),
  /** keys of the window branch; 0: no such branch */
  window: v.optional(naturalNumber, 512),
});

/** Config of `NativeSparseAttention`: dim and heads; all else has a default. */
export type NativeSparseAttentionConfig = v.InferInput<typeof Schema>;

/**
 * Native sparse attention as a layer: projections without biases, rotary positions, a sigmoid gate per token, head and branch, the op,
 * and the output projection; parameters dim (2 H + 2 G) headDim + 3 dim H, and 2 (l D + l D D + D D) for learned compression, D = headDim.
 *
 * The state is `key` and `value` [B, length, G, headDim], rotated keys, and `compressedKey` and `compressedValue`, one of every
 * complete window.
 *
 * @see Yuan et al. 2025, arXiv 2502.11089
 */
export class NativeSparseAttention extends ProjectedHeads {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly gate: Linear;
  readonly keyCompression: WindowCompression | null;
  readonly valueCompression: WindowCompression | null;

  constructor(config: NativeSparseAttentionConfig) {
    const parsed = parseConfig(card.id, Schema, config);
    checkSizes(card.id, 'config.', parsed);
    super(card.id, parsed);
    this.config = parsed;
    const { dim, heads, seed, window, compression, compressionLength: length } = parsed;
    this.gate = new Linear({ in: dim, out: (window > 0 ? 3 : 2) * heads, seed: deriveSeed(seed, 'gate') });
    const learned = (name: string): WindowCompression | null =>
      compression === 'mlp' ? new WindowCompression({ length, headDim: this.headDim, seed: deriveSeed(seed, name) }) : null;
    this.keyCompression = learned('keyCompression');
    this.valueCompression = learned('valueCompression');
  }

  stateShapes(batch: number): StateShapes {
    const shape = [batch, 'length', this.kvHeads, this.headDim] as const;
    // the compressed ones grow by one for every stride of tokens
    return { key: shape, value: shape, compressedKey: shape, compressedValue: shape };
  }

  override stateBytes(batch: number, length: number): number {
    const { compressionLength, compressionStride } = this.config;
    return batch * card.stateBytes(length, { kvHeads: this.kvHeads, headDim: this.headDim, compressionLength, compressionStride });
  }

  override mixingFlops(length: number): number {
    const { compressionStride, selected, selectionBlock, window } = this.config;
    const read = length / compressionStride + Math.min(length, selected * selectionBlock) + Math.min(length, window);
    return Math.round(4 * this.heads * this.headDim * read);
  }

  mix(input: MixInput): MixerResult {
    const { x, state, lengths } = input;
    const settings: SparseSettings = {
      ...this.config,
      scale: this.headDim ** -0.5,
      compressKey: this.keyCompression?.compress ?? meanCompression,
      compressValue: this.valueCompression?.compress ?? meanCompression,
    };
    const start = state.key!.shape[1] === 0;
    const gates = tf.split(tf.sigmoid(this.gate.forward(x)), settings.window > 0 ? 3 : 2, 2);
    const heads = {
      ...this.rotate(this.project(input), input, start),
      compressedGate: gates[0],
      selectedGate: gates[1],
      windowGate: gates[2],
    };
    const before = state as unknown as SparseState;
    if (!start) {
      const { output, state: after } = cachedNativeSparseAttention(heads, before, { ...settings, lengths });
      return { output: this.join(output), state: { ...after } };
    }
    const { output } = nativeSparseAttention(heads, settings);
    return { output: this.join(output), state: { ...appendSparseTokens(before, heads, { ...settings, lengths }) } };
  }
}
