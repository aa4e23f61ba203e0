import { fail } from '../../error.ts';

/** Attributes of `SoftmaxAttention`, all filled in. */
export type SoftmaxAttentionAttributes = {
  readonly scale: number;
  readonly causal: boolean;
  readonly window: number | null;
  readonly dilation: number;
  readonly sinks: number;
  readonly prefix: number;
  readonly softCap: number | null;
  readonly blockSize: number;
  readonly aligned: boolean;
};

/** Options of `softmaxAttention`. */
export interface SoftmaxAttentionOptions {
  /** multiplies query-key products; default D^-0.5 */
  readonly scale?: number | undefined;
  /** hides keys after the query; default false */
  readonly causal?: boolean | undefined;
  /** number of keys seen, self included: distance < window (on both sides when not causal); default null, no window */
  readonly window?: number | null | undefined;
  /** only keys at a distance that this divides; default 1 */
  readonly dilation?: number | undefined;
  /** keys at positions below this stay visible outside the window, though not from before them when causal; default 0 */
  readonly sinks?: number | undefined;
  /** keys at positions below this are visible to every query; default 0 */
  readonly prefix?: number | undefined;
  /** c in c tanh(score / c), applied before any bias; default null, no cap */
  readonly softCap?: number | null | undefined;
  /** keys (and queries) per tile: memory grows with T blockSize; default 512, or near the window */
  readonly blockSize?: number | undefined;
  /**
   * a promise that every key position is its index j or -1 and that there are no query positions, so that excluded tiles can be
   * skipped although positions are given; changes no result; default false
   */
  readonly aligned?: boolean | undefined;
}

/**
 * Checks the options of softmax attention and fills in their defaults; free of tfjs, so that every writing of the kernel can share it.
 *
 * @param options as the caller gave them
 * @param call head dimension D, whether there are query positions, and the block size where none is asked for
 * @throws SeqLoomError when an option does not fit
 */
export function softmaxAttentionAttributes(
  options: SoftmaxAttentionOptions,
  call: { readonly headDim: number; readonly queryPositions: boolean; readonly blockSize?: number },
): SoftmaxAttentionAttributes {
  const { causal = false, window = null, dilation = 1, sinks = 0, prefix = 0, softCap = null, aligned = false } = options;
  const { scale = call.headDim ** -0.5, blockSize = call.blockSize ?? tileSize(window) } = options;
  if (call.queryPositions && aligned) reject('queryPositions', 'absent with options.aligned', 'an array', 'Leave out one of the two.');
  if (!Number.isFinite(scale)) reject('options.scale', 'a finite number', String(scale), 'Leave it out for D^-0.5.');
  if (window !== null) whole('options.window', window, 1);
  whole('options.dilation', dilation, 1);
  whole('options.sinks', sinks, 0);
  whole('options.prefix', prefix, 0);
  if (softCap !== null && !(softCap > 0 && Number.isFinite(softCap)))
    reject('options.softCap', 'a finite number above 0, or null', String(softCap), 'Leave it out for no cap.');
  whole('options.blockSize', blockSize, 1);
  return { scale, causal, window, dilation, sinks, prefix, softCap, blockSize, aligned };
}

/** 512, or the multiple of 64 that holds the window: small tiles waste less at a window's edges. */
function tileSize(window: number | null): number {
  return window === null ? 512 : Math.min(512, Math.max(128, Math.ceil(window / 64) * 64));
}

function whole(argument: string, given: number, least: number): void {
  if (!Number.isInteger(given) || given < least)
    reject(argument, `a whole number of at least ${least}`, String(given), 'See SoftmaxAttentionOptions.');
}

function reject(argument: string, wanted: string, given: string, remedy: string): never {
  return fail({ mechanism: 'SoftmaxAttention', argument, wanted, given, remedy });
}
