import { blockAttentionKernel } from '@seqloom/core';
import type { BlockAttentionAttributes, BlockAttentionInputs } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { tuningFor } from './device.ts';
import { release, runWgsl } from './run.ts';
import { attentionSizes, planPass, rowStatistics } from './softmax-attention.ts';
import type { TilePassKind } from './softmax-attention-pass.ts';

// runs one tile pass over the listed blocks
function pass(
  backend: tf.KernelBackend,
  kind: TilePassKind,
  inputs: BlockAttentionInputs,
  { scale, causal, queryBlock, keyBlock }: BlockAttentionAttributes,
  given: Readonly<Record<string, tf.TensorInfo>>,
  outputs: Readonly<Record<string, readonly number[]>>,
): Record<string, tf.TensorInfo> {
  const { query, key, value, blocks } = inputs;
  const sizes = attentionSizes(inputs);
  const { batch, keys, heads, groups } = sizes;
  const plan = planPass(tuningFor(backend), kind, sizes, {}, { queryBlock, keyBlock });
  const [, , queryBlocks, chosen] = blocks.shape as [number, number, number, number];
  const share = heads / groups;
  const keysOwn = kind === 'dKey' || kind === 'dValue';
  const tiles = (keysOwn ? Math.ceil(keys / keyBlock) : queryBlocks) * Math.ceil(plan.own / plan.rows);
  return runWgsl(backend, {
    name: plan.name,
    source: plan.source,
    workgroupSize: plan.workgroupSize,
    f16: plan.f16,
    workgroups: [tiles, groups * plan.slices, batch],
    inputs: { query, key, ...(kind === 'dValue' ? {} : { value }), blocks, ...given },
    outputs: Object.fromEntries(Object.entries(outputs).map(([name, shape]) => [name, { shape }])),
    integers: { ...sizes, share, causal: causal ? 1 : 0, queryBlock, keyBlock, queryBlocks, chosen },
    floats: { scale },
  }) as Record<string, tf.TensorInfo>;
}

/**
 * Installs the fused `BlockAttention`; returns the way back.
 *
 * The tile passes of `SoftmaxAttention` over the listed key blocks: nothing is gathered or scattered. A workgroup of 64 owns 32 rows of one
 * block; loads, arithmetic and workgroup memory per pair of tiles are the same. Forward: one dispatch. Gradient: four: row statistics, query,
 * key and value. A workgroup that owns keys looks through the whole list of its head, 64 query blocks at a time, for those that chose its block, so that
 * the sums need no atomics and have a fixed order.
 */
export function implementBlockAttention(label: string): () => void {
  return blockAttentionKernel.implement({
    backend: 'webgpu',
    label,
    forward({ inputs, attributes, backend }) {
      const { batch, queries, heads, valueDim } = attentionSizes(inputs);
      const outputs = { output: [batch, queries, heads, valueDim], logSumExp: [batch, queries, heads] };
      return pass(backend, 'forward', inputs, attributes, {}, outputs) as Record<keyof typeof outputs, tf.TensorInfo>;
    },
    gradient({ inputs, saved, upstream, attributes, backend }) {
      const { query, key, value } = inputs;
      const dOutput = upstream.output;
      const statistics = rowStatistics(backend, attentionSizes(inputs), { ...saved, dOutput, dLogSumExp: upstream.logSumExp });
      const run = (kind: TilePassKind, like: tf.TensorInfo) =>
        pass(backend, kind, inputs, attributes, { dOutput, statistics }, { [kind]: like.shape })[kind]!;
      const made = { query: run('dQuery', query), key: run('dKey', key), value: run('dValue', value) };
      release(backend, statistics);
      return made;
    },
  });
}
