import { blockAttentionKernel } from '@seqloom/core';
import type { BlockAttentionAttributes, BlockAttentionInputs } from '@seqloom/core';
import type { FindHeap, Heap } from './heap.ts';

/** Sizes of a call, and the visibility rule set: causal or not, nothing else. */
function prepare(heap: Heap, { query, value, blocks }: BlockAttentionInputs, attributes: BlockAttentionAttributes) {
  const { causal, queryBlock, keyBlock, scale } = attributes;
  const [batch, t, heads, dim] = query.shape as [number, number, number, number];
  const [, s, groups, valueDim] = value.shape as [number, number, number, number];
  heap.kernels.attentionRule(causal, 0, 1, 0, 0, 0);
  return {
    sizes: [batch, t, s, heads, groups, dim, valueDim, queryBlock, keyBlock, blocks.shape[3]!, scale] as const,
    extents: [t, s, dim, valueDim, keyBlock] as const,
    lists: [heads / groups, queryBlock, blocks.shape[2]! * blocks.shape[3]!] as const,
  };
}

/** Installs the fused `BlockAttention`; returns the way back. */
export function implementBlockAttention(findHeap: FindHeap, label: string): () => void {
  return blockAttentionKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs, attributes, backend }) {
      const heap = findHeap(backend);
      const { sizes, extents, lists } = prepare(heap, inputs, attributes);
      const [batch, t, , heads, , , valueDim] = sizes;
      const output = heap.output([batch, t, heads, valueDim]);
      const logSumExp = heap.output([batch, t, heads]);
      heap.scratch(heap.kernels.blockForwardBytes(...extents, ...lists), (scratch) => {
        const { query, key, value, blocks } = inputs;
        heap.kernels.blockForward(...sizes, ...heap.pointers(query, key, value, blocks, output, logSumExp), scratch);
      });
      return { output, logSumExp };
    },
    gradient({ inputs, saved, upstream, attributes, backend }) {
      const heap = findHeap(backend);
      const { sizes, extents, lists } = prepare(heap, inputs, attributes);
      const [query, key, value] = [heap.zeros(inputs.query.shape), heap.zeros(inputs.key.shape), heap.zeros(inputs.value.shape)];
      heap.scratch(heap.kernels.blockBackwardBytes(...extents, ...lists), (scratch) => {
        const given = heap.pointers(inputs.query, inputs.key, inputs.value, inputs.blocks, saved.output, saved.logSumExp);
        const made = heap.pointers(upstream.output, upstream.logSumExp, query, key, value);
        heap.kernels.blockBackward(...sizes, ...given, ...made, scratch);
      });
      return { query, key, value };
    },
  });
}
