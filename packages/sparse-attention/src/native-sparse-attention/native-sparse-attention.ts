import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Heads } from '../blocks/list-attention.ts';
import { chunkForm } from './chunk.ts';
import type { Compress } from './compression.ts';
import { compressionOf } from './compression.ts';
import { decodeForm } from './decode.ts';

const MECHANISM = 'native-sparse-attention';

/** What native sparse attention reads; an absent gate is 1. */
export type SparseInputs = Heads & {
  /** [B, T, H], weight of the compressed branch */
  readonly compressedGate?: tf.Tensor | undefined;
  /** [B, T, H], weight of the selected branch */
  readonly selectedGate?: tf.Tensor | undefined;
  /** [B, T, H], weight of the window branch */
  readonly windowGate?: tf.Tensor | undefined;
};

/** Settings of native sparse attention; the defaults are those of the paper. */
export interface SparseOptions {
  /** l, tokens per compressed key; default 32 */
  readonly compressionLength?: number | undefined;
  /** d, tokens between the starts of two of them; divides l and l'; default 16 */
  readonly compressionStride?: number | undefined;
  /** l', tokens per selection block; default 64 */
  readonly selectionBlock?: number | undefined;
  /** n, blocks that a query reads, forced ones included; default 16 */
  readonly selected?: number | undefined;
  /** first blocks that are always read; default 1 */
  readonly initialBlocks?: number | undefined;
  /** last blocks that are always read, the own one included; default 2 */
  readonly localBlocks?: number | undefined;
  /** keys of the window branch, self included; 0: no such branch; default 512 */
  readonly window?: number | undefined;
  /** factor on the scores; default D^-0.5 */
  readonly scale?: number | undefined;
  /** makes one compressed key, and one value, of the tokens of a window; default their mean */
  readonly compressKey?: Compress | undefined;
  readonly compressValue?: Compress | undefined;
}

/** Settings of `cachedNativeSparseAttention`. */
export interface CachedSparseOptions extends SparseOptions {
  /** [B], valid new tokens per row, with padding on the right; default all */
  readonly lengths?: tf.Tensor1D | null | undefined;
}

/** Settings with defaults filled in. */
export type SparseSettings = { readonly [K in keyof SparseOptions]-?: NonNullable<SparseOptions[K]> };

/** Keys and values, raw and compressed, of the tokens so far, right aligned: a state record that never changes. */
export type SparseState = {
  /** [B, L, G, D], at most `position` of them in use, the last ones */
  readonly key: tf.Tensor;
  /** [B, L, G, Dv] */
  readonly value: tf.Tensor;
  /** [B, N, G, D], one of every complete window */
  readonly compressedKey: tf.Tensor;
  /** [B, N, G, Dv] */
  readonly compressedValue: tf.Tensor;
  /** [B], tokens seen per row */
  readonly position: tf.Tensor;
};

function checkCall(inputs: SparseInputs, options: SparseOptions, batch: string | number): SparseSettings {
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', inputs.query, [batch, 'tokens', 'heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'key', inputs.key, [batch, 'tokens', 'key heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'value', inputs.value, [batch, 'tokens', 'key heads', 'value dim'], extents);
  for (const name of ['compressedGate', 'selectedGate', 'windowGate'] as const)
    if (inputs[name]) checkTensor(MECHANISM, name, inputs[name], [batch, 'tokens', 'heads'], extents);
  const [heads, groups] = [inputs.query.shape[2]!, inputs.key.shape[2]!];
  checkSetting(MECHANISM, 'key', heads % groups === 0, `of as many heads as divide ${heads}`, groups, 'Repeat or drop key heads.');
  const settings: SparseSettings = {
    ...compressionOf(options),
    selectionBlock: options.selectionBlock ?? 64,
    selected: options.selected ?? 16,
    initialBlocks: options.initialBlocks ?? 1,
    localBlocks: options.localBlocks ?? 2,
    window: options.window ?? 512,
    scale: options.scale ?? inputs.query.shape[3]! ** -0.5,
  };
  checkSizes(MECHANISM, '', settings);
  checkSetting(MECHANISM, 'scale', Number.isFinite(settings.scale), 'a finite number', settings.scale, 'Leave it out for 1 / sqrt(D).');
  return settings;
}

/** Refuses sizes that do not go together; `prefix` stands before their names. */
export function checkSizes(
  mechanism: string,
  prefix: string,
  sizes: Pick<
    SparseSettings,
    'compressionLength' | 'compressionStride' | 'selectionBlock' | 'selected' | 'initialBlocks' | 'localBlocks' | 'window'
  >,
): void {
  for (const [name, least] of [
    ['compressionLength', 1],
    ['compressionStride', 1],
    ['selectionBlock', 1],
    ['selected', 1],
    ['initialBlocks', 0],
    ['localBlocks', 1],
    ['window', 0],
  ] as const) {
    const given = sizes[name];
    const right = Number.isInteger(given) && given >= least;
    checkSetting(mechanism, `${prefix}${name}`, right, `a whole number of at least ${least}`, given, 'Leave it out for the default.');
  }
  const { compressionLength, compressionStride, selectionBlock } = sizes;
  checkSetting(
    mechanism,
    `${prefix}compressionStride`,
    compressionLength % compressionStride === 0 && selectionBlock % compressionStride === 0,
    `a divisor of ${compressionLength} and ${selectionBlock}`,
    compressionStride,
    'Windows and blocks share tokens in units of the stride.',
  );
}

/**
 * Native sparse attention of a whole sequence: `o_i = g^cmp o^cmp + g^slc o^slc + g^win o^win`.
 *
 * o^cmp attends to one key per complete window of l tokens, o^slc to the tokens of the n blocks whose windows got the most weight there
 * (summed over the query heads of a group, which therefore share their blocks), o^win to the last w tokens.
 * Which blocks are read is a constant of the gradient; the compressed keys learn through o^cmp.
 *
 * @param inputs query [B, T, H, D], key [B, T, G, D], value [B, T, G, Dv], float32, with positions in them; gates [B, T, H]
 * @param options sizes of windows and blocks, scale, compression
 * @returns output [B, T, H, Dv], owned by the caller
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 * @see Yuan et al. 2025, arXiv 2502.11089
 */
export function nativeSparseAttention(inputs: SparseInputs, options: SparseOptions = {}): { output: tf.Tensor4D } {
  const settings = checkCall(inputs, options, 'batch');
  return tidy(() => ({ output: chunkForm(inputs, settings) }));
}

/**
 * The same for one or more new tokens against a cache: reads the compressed keys, the window, and the tokens of selected blocks alone.
 *
 * @param inputs of the new tokens; rows may have padding on the right (`lengths`), where the output is arbitrary
 * @param state from `emptySparseState` or an earlier call with the same options; stays the caller's
 * @param options as for the whole sequence, and lengths
 * @returns output [B, T, H, Dv] and the state after the new tokens, both owned by the caller
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 * @see Yuan et al. 2025, arXiv 2502.11089
 */
export function cachedNativeSparseAttention(
  inputs: SparseInputs,
  state: SparseState,
  options: CachedSparseOptions = {},
): { output: tf.Tensor4D; state: SparseState } {
  const settings = checkCall(inputs, options, state.position.shape[0]!);
  return tidy(() => decodeForm(inputs, state, settings, options.lengths ?? null));
}
