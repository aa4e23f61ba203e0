import { softmaxAttentionKernel } from '@seqloom/core';
import type { FusedForward, FusedGradient, SoftmaxAttentionAttributes, SoftmaxAttentionInputs } from '@seqloom/core';
import type { FindHeap, Heap } from './heap.ts';

type Names = 'output' | 'logSumExp';

/** Sizes, scale and input pointers of a call, in the order of the WebAssembly functions; sets the visibility rule. */
function prepare(heap: Heap, inputs: SoftmaxAttentionInputs, attributes: SoftmaxAttentionAttributes) {
  const { query, key, value, queryPositions, keyPositions, bias, sinkLogits, slopes } = inputs;
  const [batch, t, heads, dim] = query.shape as [number, number, number, number];
  const [, s, groups, valueDim] = value.shape as [number, number, number, number];
  const { scale, causal, window, dilation, sinks, prefix, softCap } = attributes;
  heap.kernels.attentionRule(causal, window ?? 0, dilation, sinks, prefix, softCap ?? 0);
  const plane = 4 * t * s;
  const [biasBatches, biasHeads] = (bias?.shape ?? [1, 1]) as [number, number];
  const pointers = () =>
    [
      ...[query, key, value, queryPositions, keyPositions, bias].map((tensor) => heap.pointer(tensor)),
      biasBatches === 1 ? 0 : plane * biasHeads,
      biasHeads === 1 ? 0 : plane,
      heap.pointer(sinkLogits),
      heap.pointer(slopes),
    ] as unknown as [number, number, number, number, number, number, number, number, number, number];
  return { sizes: [batch, t, s, heads, groups, dim, valueDim, scale] as const, extents: [t, s, dim, valueDim] as const, pointers };
}

function forward(findHeap: FindHeap): FusedForward<SoftmaxAttentionInputs, SoftmaxAttentionAttributes, Names> {
  return ({ inputs, attributes, backend }) => {
    const heap = findHeap(backend);
    const { sizes, pointers } = prepare(heap, inputs, attributes);
    const [batch, t, s, heads, groups, dim, valueDim] = sizes;
    const output = heap.output([batch, t, heads, valueDim]);
    const logSumExp = heap.output([batch, t, heads]);
    heap.scratch(heap.kernels.attentionForwardBytes(t, s, heads, groups, dim, valueDim), (scratch) => {
      heap.kernels.attentionForward(...sizes, ...pointers(), heap.pointer(output), heap.pointer(logSumExp), scratch);
    });
    return { output, logSumExp };
  };
}

function gradient(findHeap: FindHeap): FusedGradient<SoftmaxAttentionInputs, SoftmaxAttentionAttributes, Names> {
  return ({ inputs, saved, upstream, attributes, backend }) => {
    const heap = findHeap(backend);
    const { sizes, extents, pointers } = prepare(heap, inputs, attributes);
    const query = heap.output(inputs.query.shape);
    const key = heap.zeros(inputs.key.shape);
    const value = heap.zeros(inputs.value.shape);
    const bias = inputs.bias && heap.zeros(inputs.bias.shape);
    const sinkLogits = inputs.sinkLogits && heap.zeros(inputs.sinkLogits.shape);
    const slopes = inputs.slopes && heap.zeros(inputs.slopes.shape);
    heap.scratch(heap.kernels.attentionBackwardBytes(...extents), (scratch) => {
      const [o, l, dO, dL] = [saved.output, saved.logSumExp, upstream.output, upstream.logSumExp].map((tensor) => heap.pointer(tensor));
      const [gq, gk, gv, gb, gz, gs] = [query, key, value, bias, sinkLogits, slopes].map((tensor) => heap.pointer(tensor));
      heap.kernels.attentionBackward(...sizes, ...pointers(), o!, l!, dO!, dL!, gq!, gk!, gv!, gb!, gz!, gs!, scratch);
    });
    return { query, key, value, bias, sinkLogits, slopes };
  };
}

/** Installs the fused `SoftmaxAttention`; returns the way back. */
export function implementSoftmaxAttention(findHeap: FindHeap, label: string): () => void {
  return softmaxAttentionKernel.implement({ backend: 'wasm', label, forward: forward(findHeap), gradient: gradient(findHeap) });
}
