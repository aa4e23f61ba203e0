/**
 * RAT, the specification in double precision.
 *
 * Glossary (Wei et al. 2025, section 3; one head, rows are tokens)
 *   query, key, value   q_t, k_t, v_t   [B, T, H, D]
 *   logDecay            log g_t         [B, T, H, D], the gate of both recurrences
 *   runningKey          k~_t            g_t k~_{t-1} + (1 - g_t) k_t, from 0 at the start of every chunk
 *   runningValue        v~_t            the same of v
 *   cachedKey, cachedValue              k~ (turned) and v~ at the ends of finished chunks, [B, N, H, D]
 *   output              o_t             softmax(scale q_t [k~ at the ends of earlier chunks, k~_t]) [v~ there, v~_t]
 * Queries and keys are turned by the index of their chunk (rotary positions, halves of the head as pairs).
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveRat`; the four of the state come together or not at all. */
export interface NaiveRatInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  readonly logDecay: Array64;
  readonly cachedKey?: Array64;
  readonly cachedValue?: Array64;
  /** [B, H, D] */
  readonly runningKey?: Array64;
  readonly runningValue?: Array64;
}

/** Settings of `naiveRat`, all explicit. */
export interface NaiveRatSettings {
  readonly chunkSize: number;
  readonly scale: number;
  /** null: no positions */
  readonly rotaryBase: number | null;
  /** tokens before the first one, of every row */
  readonly start: number;
}

/** Output [B, T, H, D], and the state after the last token. */
export interface NaiveRat {
  readonly output: Array64;
  readonly cachedKey: Array64;
  readonly cachedValue: Array64;
  readonly runningKey: Array64;
  readonly runningValue: Array64;
}

function turned(x: readonly number[], place: number, base: number | null): number[] {
  if (base === null) return [...x];
  const pairs = x.length / 2;
  const result = [...x];
  for (let pair = 0; pair < pairs; pair++) {
    const angle = place * base ** (-pair / pairs);
    const [a, b] = [x[pair]!, x[pair + pairs]!];
    result[pair] = a * Math.cos(angle) - b * Math.sin(angle);
    result[pair + pairs] = a * Math.sin(angle) + b * Math.cos(angle);
  }
  return result;
}

/** Token by token. */
export function naiveRat(inputs: NaiveRatInputs, { chunkSize, scale, rotaryBase, start }: NaiveRatSettings): NaiveRat {
  const { query, key, value, logDecay } = inputs;
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  const before = Math.floor(start / chunkSize);
  const chunks = Math.floor((start + length) / chunkSize);
  const make = (...shape: number[]): Array64 => ({ shape, data: new Float64Array(shape.reduce((a, b) => a * b, 1)) });
  const output = make(batch, length, heads, width);
  const [cachedKey, cachedValue] = [make(batch, chunks, heads, width), make(batch, chunks, heads, width)];
  const [runningKey, runningValue] = [make(batch, heads, width), make(batch, heads, width)];
  const row = (array: Array64 | undefined, ...place: number[]): number[] => {
    if (!array) return Array<number>(width).fill(0);
    const index = place.reduce((at, one, axis) => at * array.shape[axis]! + one, 0);
    return Array.from(array.data.subarray(index * width, (index + 1) * width));
  };
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      let [k, v] = [row(inputs.runningKey, b, h), row(inputs.runningValue, b, h)];
      const ends = Array.from({ length: before }, (_, c) => ({
        key: row(inputs.cachedKey, b, c, h),
        value: row(inputs.cachedValue, b, c, h),
      }));
      for (let t = 0; t < length; t++) {
        const place = start + t;
        const chunk = Math.floor(place / chunkSize);
        const gates = row(logDecay, b, t, h);
        const step = (old: number[], fresh: number[]): number[] =>
          fresh.map((x, d) => (place % chunkSize === 0 ? 0 : Math.exp(gates[d]!) * old[d]!) - Math.expm1(gates[d]!) * x);
        [k, v] = [step(k, row(key, b, t, h)), step(v, row(value, b, t, h))];
        const own = { key: turned(k, chunk, rotaryBase), value: v };
        const seen = [...ends.slice(0, chunk), own];
        const q = turned(row(query, b, t, h), chunk, rotaryBase);
        const logits = seen.map((pair) => scale * pair.key.reduce((sum, x, d) => sum + x * q[d]!, 0));
        const top = Math.max(...logits);
        const powers = logits.map((logit) => Math.exp(logit - top));
        const total = powers.reduce((a, c) => a + c, 0);
        const place64 = ((b * length + t) * heads + h) * width;
        seen.forEach((pair, j) => pair.value.forEach((x, d) => (output.data[place64 + d]! += (powers[j]! / total) * x)));
        if (place % chunkSize === chunkSize - 1) ends.push(own);
      }
      ends.forEach((pair, c) => {
        cachedKey.data.set(pair.key, ((b * chunks + c) * heads + h) * width);
        cachedValue.data.set(pair.value, ((b * chunks + c) * heads + h) * width);
      });
      runningKey.data.set(k, (b * heads + h) * width);
      runningValue.data.set(v, (b * heads + h) * width);
    }
  }
  return { output, cachedKey, cachedValue, runningKey, runningValue };
}
