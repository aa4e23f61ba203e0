import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** Softmax attention of each query over the keys of the blocks listed for its query block and key head, in double precision. */
export function naiveBlockAttention(
  inputs: { query: Array64; key: Array64; value: Array64; blocks: Array64 },
  settings: { queryBlock: number; keyBlock: number; scale?: number; causal?: boolean },
): { output: Array64; logSumExp: Array64 } {
  const { query, key, value, blocks } = inputs;
  const { queryBlock, keyBlock, causal = false } = settings;
  const [batch, queries, heads, headDim] = query.shape as [number, number, number, number];
  const [, keys, groups, valueDim] = value.shape as [number, number, number, number];
  const [, , queryBlocks, chosen] = blocks.shape as [number, number, number, number];
  const scale = settings.scale ?? headDim ** -0.5;
  const output = array64([batch, queries, heads, valueDim]);
  const logSumExp = array64([batch, queries, heads], -Infinity);
  for (let b = 0; b < batch; b++) {
    for (let i = 0; i < queries; i++) {
      for (let h = 0; h < heads; h++) {
        const g = Math.floor((h * groups) / heads);
        const seen: number[] = [];
        for (let c = 0; c < chosen; c++) {
          const block = blocks.data[((b * groups + g) * queryBlocks + Math.floor(i / queryBlock)) * chosen + c]!;
          if (block < 0) continue;
          for (let j = block * keyBlock; j < Math.min(keys, (block + 1) * keyBlock); j++) {
            if (!causal || j <= i + keys - queries) seen.push(j);
          }
        }
        if (seen.length === 0) continue;
        const row = (b * queries + i) * heads + h;
        const scores = seen.map((j) => {
          let dot = 0;
          for (let d = 0; d < headDim; d++) dot += query.data[row * headDim + d]! * key.data[((b * keys + j) * groups + g) * headDim + d]!;
          return scale * dot;
        });
        const top = Math.max(...scores);
        const lse = top + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - top), 0));
        logSumExp.data[row] = lse;
        seen.forEach((j, place) => {
          const weight = Math.exp(scores[place]! - lse);
          for (let d = 0; d < valueDim; d++) {
            const target = row * valueDim + d;
            output.data[target] = output.data[target]! + weight * value.data[((b * keys + j) * groups + g) * valueDim + d]!;
          }
        });
      }
    }
  }
  return { output, logSumExp };
}
