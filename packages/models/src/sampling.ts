import { Random, deriveSeed, fail } from '@seqloom/core';

/** How the next token is drawn. */
export interface SamplingOptions {
  /** divides the logits; 0 takes the most likely token. Default 1 */
  readonly temperature?: number;
  /** keep the k most likely tokens; default all */
  readonly topK?: number;
  /** keep the smallest set of most likely tokens whose probability reaches this; the token that crosses is kept. Default 1 */
  readonly topP?: number;
  /** keep tokens of at least this fraction of the most likely one's probability; default 0 */
  readonly minP?: number;
  /** divides positive and multiplies negative logits of tokens seen, each distinct token once; default 1 */
  readonly repetitionPenalty?: number;
  /** seed of the draws; row r at step s draws from (seed, r, s), whatever its neighbours do. Default 0 */
  readonly seed?: number;
}

const RANGES: readonly [keyof SamplingOptions, (value: number) => boolean, string][] = [
  ['temperature', (value) => value >= 0 && Number.isFinite(value), 'a number of at least 0'],
  ['topK', (value) => Number.isInteger(value) && value >= 1, 'a whole number of at least 1'],
  ['topP', (value) => value > 0 && value <= 1, 'in (0, 1]'],
  ['minP', (value) => value >= 0 && value <= 1, 'in [0, 1]'],
  ['repetitionPenalty', (value) => value > 0 && Number.isFinite(value), 'above 0'],
  ['seed', (value) => Number.isSafeInteger(value), 'a whole number'],
];

/** Refuses sampling options that are out of range. */
export function checkSampling(options: SamplingOptions): void {
  for (const [key, fits, wanted] of RANGES) {
    const value = options[key];
    if (value !== undefined && !fits(value)) {
      fail({ mechanism: 'generate', argument: key, wanted, given: String(value), remedy: 'Leave it out for the default.' });
    }
  }
}

/**
 * Draws one token: penalty, temperature, top-k, top-p, min-p, then an inverse-distribution draw.
 *
 * @param logits [V] raw logits, left as they are
 * @param seen tokens of prompt and output so far
 * @param row which row, and `step` which draw: together with the seed they fix the random number
 * @returns the token's id; ties go to the lower id
 */
export function sampleToken(logits: Float32Array, seen: Iterable<number>, options: SamplingOptions, row: number, step: number): number {
  const { temperature = 1, topK = logits.length, topP = 1, minP = 0, repetitionPenalty = 1, seed = 0 } = options;
  const scores = Float64Array.from(logits);
  if (repetitionPenalty !== 1) {
    for (const id of new Set(seen)) scores[id] = scores[id]! < 0 ? scores[id]! * repetitionPenalty : scores[id]! / repetitionPenalty;
  }
  if (temperature === 0 || topK === 1) return argmax(scores);
  const best = scores[argmax(scores)]!;
  const order = [...scores.keys()].filter((id) => scores[id]! > -Infinity).toSorted((a, b) => scores[b]! - scores[a]! || a - b);
  const kept = order.slice(0, topK);
  const weights = kept.map((id) => Math.exp((scores[id]! - best) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  let count = 0;
  let mass = 0;
  while (count < kept.length && (count === 0 || (mass < topP * total && weights[count]! >= minP))) mass += weights[count++]!;
  const target = new Random(deriveSeed(seed, `${row}.${step}`)).uniform() * mass;
  let reached = 0;
  for (let i = 0; i < count; i++) {
    reached += weights[i]!;
    if (target < reached) return kept[i]!;
  }
  return kept[count - 1]!;
}

function argmax(values: Float64Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
