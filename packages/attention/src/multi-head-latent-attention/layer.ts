import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import {
  advance,
  checkSetting,
  deriveSeed,
  Linear,
  naturalNumber,
  parseConfig,
  positiveInteger,
  positiveNumber,
  RmsNorm,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import { tokenPositions } from '../attention-layer.ts';
import { alignedPositions, appendRows, existingKeys, joinTime } from '../kv-cache/kv-cache.ts';
import { rotaryEmbedding } from '../positional-encodings/parallel.ts';
import type { RotaryOptions } from '../positional-encodings/parallel.ts';
import type { Positions } from '../positional-encodings/rotary-angles.ts';
import { rotarySchema } from '../rotary-config.ts';
import { multiHeadLatentAttention } from './multi-head-latent-attention.ts';

const MECHANISM = 'multi-head-latent-attention';

const Schema = v.strictObject({
  dim: positiveInteger,
  /** H */
  heads: positiveInteger,
  /** C, width of the latent that keys and values are made of */
  latentDim: positiveInteger,
  /** width of the latent that queries are made of; null: queries are made of the input */
  queryLatentDim: v.optional(v.nullable(positiveInteger), null),
  /** Dn, channels per head without position */
  contentDim: positiveInteger,
  /** Dr, channels per head beside them, whose key all heads share and which alone are rotated; 0: none */
  rotaryDim: naturalNumber,
  /** Dv; default contentDim */
  valueHeadDim: v.optional(positiveInteger),
  /** positions of the rotary channels; null: none, they stay in the scores unrotated; YaRN's magnitude acts on the scale, squared */
  rotary: v.optional(v.nullable(rotarySchema)),
  /** multiplies scores; default (contentDim + rotaryDim)^-0.5, times the square of YaRN's magnitude */
  scale: v.optional(positiveNumber),
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self']), 'causal-self'),
  /** 'parallel' expands latents to keys and values, 'decode' absorbs the maps; 'auto' takes the one of fewer multiplications */
  form: v.optional(v.picklist(['auto', 'parallel', 'decode']), 'auto'),
  normEpsilon: v.optional(positiveNumber, 1e-6),
  seed: v.optional(v.number(), 0),
  /** standard deviation of the output projection at the start */
  outputDeviation: v.optional(v.number()),
});

/** Config of `MultiHeadLatentAttention`. */
export type MultiHeadLatentAttentionConfig = v.InferInput<typeof Schema>;

/**
 * Softmax attention whose cache is one normalised latent and one rotary key per token, whatever the number of heads.
 *
 * `c = norm(W_DKV x)`, `k^r = R W_KR x`, `q = W_Q x` or `W_UQ norm(W_DQ x)`, its last Dr channels rotated, `y = W_O attention`.
 * Parameters: dim (C + Dr) + C (1 + H (Dn + Dv)) + H Dv dim, and dim H (Dn + Dr), or with a query latent of Q channels
 * Q (dim + 1 + H (Dn + Dr)).
 *
 * Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1; without rotation: Kimi Linear (arXiv 2510.26692).
 */
export class MultiHeadLatentAttention extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: Pattern;
  /** [dim, H (Dn + Dr)]; null with a query latent */
  readonly query: Linear | null;
  readonly queryDown: Linear | null;
  readonly queryNorm: RmsNorm | null;
  readonly queryUp: Linear | null;
  /** [dim, C + Dr], the latent first */
  readonly keyValueDown: Linear;
  readonly keyValueNorm: RmsNorm;
  /** [C, H (Dn + Dv)], in each head its keys first */
  readonly keyValueUp: Linear;
  readonly output: Linear;
  readonly #valueHeadDim: number;
  readonly #rotary: RotaryOptions | null;
  readonly #scale: number;

  constructor(config: MultiHeadLatentAttentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, latentDim, queryLatentDim, contentDim, rotaryDim, rotary, normEpsilon: epsilon, seed } = this.config;
    this.dim = dim;
    this.pattern = this.config.pattern;
    this.#valueHeadDim = this.config.valueHeadDim ?? contentDim;
    const turned = rotary === null ? 0 : (rotary?.dims ?? rotaryDim);
    const fits = turned % 2 === 0 && turned <= rotaryDim;
    const remedy = 'Rotary positions turn pairs of the rotary channels: choose an even number, or rotary: null.';
    checkSetting(
      MECHANISM,
      'config.rotaryDim',
      fits,
      rotary?.dims ? `at least the ${turned} rotated, which are even` : 'even',
      rotaryDim,
      remedy,
    );
    const { rotation, magnitude } = splitYarn(turned > 0 ? (rotary ?? {}) : null);
    this.#rotary = rotation;
    this.#scale = this.config.scale ?? (contentDim + rotaryDim) ** -0.5 * magnitude ** 2;
    const linear = (name: string, from: number, to: number, deviation?: number): Linear =>
      new Linear({ in: from, out: to, seed: deriveSeed(seed, name), deviation });
    const wide = heads * (contentDim + rotaryDim);
    this.query = queryLatentDim === null ? linear('query', dim, wide) : null;
    this.queryDown = queryLatentDim === null ? null : linear('queryDown', dim, queryLatentDim);
    this.queryNorm = queryLatentDim === null ? null : new RmsNorm({ dim: queryLatentDim, epsilon });
    this.queryUp = queryLatentDim === null ? null : linear('queryUp', queryLatentDim, wide);
    this.keyValueDown = linear('keyValueDown', dim, latentDim + rotaryDim);
    this.keyValueNorm = new RmsNorm({ dim: latentDim, epsilon });
    this.keyValueUp = linear('keyValueUp', latentDim, heads * (contentDim + this.#valueHeadDim));
    this.output = linear('output', heads * this.#valueHeadDim, dim, this.config.outputDeviation);
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const { latentDim, rotaryDim } = this.config;
    return {
      latent: [batch, 'length', latentDim],
      ...(rotaryDim > 0 ? { rotaryKey: [batch, 'length', rotaryDim] } : {}),
    };
  }

  override mixingFlops(length: number): number {
    const { form, heads, latentDim, contentDim, rotaryDim } = this.config;
    const widths = form === 'decode' ? 2 * latentDim + rotaryDim : contentDim + rotaryDim + this.#valueHeadDim;
    return 2 * heads * widths * length;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid, lengths } = input;
    const { heads, latentDim, contentDim, form } = this.config;
    const causal = this.pattern === 'causal-self';
    const [batch, length] = x.shape;
    const { query, latent, rotaryKey } = this.project(input);
    const before = causal ? state.latent!.shape[1]! : 0;
    const cached = { latent: causal ? joinTime(state.latent!, latent) : latent, rotaryKey };
    if (causal && rotaryKey) cached.rotaryKey = joinTime(state.rotaryKey!, rotaryKey);
    // a sequence from its start without padding has no missing tokens
    const everything = before === 0 && !valid;
    const keyPositions = everything ? undefined : alignedPositions(existingKeys(state.position, before, length, valid));
    const keyValueUp = tf.reshape(this.keyValueUp.weight.value, [latentDim, heads, contentDim + this.#valueHeadDim]);
    const mixed = multiHeadLatentAttention({ query, ...cached, keyValueUp, keyPositions }, { causal, form, scale: this.#scale }).output;
    const output = this.output.forward(tf.reshape(mixed, [batch, length, heads * this.#valueHeadDim])) as tf.Tensor3D;
    const position = advance(state.position, x, lengths);
    if (!causal) return { output, state: { position } };
    const grown = (old: tf.Tensor, fresh: tf.Tensor, joined: tf.Tensor): tf.Tensor => {
      if (!lengths) return joined;
      const rows = appendRows(tf.expandDims(old, 2), tf.expandDims(fresh, 2), lengths, before + length);
      return tf.squeeze(rows, [2]);
    };
    return {
      output,
      state: {
        latent: grown(state.latent!, latent, cached.latent),
        ...(rotaryKey ? { rotaryKey: grown(state.rotaryKey!, rotaryKey, cached.rotaryKey!) } : {}),
        position,
      },
    };
  }

  /** Queries [B, T, H, Dn + Dr], normalised latents [B, T, C] and rotary keys [B, T, Dr] of a piece, rotated. */
  private project({ x, state }: MixInput): { query: tf.Tensor; latent: tf.Tensor; rotaryKey: tf.Tensor | undefined } {
    const { heads, latentDim, contentDim, rotaryDim } = this.config;
    const [batch, length] = x.shape;
    const flat = this.query ? this.query.forward(x) : this.queryUp!.forward(this.queryNorm!.forward(this.queryDown!.forward(x)));
    const query = tf.reshape(flat, [batch, length, heads, contentDim + rotaryDim]);
    const down = this.keyValueDown.forward(x);
    if (rotaryDim === 0) return { query, latent: this.keyValueNorm.forward(down), rotaryKey: undefined };
    const [raw, shared] = tf.split(down, [latentDim, rotaryDim], 2) as [tf.Tensor, tf.Tensor];
    // the norm is on the latent alone
    const latent = this.keyValueNorm.forward(raw);
    if (!this.#rotary) return { query, latent, rotaryKey: shared };
    const [content, moving] = tf.split(query, [contentDim, rotaryDim], 3) as [tf.Tensor, tf.Tensor];
    const fromStart = this.pattern !== 'causal-self' || state.latent!.shape[1] === 0;
    // an empty cache says that the sequence starts here, so the angles can be tabled on the host
    const positions: Positions = fromStart ? { start: 0, length } : tokenPositions({ x, state });
    const turned = rotaryEmbedding({ query: moving, key: tf.expandDims(shared, 2), positions }, this.#rotary);
    return { query: tf.concat([content, turned.query], 3), latent, rotaryKey: tf.squeeze(turned.key, [2]) };
  }
}

/** Rotary options without YaRN's temperature, and that temperature, which here belongs to the whole score. */
function splitYarn(rotary: RotaryOptions | null): { rotation: RotaryOptions | null; magnitude: number } {
  const scaling = rotary?.scaling;
  if (!rotary || scaling?.type !== 'yarn') return { rotation: rotary, magnitude: 1 };
  const magnitude = scaling.magnitude ?? (scaling.factor > 1 ? 0.1 * Math.log(scaling.factor) + 1 : 1);
  return { rotation: { ...rotary, scaling: { ...scaling, magnitude: 1 } }, magnitude };
}
