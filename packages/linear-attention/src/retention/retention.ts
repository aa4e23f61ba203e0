import { checkSetting } from '@seqloom/core';
import { chunkForm } from './chunk.ts';
import { runDecayed } from './decayed-call.ts';
import type { DecayedOptions, DecayedResult } from './decayed-call.ts';
import { parallelForm } from './parallel.ts';
import type { DecayedCall, DecayedTensors } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `retention` reads, all float32: query and key [B, T, H, K], value [B, T, H, V]. */
export type RetentionTensors = DecayedTensors;

/** Options of `retention`; everything has a default. */
export interface RetentionOptions extends DecayedOptions {
  /** log of the decay of each head, finite and at most 0; default `retentionLogDecays(H)` */
  readonly logDecay?: readonly number[];
}

const MECHANISM = 'retention';

/**
 * The decays of RetNet, `log(1 - 2^(-5 - h))` for head h: memories of about 32, 64, 128, ... tokens.
 *
 * @param heads number of heads
 * @returns one log decay per head
 */
export function retentionLogDecays(heads: number): number[] {
  return Array.from({ length: heads }, (_, h) => Math.log1p(-(2 ** (-5 - h))));
}

/**
 * Retention: linear attention whose memory decays at a constant rate per head.
 *
 * `S_t = gamma S_{t-1} + k_t v_t^T`, `o_t = scale S_t^T q_t`; noncausal: `o_n = scale sum_m gamma^|n - m| (q_n k_m) v_m`. Queries and keys are
 * rotated before, if at all: the layer does it.
 *
 * @param tensors query [B, T, H, K], key [B, T, H, K], value [B, T, H, V]
 * @param options pattern (causal-self), logDecay (`retentionLogDecays`), state of an earlier call, scale (K^-0.5), form (chunk),
 *   chunkSize (64), mask [B, T]: padding writes nothing and lets nothing decay
 * @returns output [B, T, H, V] and the state after the last token, `memory` [B, H, K, V]; both are the caller's to dispose
 * @throws SeqLoomError on a wrong rank, shape, dtype, or settings that do not go together
 * @see Sun et al. 2023, arXiv 2307.08621
 */
export function retention(tensors: RetentionTensors, options: RetentionOptions = {}): DecayedResult {
  const { logDecay: given, ...rest } = options;
  const settle = (heads: number, keyDim: number): Pick<DecayedCall, 'logDecay' | 'scale'> => {
    const logDecay = given ?? retentionLogDecays(heads);
    const right = logDecay.length === heads && logDecay.every((value) => Number.isFinite(value) && value <= 0);
    const wanted = `${heads} finite numbers of at most 0, one per head`;
    checkSetting(MECHANISM, 'logDecay', right, wanted, logDecay, 'Pass logarithms of decays in (0, 1].');
    return { logDecay, scale: rest.scale ?? keyDim ** -0.5 };
  };
  const forms = { parallel: parallelForm, chunk: chunkForm, recurrent: recurrentForm };
  return runDecayed({ mechanism: MECHANISM, forms, noncausalForms: ['chunk', 'parallel'], settle }, tensors, rest);
}
