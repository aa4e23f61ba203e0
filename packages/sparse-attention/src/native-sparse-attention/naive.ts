/**
 * Native sparse attention, the specification in double precision.
 *
 * Glossary (Yuan et al. 2025, section 3; one key head with its query heads, rows are tokens)
 *   query, key, value            q_t, k_t, v_t     [B, T, H, D], [B, T, G, D], [B, T, G, Dv]; query head h reads key head floor(h G / H)
 *   compressionLength, Stride    l, d              window w holds tokens w d to w d + l - 1
 *   compressed                   K^cmp, V^cmp      means over the windows (phi of equation 7), seen once the window is complete
 *   weights                      p^cmp             softmax(q K^cmp), equation 8
 *   importance                   p^slc             sum over windows of p^cmp times the tokens shared with the block / d, equation 9
 *   summed over a group          p^slc'            equation 10
 *   selectionBlock, selected     l', n             tokens per block, blocks per query: own, initial and local ones first, equation 11
 *   window                       w                 sliding window, section 3.3.3
 *   gates                        g^cmp, g^slc, g^win   equation 5
 */

/** A dense float64 tensor, row-major. */
export interface NaiveTensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What `naiveNativeSparseAttention` reads; an absent gate is 1. */
export interface NaiveSparseInputs {
  readonly query: NaiveTensor;
  readonly key: NaiveTensor;
  readonly value: NaiveTensor;
  /** [B, T, H] */
  readonly compressedGate?: NaiveTensor | undefined;
  readonly selectedGate?: NaiveTensor | undefined;
  readonly windowGate?: NaiveTensor | undefined;
}

/** Settings of `naiveNativeSparseAttention`, all explicit. */
export interface NaiveSparseSettings {
  readonly compressionLength: number;
  readonly compressionStride: number;
  readonly selectionBlock: number;
  readonly selected: number;
  readonly initialBlocks: number;
  readonly localBlocks: number;
  /** 0: no window branch */
  readonly window: number;
  readonly scale?: number;
}

type Row = Float64Array;

const dot = (a: Row, b: Row): number => a.reduce((sum, x, d) => sum + x * b[d]!, 0);

/** Softmax weights of a query over keys; none for no keys. */
function softmax(query: Row, keys: readonly Row[], scale: number): number[] {
  const scores = keys.map((key) => scale * dot(query, key));
  const top = Math.max(...scores);
  const raised = scores.map((score) => Math.exp(score - top));
  const total = raised.reduce((sum, weight) => sum + weight, 0);
  return raised.map((weight) => weight / total);
}

/** Output [B, T, H, Dv] of native sparse attention with mean compression. */
export function naiveNativeSparseAttention(inputs: NaiveSparseInputs, settings: NaiveSparseSettings): { output: NaiveTensor } {
  const { query, key, value } = inputs;
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  const [, , groups, valueDim] = value.shape as [number, number, number, number];
  const { compressionLength: l, compressionStride: stride, selectionBlock, selected, initialBlocks, localBlocks, window } = settings;
  const { scale = width ** -0.5 } = settings;
  const share = heads / groups;
  const output = new Float64Array(batch * length * heads * valueDim);
  const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
  for (let b = 0; b < batch; b++) {
    for (let g = 0; g < groups; g++) {
      const row = (x: NaiveTensor, t: number, head: number): Row => {
        const start = ((b * x.shape[1]! + t) * x.shape[2]! + head) * x.shape[3]!;
        return x.data.subarray(start, start + x.shape[3]!);
      };
      const mean = (x: NaiveTensor, w: number): Row =>
        range(w * stride, w * stride + l).reduce((sum, t) => sum.map((s, d) => s + row(x, t, g)[d]! / l), new Float64Array(x.shape[3]!));
      const windows = range(0, length < l ? 0 : Math.floor((length - l) / stride) + 1);
      const [compressedKeys, compressedValues] = [windows.map((w) => mean(key, w)), windows.map((w) => mean(value, w))];
      for (let i = 0; i < length; i++) {
        const seen = windows.filter((w) => w * stride + l - 1 <= i);
        const queries = range(g * share, (g + 1) * share);
        const weights = queries.map((h) =>
          softmax(
            row(query, i, h),
            seen.map((w) => compressedKeys[w]!),
            scale,
          ),
        );
        const own = Math.floor(i / selectionBlock);
        const ranked = range(0, own + 1).map((block) => {
          const [first, end] = [block * selectionBlock, (block + 1) * selectionBlock];
          const shared = (w: number): number => Math.max(0, Math.min(end, w * stride + l) - Math.max(first, w * stride)) / stride;
          const importance = weights.reduce((sum, p) => sum + seen.reduce((part, w, n) => part + p[n]! * shared(w), 0), 0);
          const rank = block === own ? 2 : block < initialBlocks || own - block < localBlocks ? 1 : 0;
          return { block, importance: rank > 0 ? 0 : importance, rank };
        });
        const best = ranked.toSorted((a, c) => c.rank - a.rank || c.importance - a.importance || a.block - c.block).slice(0, selected);
        const tokens = best.flatMap(({ block }) => range(block * selectionBlock, (block + 1) * selectionBlock).filter((t) => t <= i));
        const near = window > 0 ? range(Math.max(0, i - window + 1), i + 1) : [];
        for (const [n, h] of queries.entries()) {
          const at = (b * length + i) * heads + h;
          const add = (gate: NaiveTensor | undefined, p: readonly number[], values: readonly Row[]): void =>
            p.forEach((weight, j) =>
              values[j]!.forEach((channel, d) => {
                output[at * valueDim + d]! += (gate ? gate.data[at]! : 1) * weight * channel;
              }),
            );
          add(
            inputs.compressedGate,
            weights[n]!,
            seen.map((w) => compressedValues[w]!),
          );
          for (const [gate, list] of [
            [inputs.selectedGate, tokens],
            [inputs.windowGate, near],
          ] as const) {
            const keys = list.map((t) => row(key, t, g));
            add(
              gate,
              softmax(row(query, i, h), keys, scale),
              list.map((t) => row(value, t, g)),
            );
          }
        }
      }
    }
  }
  return { output: { shape: [batch, length, heads, valueDim], data: output } };
}
