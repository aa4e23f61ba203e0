import { softmaxAttentionKernel } from '@seqloom/core';
import type { SoftmaxAttentionAttributes, SoftmaxAttentionInputs } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { tuningFor } from './device.ts';
import { release, runWgsl } from './run.ts';
import { sourceOf } from './source-cache.ts';
import { STATISTICS, TILE_LANES } from './softmax-attention-pass.ts';
import type { TilePass, TilePassKind } from './softmax-attention-pass.ts';
import { tileSource } from './softmax-attention-tiles.ts';
import { tileName } from './tuning.ts';
import type { GpuTuningInUse } from './tuning.ts';

const statisticsSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.x * 64u + lane;
  if (row >= uniforms.rows) { return; }
  let head = row % uniforms.heads;
  let token = row / uniforms.heads;
  var along = -dLogSumExp[row];
  for (var c = row * uniforms.valueDim; c < (row + 1u) * uniforms.valueDim; c++) { along += output[c] * dOutput[c]; }
  // an empty row's -Infinity would meet hidden scores; at the floor its weights are exactly 0
  statistics[4u * row] = max(logSumExp[row], -1e29);
  statistics[4u * row + 1u] = along;
  var position = f32(token % uniforms.queries) + f32(uniforms.keys) - f32(uniforms.queries);
  if (has_queryPositions) { position = queryPositions[token]; }
  statistics[4u * row + 2u] = position;
  var slope = 0.0;
  if (has_slopes) { slope = slopes[head]; }
  statistics[4u * row + 3u] = slope;
}
`;

const sinkSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.x * 64u + lane;
  if (row >= uniforms.rows) { return; }
  terms[row] = -exp(sinkLogits[row % uniforms.heads] - statistics[4u * row]) * statistics[4u * row + 1u];
}
`;

const headSumSource = `
var<workgroup> sums: array<f32, 64>;
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  var sum = 0.0;
  for (var row = lane; row < uniforms.tokens; row += 64u) { sum += terms[row * uniforms.heads + group.x]; }
  sums[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    var total = 0.0;
    for (var i = 0u; i < 64u; i++) { total += sums[i]; }
    dHead[group.x] = total;
  }
}
`;

/** Extents of one attention call. */
export interface AttentionSizes {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly groups: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

/** The extents of query, key and value, [B, T, H, D], [B, S, G, D] and [B, S, G, Dv]. */
export function attentionSizes({ query, value }: { query: tf.TensorInfo; value: tf.TensorInfo }): AttentionSizes {
  const [batch, queries, heads, keyDim] = query.shape as [number, number, number, number];
  const [, keys, groups, valueDim] = value.shape as [number, number, number, number];
  return { batch, queries, keys, heads, groups, keyDim, valueDim };
}

/** Name, source and grid of one tile pass. */
export function planPass(
  { tuning: { attention }, tileNumbers: numbers }: GpuTuningInUse,
  kind: TilePassKind,
  sizes: AttentionSizes,
  bound: Readonly<Record<string, unknown>>,
  blocks?: { readonly queryBlock: number; readonly keyBlock: number },
) {
  const { queries, keys, heads, groups, keyDim, valueDim } = sizes;
  const keysOwn = kind === 'dKey' || kind === 'dValue';
  // with blocks a tile keeps within one block
  const own = keysOwn ? (blocks?.keyBlock ?? keys) : (blocks?.queryBlock ?? queries) * (heads / groups);
  const width = { forward: valueDim, dValue: valueDim, dQuery: keyDim, dKey: keyDim, dBias: 0, dSlope: 0 }[kind];
  const present = Object.fromEntries(Object.entries(bound).filter(([, tensor]) => tensor));
  const listed = blocks !== undefined;
  const tall = own <= 8 && kind !== 'dBias' ? 1 : attention.own / 8;
  const pass: TilePass = {
    kind,
    tall,
    wide: attention.other / 8,
    numbers,
    columns: Math.min(4, Math.ceil(width / 32)),
    bound: Object.fromEntries(Object.keys(present).map((name) => [name, true])),
    listed,
  };
  const slices = pass.columns === 0 ? 1 : Math.ceil(width / (32 * pass.columns));
  const tile = tileName({ own: 8 * tall, other: attention.other });
  const name = ['Attention', kind, tile, numbers, pass.columns, listed ? 'listed' : '', ...Object.keys(present)].join('-');
  return {
    name,
    source: sourceOf(name, () => tileSource(pass)),
    workgroupSize: [TILE_LANES] as const,
    present: present as Readonly<Record<string, tf.TensorInfo>>,
    rows: 8 * tall,
    others: attention.other,
    f16: numbers === 'f16',
    own,
    slices,
  };
}

type Runner = (
  kind: TilePassKind,
  given: Readonly<Record<string, tf.TensorInfo>>,
  outputs: Readonly<Record<string, readonly number[]>>,
) => Record<string, tf.TensorInfo>;

/** Runs tile passes of one call: sizes, rule of visibility and optional tensors are the same for all of them. */
function passes(backend: tf.KernelBackend, inputs: SoftmaxAttentionInputs, attributes: SoftmaxAttentionAttributes, splits = 1): Runner {
  const sizes = attentionSizes(inputs);
  const { batch, queries, keys, heads, groups, keyDim, valueDim } = sizes;
  const { query, key, value, queryPositions, keyPositions, bias, sinkLogits, slopes } = inputs;
  const { scale, causal, window, dilation, sinks, prefix, softCap, aligned } = attributes;
  const [biasBatches, biasHeads] = (bias?.shape ?? [1, 1]) as [number, number];
  const far = 2 ** 30;
  const tuning = tuningFor(backend);
  return (kind, given, outputs) => {
    // the gradient's passes have positions and slopes of the queries in their statistics
    const bound = kind === 'forward' ? { queryPositions, keyPositions, bias, sinkLogits, slopes } : { keyPositions, bias };
    const plan = planPass(tuning, kind, sizes, bound);
    const tiles = Math.ceil(plan.own / plan.rows);
    const workgroups =
      kind === 'dBias'
        ? ([Math.ceil(queries / plan.rows) * Math.ceil(keys / plan.others), biasHeads, biasBatches] as const)
        : ([kind === 'forward' ? tiles * splits : tiles, groups * plan.slices, batch] as const);
    return runWgsl(backend, {
      name: plan.name,
      source: plan.source,
      workgroupSize: plan.workgroupSize,
      f16: plan.f16,
      workgroups,
      inputs: { query, key, ...(kind === 'dBias' || kind !== 'dValue' ? { value } : {}), ...given, ...plan.present },
      outputs: Object.fromEntries(Object.entries(outputs).map(([name, shape]) => [name, { shape }])),
      integers: {
        batches: batch,
        queries,
        keys,
        heads,
        groups,
        share: heads / groups,
        keyDim,
        valueDim,
        causal: causal ? 1 : 0,
        window: Math.min(window ?? far, far),
        dilation: Math.min(dilation, far),
        sinks: Math.min(sinks, far),
        prefix: Math.min(prefix, far),
        structured: !queryPositions && (!keyPositions || aligned) ? 1 : 0,
        biasBatches,
        biasHeads,
        ...(kind === 'forward' && { splits }),
      },
      floats: { scale, softCap: softCap ?? 0 },
    }) as Record<string, tf.TensorInfo>;
  };
}

/** `[B, T, H, 4]`: logSumExp, `dO O - d logSumExp`, position and slope of every query row. */
export function rowStatistics(
  backend: tf.KernelBackend,
  sizes: AttentionSizes,
  tensors: {
    output: tf.TensorInfo;
    logSumExp: tf.TensorInfo;
    dOutput: tf.TensorInfo;
    dLogSumExp: tf.TensorInfo;
    queryPositions?: tf.TensorInfo | undefined;
    slopes?: tf.TensorInfo | undefined;
  },
): tf.TensorInfo {
  const { batch, queries, keys, heads, valueDim } = sizes;
  const rows = batch * queries * heads;
  const { output, logSumExp, dOutput, dLogSumExp, queryPositions, slopes } = tensors;
  return runWgsl(backend, {
    name: 'AttentionStatistics',
    source: statisticsSource,
    workgroupSize: [64],
    workgroups: [Math.ceil(rows / 64)],
    inputs: { output, logSumExp, dOutput, dLogSumExp, queryPositions, slopes },
    outputs: { statistics: { shape: [batch, queries, heads, STATISTICS] } },
    integers: { rows, heads, queries, keys, valueDim },
  }).statistics;
}

// puts the outputs of the splits of the keys together, by their logSumExp
const mergeSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.x;
  var top = -1e29;
  for (var s = 0u; s < uniforms.splits; s++) { top = max(top, sums[s * uniforms.rows + row]); }
  var total = 0.0;
  for (var s = 0u; s < uniforms.splits; s++) { total += exp(max(sums[s * uniforms.rows + row], -1e30) - top); }
  for (var c = lane; c < uniforms.valueDim; c += 64u) {
    var sum = 0.0;
    for (var s = 0u; s < uniforms.splits; s++) {
      sum += exp(max(sums[s * uniforms.rows + row], -1e30) - top) * outputs[(s * uniforms.rows + row) * uniforms.valueDim + c];
    }
    output[row * uniforms.valueDim + c] = sum / max(total, 1.2e-38);
  }
  if (lane == 0u) { logSumExp[row] = select(-uniforms.infinity, top + log(total), total != 0.0); }
}
`;

/** Workgroups that keep a GPU busy, and the fewest keys that are worth one. */
const [ENOUGH, FEWEST_KEYS] = [128, 128];

/** Into how many parts the keys are cut: few query rows alone, as in generation, would leave most of a GPU idle. */
function splitsOf(backend: tf.KernelBackend, sizes: AttentionSizes): number {
  const { own, rows, slices } = planPass(tuningFor(backend), 'forward', sizes, {});
  const workgroups = Math.ceil(own / rows) * sizes.groups * slices * sizes.batch;
  return Math.max(1, Math.min(Math.floor(sizes.keys / FEWEST_KEYS), Math.floor(ENOUGH / workgroups)));
}

// sums over all tokens, per head
function headSum(backend: tf.KernelBackend, terms: tf.TensorInfo, { batch, queries, heads }: AttentionSizes): tf.TensorInfo {
  return runWgsl(backend, {
    name: 'AttentionHeadSum',
    source: headSumSource,
    workgroupSize: [64],
    workgroups: [heads],
    inputs: { terms },
    outputs: { dHead: { shape: [heads] } },
    integers: { tokens: batch * queries, heads },
  }).dHead;
}

/** Storage buffers that every WebGPU device can bind. */
const BUFFERS = 8;

/**
 * Installs the fused `SoftmaxAttention`; returns the way back.
 *
 * A workgroup of 64 owns a tile of rows and walks over the other tiles, skipping those that the rule of visibility excludes; nothing of size T x S
 * is stored. The device's tuning says how large the tiles are; own tiles are of 8 rows where there are no more. Per pair of tiles of 32 x 32 rows of
 * D and Dv channels:
 *
 *   pass                      dispatches   loads (numbers)        multiply-adds       workgroup memory
 *   forward                   1            64 D + 32 Dv           1024 (D + Dv)       14 KB
 *   statistics                1            2 Dv per row           Dv per row          none
 *   query, key                1 each       96 D + 64 Dv           1024 (2 D + Dv)     13 KB
 *   value                     1            64 D + 32 Dv           1024 (D + Dv)       13 KB
 *   bias, if given            1            64 (D + Dv)            1024 (D + Dv)       13 KB
 *   slopes, if given          2            64 (D + Dv)            1024 (D + Dv)       13 KB
 *   sink logits, if given     2            2 per row              1 exp per row       256 bytes
 *
 * The forward cuts the keys into parts of at least 128 where the rows alone make fewer than 128 workgroups, and then takes a second dispatch to
 * put the parts together (as many loads as parts per number). Results wider than 128 channels are cut into slices of 128, each of which computes the scores again. All sums have a fixed order.
 */
export function implementSoftmaxAttention(label: string): () => void {
  return softmaxAttentionKernel.implement({
    backend: 'webgpu',
    label,
    supports({ queryPositions, keyPositions, bias, sinkLogits, slopes }) {
      const optional = [queryPositions, keyPositions, bias, sinkLogits, slopes].filter((tensor) => tensor).length;
      if (optional > BUFFERS - 5) return `${optional} optional tensors; a WebGPU pass can bind ${BUFFERS - 5} beside its others`;
      return true;
    },
    forward({ inputs, attributes, backend }) {
      const { batch, queries, heads, valueDim } = attentionSizes(inputs);
      const shapes = { output: [batch, queries, heads, valueDim], logSumExp: [batch, queries, heads] };
      type Results = Record<keyof typeof shapes, tf.TensorInfo>;
      const splits = splitsOf(backend, attentionSizes(inputs));
      if (splits === 1) return passes(backend, inputs, attributes)('forward', {}, shapes) as Results;
      const partial = { output: [splits, ...shapes.output], logSumExp: [splits, ...shapes.logSumExp] };
      const parts = passes(backend, inputs, attributes, splits)('forward', {}, partial) as Results;
      const rows = batch * queries * heads;
      const made = runWgsl(backend, {
        name: 'AttentionMerge',
        source: mergeSource,
        workgroupSize: [64],
        workgroups: [rows],
        inputs: { outputs: parts.output, sums: parts.logSumExp },
        outputs: { output: { shape: shapes.output }, logSumExp: { shape: shapes.logSumExp } },
        integers: { splits, rows, valueDim },
      });
      release(backend, parts.output, parts.logSumExp);
      return made;
    },
    gradient({ inputs, saved, upstream, attributes, backend }) {
      const sizes = attentionSizes(inputs);
      const { query, key, value, bias, sinkLogits, slopes, queryPositions } = inputs;
      const { batch, queries, heads } = sizes;
      const dOutput = upstream.output;
      const statistics = rowStatistics(backend, sizes, { ...saved, dOutput, dLogSumExp: upstream.logSumExp, queryPositions, slopes });
      const run = passes(backend, inputs, attributes);
      const given = { dOutput, statistics };
      const { dQuery } = run('dQuery', given, { dQuery: query.shape });
      const { dKey } = run('dKey', given, { dKey: key.shape });
      const { dValue } = run('dValue', given, { dValue: value.shape });
      const dBias = bias && run('dBias', given, { dBias: bias.shape })['dBias'];
      let dSlopes: tf.TensorInfo | undefined;
      if (slopes) {
        const { rowSlopes } = run('dSlope', given, { rowSlopes: [batch, queries, heads] });
        dSlopes = headSum(backend, rowSlopes!, sizes);
        release(backend, rowSlopes);
      }
      let dSinks: tf.TensorInfo | undefined;
      if (sinkLogits) {
        const rows = batch * queries * heads;
        const { terms } = runWgsl(backend, {
          name: 'AttentionSinks',
          source: sinkSource,
          workgroupSize: [64],
          workgroups: [Math.ceil(rows / 64)],
          inputs: { sinkLogits, statistics },
          outputs: { terms: { shape: [batch, queries, heads] } },
          integers: { rows, heads },
        });
        dSinks = headSum(backend, terms, sizes);
        release(backend, terms);
      }
      release(backend, statistics);
      return {
        query: dQuery!,
        key: dKey!,
        value: dValue!,
        ...(dBias && { bias: dBias }),
        ...(dSlopes && { slopes: dSlopes }),
        ...(dSinks && { sinkLogits: dSinks }),
      };
    },
  });
}
