import { linearAttentionKernel } from '@seqloom/core';
import type { FusedForward, FusedGradient, LinearAttentionAttributes, LinearAttentionInputs } from '@seqloom/core';
import type { FindHeap } from './heap.ts';

type Names = 'output' | 'state';

/** Sizes of a call, as the WebAssembly functions take them. */
function sizesOf({ query, key, value, logDecay }: LinearAttentionInputs) {
  const [batch, length, queryHeads, keyDim] = query.shape as [number, number, number, number];
  const heads = key.shape[2]!;
  const decayMode = logDecay ? (logDecay.shape.length === 4 ? 2 : 1) : 0;
  return { batch, length, heads, group: queryHeads / heads, keyDim, valueDim: value.shape[3]!, decayMode };
}

function forward(findHeap: FindHeap): FusedForward<LinearAttentionInputs, LinearAttentionAttributes, Names> {
  return ({ inputs, attributes, backend, taped }) => {
    const heap = findHeap(backend);
    const { kernels } = heap;
    const { query, key, value, logDecay, beta, state } = inputs;
    const { batch, length, heads, group, keyDim, valueDim, decayMode } = sizesOf(inputs);
    const output = heap.output([batch, length, heads * group, valueDim]);
    // a gradient that follows finds here what it would have to compute again
    const keptBytes = taped ? kernels.linearKeptBytes(batch, heads, keyDim, valueDim, length, beta !== undefined) : 0;
    const final = heap.outputWithRoom([batch, heads, keyDim, valueDim], keptBytes);
    heap.scratch(kernels.linearForwardBytes(heads, keyDim, valueDim), (scratch) => {
      const [q, k, v, g, b, s, o, f] = [query, key, value, logDecay, beta, state, output, final].map((tensor) => heap.pointer(tensor));
      const sizes = [batch, length, heads, group, keyDim, valueDim, decayMode] as const;
      kernels.linearForward(...sizes, attributes.scale, q!, k!, v!, g!, b!, s!, o!, f!, heap.roomBehind(final), scratch);
    });
    return { output, state: final };
  };
}

function gradient(findHeap: FindHeap): FusedGradient<LinearAttentionInputs, LinearAttentionAttributes, Names> {
  return ({ inputs, saved, upstream, attributes, backend }) => {
    const heap = findHeap(backend);
    const { kernels } = heap;
    const { batch, length, heads, group, keyDim, valueDim, decayMode } = sizesOf(inputs);
    const given = [inputs.query, inputs.key, inputs.value, inputs.logDecay, inputs.beta, inputs.state];
    const gradients = given.map((tensor) => tensor && heap.output(tensor.shape));
    const kept = heap.roomBehind(saved.state);
    const bytes = kernels.linearBackwardBytes(heads, group, keyDim, valueDim, inputs.beta !== undefined, length, kept === 0);
    heap.scratch(bytes, (scratch) => {
      const [q, k, v, g, b, s] = given.map((tensor) => heap.pointer(tensor));
      const [dq, dk, dv, dg, db, ds] = gradients.map((tensor) => heap.pointer(tensor));
      const [o, f] = [heap.pointer(upstream.output), heap.pointer(upstream.state)];
      const sizes = [batch, length, heads, group, keyDim, valueDim, decayMode] as const;
      kernels.linearBackward(...sizes, attributes.scale, q!, k!, v!, g!, b!, s!, o, f, dq!, dk!, dv!, dg!, db!, ds!, kept, scratch);
    });
    const [query, key, value, logDecay, beta, state] = gradients;
    return { query, key, value, logDecay, beta, state };
  };
}

/** Installs the fused `LinearAttention`; returns the way back. */
export function implementLinearAttention(findHeap: FindHeap, label: string): () => void {
  return linearAttentionKernel.implement({ backend: 'wasm', label, forward: forward(findHeap), gradient: gradient(findHeap) });
}
