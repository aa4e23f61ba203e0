import { checkSetting } from '@seqloom/core';
import { runDecayed } from '../retention/decayed-call.ts';
import type { DecayedOptions, DecayedResult } from '../retention/decayed-call.ts';
import type { DecayedCall, DecayedTensors } from '../retention/parallel.ts';
import { chunkForm } from './chunk.ts';
import { lightningDecayRates } from './decay-rates.ts';
import { parallelForm } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `lightningAttention` reads, all float32: query and key [B, T, H, K], value [B, T, H, V]. */
export type LightningAttentionTensors = DecayedTensors;

/** Options of `lightningAttention`; everything has a default. The noncausal pattern has the parallel form alone. */
export interface LightningAttentionOptions extends DecayedOptions {
  /** s of each head, finite and at least 0; default `lightningDecayRates({ heads })`. Noncausal: left out, or zeros */
  readonly decayRates?: readonly number[];
}

const MECHANISM = 'lightning-attention';

/**
 * Lightning attention: linear attention with a constant decay per head, in blocks, without a softmax and without a normaliser.
 *
 * `KV_t = exp(-s) KV_{t-1} + k_t v_t^T`, `o_t = scale KV_t^T q_t`; noncausal, without decay: `O = scale Q (K^T V)`.
 *
 * @param tensors query [B, T, H, K], key [B, T, H, K], value [B, T, H, V]
 * @param options pattern (causal-self), decayRates (`lightningDecayRates` of the first layer), state of an earlier call, scale (1), form (chunk;
 *   noncausal: parallel), chunkSize (64), mask [B, T]: padding writes nothing and lets nothing decay
 * @returns output [B, T, H, V] and the state after the last token, `memory` [B, H, K, V]; both are the caller's to dispose
 * @throws SeqLoomError on a wrong rank, shape, dtype, or settings that do not go together
 * @see Qin et al. 2024, arXiv 2405.17381
 */
export function lightningAttention(tensors: LightningAttentionTensors, options: LightningAttentionOptions = {}): DecayedResult {
  const { decayRates: given, ...rest } = options;
  const settle = (heads: number, _keyDim: number, noncausal: boolean): Pick<DecayedCall, 'logDecay' | 'scale'> => {
    const rates = given ?? (noncausal ? Array<number>(heads).fill(0) : lightningDecayRates({ heads }));
    const right = rates.length === heads && rates.every((rate) => Number.isFinite(rate) && rate >= 0);
    checkSetting(MECHANISM, 'decayRates', right, `${heads} finite numbers of at least 0, one per head`, rates, 'Pass s, not exp(-s).');
    const fits = !noncausal || rates.every((rate) => rate === 0);
    checkSetting(
      MECHANISM,
      'decayRates',
      fits,
      'left out or zero for noncausal-self',
      rates,
      'Use retention for a decay in both directions.',
    );
    return { logDecay: rates.map((rate) => -rate), scale: rest.scale ?? 1 };
  };
  const forms = { parallel: parallelForm, chunk: chunkForm, recurrent: recurrentForm };
  return runDecayed({ mechanism: MECHANISM, forms, noncausalForms: ['parallel'], settle }, tensors, rest);
}
