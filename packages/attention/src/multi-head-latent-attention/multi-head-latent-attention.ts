import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import { absorbedForm } from './decode.ts';
import { expandedForm } from './parallel.ts';

const MECHANISM = 'multi-head-latent-attention';

/** Inputs of multi-head latent attention, all float32. */
export interface LatentAttentionInputs {
  /** [B, T, H, Dn + Dr], in each head the part without position first, then the rotated one */
  readonly query: tf.Tensor;
  /** [B, S, C], normalised latents of keys and values, one per token */
  readonly latent: tf.Tensor;
  /** [B, S, Dr], the rotated key part that all heads share; absent: Dr is 0 */
  readonly rotaryKey?: tf.Tensor | undefined;
  /** [C, H, Dn + Dv], maps a latent to each head's key without position and its value */
  readonly keyValueUp: tf.Tensor;
  /** [B, S], a token's index, or -1 where there is none; default all are there */
  readonly keyPositions?: tf.Tensor | undefined;
}

/** Expands latents to keys and values ('parallel'), absorbs their maps into queries and outputs ('decode'), or takes the cheaper. */
export type LatentForm = 'auto' | 'parallel' | 'decode';

/** Options of `multiHeadLatentAttention`. */
export interface LatentAttentionOptions {
  /** query i of T sees tokens j <= i + S - T; default true */
  readonly causal?: boolean | undefined;
  /** multiplies scores; default (Dn + Dr)^-0.5 */
  readonly scale?: number | undefined;
  /** default 'auto': `latentForm` tells which one runs */
  readonly form?: LatentForm | undefined;
}

/** Sizes that decide about the form. */
export interface LatentSizes {
  /** T, queries */
  readonly tokens: number;
  /** S, tokens that they read */
  readonly keys: number;
  /** C */
  readonly latentDim: number;
  /** Dn */
  readonly contentDim: number;
  /** Dr */
  readonly rotaryDim: number;
  /** Dv */
  readonly valueHeadDim: number;
}

/**
 * The form that takes fewer multiplications: `S C (Dn + Dv) + T S (Dn + Dr + Dv)` per head expanded against
 * `T C (Dn + Dv) + T S (2 C + Dr)` absorbed.
 *
 * @returns 'parallel' for whole sequences, 'decode' for few tokens behind many
 */
export function latentForm(sizes: LatentSizes): 'parallel' | 'decode' {
  const { tokens, keys, latentDim, contentDim, rotaryDim, valueHeadDim } = sizes;
  const map = latentDim * (contentDim + valueHeadDim);
  const expanded = keys * map + tokens * keys * (contentDim + rotaryDim + valueHeadDim);
  const absorbed = tokens * map + tokens * keys * (2 * latentDim + rotaryDim);
  return absorbed < expanded ? 'decode' : 'parallel';
}

/**
 * Attention whose keys and values are maps of one small latent per token: `k_h = [W_UK,h c ; k^r]`, `v_h = W_UV,h c`.
 *
 * Every head has its own maps, but all read the same latent and rotary key, which are therefore all that a cache holds.
 *
 * @param inputs query [B, T, H, Dn + Dr], latent [B, S, C], rotaryKey [B, S, Dr], keyValueUp [C, H, Dn + Dv]
 * @param options causal, scale, form
 * @returns output [B, T, H, Dv], owned by the caller, differentiable
 * @throws SeqLoomError when a shape, dtype or option does not fit
 * @see DeepSeek-V2 (arXiv 2405.04434), section 2.1
 */
export function multiHeadLatentAttention(inputs: LatentAttentionInputs, options: LatentAttentionOptions = {}): { output: tf.Tensor4D } {
  const { causal = true, form = 'auto' } = options;
  const extents: Extents = new Map();
  checkTensor(MECHANISM, 'query', inputs.query, ['B', 'T', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'latent', inputs.latent, ['B', 'S', 'C'], extents);
  if (inputs.rotaryKey) checkTensor(MECHANISM, 'rotaryKey', inputs.rotaryKey, ['B', 'S', 'R'], extents);
  checkTensor(MECHANISM, 'keyValueUp', inputs.keyValueUp, ['C', 'H', 'E'], extents);
  if (inputs.keyPositions) checkTensor(MECHANISM, 'keyPositions', inputs.keyPositions, ['B', 'S'], extents);
  const at = (name: string): number => extents.get(name) ?? 0;
  const contentDim = at('D') - at('R');
  const valueHeadDim = at('E') - contentDim;
  const fits = (name: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(MECHANISM, name, right, wanted, given, remedy);
  fits('query', contentDim > 0, `wider than the rotary key's ${at('R')}`, at('D'), 'A head begins with its part without position.');
  fits('keyValueUp', valueHeadDim > 0, `[C, H, more than ${contentDim}]`, at('E'), 'Give each head its keys and its values.');
  fits(
    'latent',
    !causal || at('S') >= at('T'),
    `of at least the ${at('T')} tokens of the query`,
    at('S'),
    'Join the cache and the new tokens.',
  );
  fits(
    'options.form',
    ['auto', 'parallel', 'decode'].includes(form),
    "'auto', 'parallel' or 'decode'",
    form,
    'Leave it out to take the cheaper.',
  );
  const sizes = { tokens: at('T'), keys: at('S'), latentDim: at('C'), contentDim, rotaryDim: at('R'), valueHeadDim };
  const run = (form === 'auto' ? latentForm(sizes) : form) === 'parallel' ? expandedForm : absorbedForm;
  return tidy(() => ({ output: run(inputs, sizes, { causal, scale: options.scale ?? at('D') ** -0.5 }) }));
}
