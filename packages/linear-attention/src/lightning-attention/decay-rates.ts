import { checkSetting } from '@seqloom/core';

/** How decay rates fall with the head and the layer: as MiniMax, as TransNormerLLM's code, or as its paper has it. */
export type DecaySchedule = 'minimax' | 'transnormer' | 'linear';

/** Where a layer stands. */
export interface DecayRatesConfig {
  readonly heads: number;
  /** index of the layer, default 0 */
  readonly layer?: number;
  /** number of layers of the model, default 1 */
  readonly layers?: number;
  /** default minimax */
  readonly schedule?: DecaySchedule;
}

/**
 * Decay rates s of the heads, lambda = exp(-s).
 *
 * `minimax`: base_h (1 - l / (L - 1 + 1e-5) + 1e-5); `transnormer`: base_h (1 - l / (L - 1) + 1e-5); `linear`: (8 h / H) (1 - l / L) with h from
 * 0, so that the first head never forgets. base are the slopes of ALiBi, 2^(-8 h / H) with h from 1. The last layer hardly forgets.
 *
 * @returns one rate per head, at least 0
 * @throws SeqLoomError when heads or layers are no whole numbers, or the layer is not one of them
 * @see Qin et al. 2023, arXiv 2307.14995 and 2024, arXiv 2405.17381; MiniMax 2025, arXiv 2501.08313
 */
export function lightningDecayRates({ heads, layer = 0, layers = 1, schedule = 'minimax' }: DecayRatesConfig): number[] {
  const whole = (name: string, value: number, from: number, below: number): void => {
    const right = Number.isInteger(value) && value >= from && value < below;
    checkSetting(
      'lightning-attention',
      name,
      right,
      `a whole number from ${from}${below < Infinity ? ` below ${below}` : ''}`,
      value,
      'Count from there.',
    );
  };
  whole('heads', heads, 1, Infinity);
  whole('layers', layers, 1, Infinity);
  whole('layer', layer, 0, layers);
  if (schedule === 'linear') return Array.from({ length: heads }, (_, h) => ((8 * h) / heads) * (1 - layer / layers));
  const last = schedule === 'minimax' ? layers - 1 + 1e-5 : Math.max(1, layers - 1);
  return alibiSlopes(heads).map((slope) => slope * (1 - layer / last + 1e-5));
}

// for a number of heads that is no power of two: the slopes of the one below, then every second one of the one above
function alibiSlopes(heads: number): number[] {
  const ladder = (count: number): number[] => Array.from({ length: count }, (_, h) => 2 ** ((-8 * (h + 1)) / count));
  const below = 2 ** Math.floor(Math.log2(heads));
  const rest = ladder(2 * below).filter((_, h) => h % 2 === 0);
  return [...ladder(below), ...rest.slice(0, heads - below)];
}
