/**
 * Routing attention in float64 on plain arrays: the specification, cluster by cluster and, for the recent form, token by token.
 *
 * | code           | symbol   | equation                                                                  |
 * | -------------- | -------- | ------------------------------------------------------------------------- |
 * | unit           | x̂        | x / max(abs(x), 1e-12)                                                    |
 * | centroids      | μ_c      | rows of [H, C, D]                                                         |
 * | similarity     | s_tc     | x̂_t μ_c                                                                   |
 * | members        | I_c      | the w largest s_tc over t, ties to the lower t                            |
 * | logits         | l_ab     | scale q_a k_b, a and b in I_c                                             |
 * | own            |          | -5e4 instead of the logit of a token's own shared key                     |
 * | output         | o_t      | sum over c with t in I_c of out_t^c, divided by their number + 1e-5       |
 * | nearest        | c(t)     | argmax_c s_tc                                                             |
 * | decay          | λ        | μ_c <- λ μ_c + (1 - λ) n_c, n_c the unit vector of sum of x̂_t with c(t) = c |
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of the naive forms. */
export interface NaiveRoutingInputs {
  /** [B, T, H, D] */
  readonly query: Array64;
  /** [B, S, H, D] */
  readonly key: Array64;
  /** [B, S, H, Dv] */
  readonly value: Array64;
  /** [H, C, D] */
  readonly centroids: Array64;
  /** [H, C, M, D] */
  readonly memoryKey?: Array64 | undefined;
  /** [H, C, M, Dv] */
  readonly memoryValue?: Array64 | undefined;
}

/** Settings of the naive forms. */
export interface NaiveRoutingSettings {
  readonly window: number;
  readonly causal?: boolean;
  readonly sharedQueryKey?: boolean;
}

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, d) => sum + value * b[d]!, 0);
const unit = (x: readonly number[]): number[] => {
  const length = Math.max(Math.sqrt(dot(x, x)), 1e-12);
  return x.map((value) => value / length);
};

/** The vector of one row and head of [B, T, H, D], or of one head, cluster and memory of [H, C, M, D]. */
const vector = (x: Array64, a: number, b: number, c: number): number[] => {
  const [, count, inner, width] = x.shape as [number, number, number, number];
  const start = ((a * count + b) * inner + c) * width;
  return [...x.data.subarray(start, start + width)];
};

function softmaxSum(logits: readonly number[], values: readonly number[][], width: number): number[] {
  const output = Array.from({ length: width }, () => 0);
  if (logits.length === 0) return output;
  const top = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp(logit - top));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  values.forEach((value, at) => value.forEach((channel, d) => (output[d]! += (weights[at]! / total) * channel)));
  return output;
}

function read({ query, key, value, centroids, memoryKey, memoryValue }: NaiveRoutingInputs, shared: boolean) {
  const [B, T, H, D] = query.shape as [number, number, number, number];
  const [, S, , Dv] = value.shape as [number, number, number, number];
  const C = centroids.shape[1]!;
  const M = memoryKey?.shape[2] ?? 0;
  const mu = (h: number, c: number): number[] => [...centroids.data.subarray((h * C + c) * D, (h * C + c + 1) * D)];
  return {
    ...{ B, T, S, H, D, Dv, C, M },
    q: (b: number, t: number, h: number): number[] => vector(query, b, t, h),
    k: (b: number, t: number, h: number): number[] => (shared ? unit(vector(key, b, t, h)) : vector(key, b, t, h)),
    v: (b: number, t: number, h: number): number[] => vector(value, b, t, h),
    similarity: (x: Array64, b: number, t: number, h: number): number[] => {
      const direction = unit(vector(x, b, t, h));
      return Array.from({ length: C }, (_, c) => dot(direction, mu(h, c)));
    },
    memory: (h: number, c: number): { k: number[]; v: number[] }[] =>
      Array.from({ length: M }, (_, m) => ({ k: vector(memoryKey!, h, c, m), v: vector(memoryValue!, h, c, m) })),
  };
}

/** Balanced clusters, as published: output [B, T, H, Dv]. */
export function naiveRoutingAttention(inputs: NaiveRoutingInputs, settings: NaiveRoutingSettings): { output: Array64 } {
  const { window, causal = false, sharedQueryKey = false } = settings;
  const { B, T, S, H, D, Dv, C, q, k, v, similarity, memory } = read(inputs, sharedQueryKey);
  const output = new Float64Array(B * T * H * Dv);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++) {
      const members = (x: Array64, count: number): number[][] => {
        const scores = Array.from({ length: count }, (_, t) => similarity(x, b, t, h));
        const tokens = Array.from({ length: count }, (_, t) => t);
        return Array.from({ length: C }, (_, c) => tokens.toSorted((i, j) => scores[j]![c]! - scores[i]![c]! || i - j).slice(0, window));
      };
      const queries = members(inputs.query, T);
      const keys = sharedQueryKey ? queries : members(inputs.key, S);
      const sums = Array.from({ length: T }, () => Array.from({ length: Dv + 1 }, () => 0));
      for (let c = 0; c < C; c++)
        for (const t of queries[c]!) {
          const seen = keys[c]!.filter((j) => !causal || j <= t);
          const own = (j: number): boolean => sharedQueryKey && j === t;
          const logits = [
            ...memory(h, c).map((one) => D ** -0.5 * dot(q(b, t, h), one.k)),
            ...seen.map((j) => (own(j) ? -5e4 : D ** -0.5 * dot(q(b, t, h), k(b, j, h)))),
          ];
          const values = [...memory(h, c).map((one) => one.v), ...seen.map((j) => v(b, j, h))];
          [...softmaxSum(logits, values, Dv), 1].forEach((channel, d) => (sums[t]![d]! += channel));
        }
      sums.forEach((sum, t) => {
        for (let d = 0; d < Dv; d++) output[((b * T + t) * H + h) * Dv + d] = sum[d]! / (sum[Dv]! + 1e-5);
      });
    }
  return { output: { shape: [B, T, H, Dv], data: output } };
}

/** Strictly causal routing, token by token: the last w keys whose nearest centroid is the query's; output [B, T, H, Dv]. */
export function naiveRecentRouting(inputs: NaiveRoutingInputs, settings: NaiveRoutingSettings): { output: Array64 } {
  const { window, sharedQueryKey = false } = settings;
  const { B, T, H, D, Dv, q, k, v, similarity, memory } = read(inputs, sharedQueryKey);
  const output = new Float64Array(B * T * H * Dv);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++) {
      const nearest = (x: Array64, t: number): number => {
        const scores = similarity(x, b, t, h);
        return scores.indexOf(Math.max(...scores));
      };
      const clusters: number[] = [];
      for (let t = 0; t < T; t++) {
        const c = nearest(inputs.query, t);
        clusters.push(sharedQueryKey ? c : nearest(inputs.key, t));
        const last = clusters.flatMap((own, j) => (own === c ? [j] : [])).slice(-window);
        const others = memory(h, c);
        const seen = sharedQueryKey && last.length + others.length > 1 ? last.filter((j) => j !== t) : last;
        const logits = [...others.map((one) => one.k), ...seen.map((j) => k(b, j, h))].map((key) => D ** -0.5 * dot(q(b, t, h), key));
        const mixed = softmaxSum(logits, [...others.map((one) => one.v), ...seen.map((j) => v(b, j, h))], Dv);
        output.set(mixed, ((b * T + t) * H + h) * Dv);
      }
    }
  return { output: { shape: [B, T, H, Dv], data: output } };
}

/** One step of online k-means over tokens [B, T, H, D]: new centroids [H, C, D]. */
export function naiveMovedCentroids(points: readonly Array64[], centroids: Array64, decay: number): Array64 {
  const [H, C, D] = centroids.shape as [number, number, number];
  const moved = Float64Array.from(centroids.data);
  for (let h = 0; h < H; h++) {
    const mu = Array.from({ length: C }, (_, c) => [...centroids.data.subarray((h * C + c) * D, (h * C + c + 1) * D)]);
    const sums = mu.map(() => Array.from({ length: D }, () => 0));
    const counts = mu.map(() => 0);
    for (const x of points) {
      const [B, T] = x.shape as [number, number];
      for (let b = 0; b < B; b++)
        for (let t = 0; t < T; t++) {
          const direction = unit(vector(x, b, t, h));
          const scores = mu.map((one) => dot(direction, one));
          const c = scores.indexOf(Math.max(...scores));
          counts[c]!++;
          direction.forEach((channel, d) => (sums[c]![d]! += channel));
        }
    }
    mu.forEach((one, c) => {
      const target = counts[c] === 0 ? one : unit(sums[c]!);
      one.forEach((old, d) => (moved[(h * C + c) * D + d] = decay * old + (1 - decay) * target[d]!));
    });
  }
  return { shape: centroids.shape, data: moved };
}
