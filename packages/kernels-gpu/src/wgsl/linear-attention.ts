import { linearAttentionKernel } from '@seqloom/core';
import type { LinearAttentionAttributes, LinearAttentionInputs } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { columnSum } from './column-sum.ts';
import { chunkedDeltaGradient, chunkedGradient } from './linear-attention-chunk-backward.ts';
import { chunkBytes, chunkedForward } from './linear-attention-chunks.ts';
import { CHUNK } from './linear-attention-quads.ts';
import { gradientRows, heldRows, recordSource, rowSumSource, writesSource } from './linear-attention-rows.ts';
import { LANES, backwardColumns, forwardColumns, heldTokens } from './linear-attention-shaders.ts';
import type { LinearAttentionVariant } from './linear-attention-shaders.ts';
import { release, runWgsl, sizeOf } from './run.ts';
import { sourceOf } from './source-cache.ts';

/** Widest key that a column of the state in registers takes. */
const WIDEST_KEY = 256;
/** Value channels of a row of the state in registers. */
const WIDEST_SLICE = 64;

/** What follows from the shapes of a call. */
function planOf({ query, key, value, logDecay, beta }: LinearAttentionInputs, { scale }: Pick<LinearAttentionAttributes, 'scale'>) {
  const [batch, time, heads, keyDim] = key.shape as [number, number, number, number];
  const valueDim = value.shape[3]!;
  const share = query.shape[2]! / heads;
  const variant: LinearAttentionVariant = {
    quads: Math.ceil(keyDim / 4),
    decay: !logDecay ? 'none' : logDecay.shape.length === 4 ? 'channel' : 'head',
    delta: beta !== undefined,
  };
  const slices = Math.ceil(valueDim / WIDEST_SLICE);
  const sliceQuads = Math.ceil(valueDim / slices / 4);
  // states at the borders of blocks and within one block: about 2 sqrt(T) together
  const block = logDecay ? Math.min(time, Math.max(8, Math.ceil(Math.sqrt(time)))) : time;
  const decayWidth = { none: 0, head: keyDim, channel: keyDim }[variant.decay];
  const rowsAt = (share + 1) * keyDim + decayWidth;
  const vectors = share + (variant.delta ? 2 : 1);
  const padded = 4 * sliceQuads * slices;
  return {
    variant,
    sizes: { batch, time, heads, keyDim, valueDim, share },
    floats: { scale },
    columns: [Math.ceil(valueDim / LANES), heads, batch] as const,
    held: heldTokens(variant.quads, share),
    rowsHeld: heldRows(vectors, sliceQuads, share + (logDecay ? 2 : 1)),
    slices,
    sliceQuads,
    block,
    blocks: Math.ceil(time / block),
    padded,
    rowsAt,
    record: rowsAt + vectors * padded,
    keyTiles: Math.ceil(keyDim / LANES),
    // a state that is absent is a number, not a pipeline of its own: something else is bound in its place
    name: `${variant.quads}-${variant.decay}-${variant.delta ? 'delta' : 'plain'}`,
  };
}

type Plan = ReturnType<typeof planOf>;

// shapes of the scratch tensors of the gradient
function scratchShapes({ sizes, variant, record, blocks, block, slices, sliceQuads, keyTiles }: Plan) {
  const { batch, time, heads, keyDim, valueDim } = sizes;
  return {
    records: [batch, time, heads, record],
    ...(variant.decay === 'none'
      ? {}
      : {
          borders: [batch, heads, blocks, keyDim, valueDim],
          states: [batch, heads, slices * keyTiles, block, sliceQuads, LANES, 4],
        }),
  };
}

function gradient(
  backend: tf.KernelBackend,
  inputs: LinearAttentionInputs,
  plan: Plan,
  upstream: { output: tf.TensorInfo; state: tf.TensorInfo },
) {
  const { query, key, value, logDecay, beta, state } = inputs;
  const { variant, sizes, floats, columns, held, rowsHeld, slices, sliceQuads, block, blocks, name } = plan;
  const { batch, time, heads, keyDim, valueDim } = sizes;
  const shapes = scratchShapes(plan);
  const tokens = batch * time * heads;
  const before =
    beta || logDecay
      ? runWgsl(backend, {
          name: `LinearAttentionBorders-${name}`,
          source: sourceOf(`LinearAttentionBorders-${name}`, () => forwardColumns(variant, false)),
          workgroupSize: [LANES],
          workgroups: columns,
          inputs: { key, value, ...(logDecay && { logDecay }), ...(beta && { beta }), state: state ?? key },
          outputs: {
            ...(beta && { residual: { shape: value.shape } }),
            ...(shapes.borders && { borders: { shape: shapes.borders } }),
          } as Record<'residual' | 'borders', { shape: number[] }>,
          integers: { ...sizes, held, block, blocks, hasState: state ? 1 : 0 },
          floats,
        })
      : undefined;
  const { dUpdate, dState } = runWgsl(backend, {
    name: `LinearAttentionBackward-${name}`,
    source: sourceOf(`LinearAttentionBackward-${name}`, () => backwardColumns(variant)),
    workgroupSize: [LANES],
    workgroups: columns,
    inputs: { query, key, dOutput: upstream.output, dLastState: upstream.state, ...(logDecay && { logDecay }), ...(beta && { beta }) },
    outputs: { dUpdate: { shape: value.shape }, dState: { shape: upstream.state.shape } },
    integers: { ...sizes, held },
    floats,
  });
  const writes = beta
    ? runWgsl(backend, {
        name: 'LinearAttentionWrites',
        source: writesSource,
        workgroupSize: [64],
        workgroups: [Math.ceil(tokens / 64)],
        inputs: { dUpdate, residual: before!.residual, beta },
        outputs: { dValue: { shape: value.shape }, dBeta: { shape: beta.shape } },
        integers: { rows: tokens, valueDim },
      })
    : undefined;
  const { records } = runWgsl(backend, {
    name: `LinearAttentionRecords-${variant.decay}-${variant.delta ? 'delta' : 'plain'}`,
    source: sourceOf(`LinearAttentionRecords-${variant.decay}-${variant.delta ? 'delta' : 'plain'}`, () => recordSource(variant)),
    workgroupSize: [64],
    workgroups: [tokens],
    inputs: {
      query,
      key,
      ...(logDecay && { logDecay }),
      residual: before?.residual ?? value,
      ...(beta && { beta, dUpdate }),
      dOutput: upstream.output,
    },
    outputs: { records: { shape: shapes.records } },
    integers: { ...sizes, record: plan.record, rowsAt: plan.rowsAt, padded: plan.padded },
  });
  const border = before?.borders ?? state;
  const perSlice = (shape: readonly number[]) => ({ shape: slices === 1 ? shape : [slices, ...shape] });
  const made = runWgsl(backend, {
    name: `LinearAttentionRows-${sliceQuads}-${variant.decay}-${variant.delta ? 'delta' : 'plain'}`,
    source: sourceOf(`LinearAttentionRows-${sliceQuads}-${variant.decay}-${variant.delta ? 'delta' : 'plain'}`, () =>
      gradientRows(variant, sliceQuads),
    ),
    workgroupSize: [LANES],
    workgroups: [plan.keyTiles * slices, heads, batch],
    inputs: { records, dLastState: upstream.state, borders: border ?? key },
    outputs: {
      dQuery: perSlice(query.shape),
      dKey: perSlice(key.shape),
      ...(shapes.states && { dDecay: perSlice(key.shape), states: { shape: shapes.states } }),
    } as Record<'dQuery' | 'dKey' | 'dDecay' | 'states', { shape: readonly number[] }>,
    vec4: ['states'],
    integers: {
      ...sizes,
      held: rowsHeld,
      record: plan.record,
      rowsAt: plan.rowsAt,
      padded: plan.padded,
      block,
      blocks,
      slices,
      hasBorder: border ? 1 : 0,
    },
    floats,
  });
  release(backend, records, made.states, before?.borders, before?.residual);
  if (beta) release(backend, dUpdate);
  if (!state) release(backend, dState);
  const joined = (partial: tf.TensorInfo, shape: readonly number[]): tf.TensorInfo => {
    if (slices === 1) return partial;
    const sum = columnSum(backend, partial, shape);
    release(backend, partial);
    return sum;
  };
  let dDecay = logDecay && joined(made.dDecay, key.shape);
  if (logDecay && variant.decay === 'head') {
    const perChannel = dDecay!;
    dDecay = runWgsl(backend, {
      name: 'LinearAttentionChannelSum',
      source: rowSumSource,
      workgroupSize: [64],
      workgroups: [Math.ceil(tokens / 64)],
      inputs: { values: perChannel },
      outputs: { total: { shape: logDecay.shape } },
      integers: { rows: tokens, width: keyDim },
    }).total;
    release(backend, perChannel);
  }
  return {
    query: joined(made.dQuery, query.shape),
    key: joined(made.dKey, key.shape),
    value: writes?.dValue ?? dUpdate,
    ...(dDecay && { logDecay: dDecay }),
    ...(writes && { beta: writes.dBeta }),
    ...(state && { state: dState }),
  };
}

/** How a call goes through its tokens: one after the other, or in chunks that run side by side. */
export type LinearAttentionForm = 'recurrent' | 'chunked';

// fewer tokens than two chunks have little to run side by side
const SHORTEST_CHUNKED = 2 * CHUNK;

// tfjs asks the adapter for the most it can bind
const bindable = (backend: tf.KernelBackend): number =>
  (backend as unknown as { device: GPUDevice }).device.limits.maxStorageBufferBindingSize;

/**
 * The form of a call: a function of its shapes and of the device, so that equal calls do equal work.
 *
 * @param inputs of the kernel; their shapes are read
 * @param limit bytes that the device can bind as one buffer
 */
export function linearAttentionForm(inputs: LinearAttentionInputs, limit: number): LinearAttentionForm {
  return inputs.key.shape[1]! >= SHORTEST_CHUNKED && chunkBytes(inputs) <= limit ? 'chunked' : 'recurrent';
}

/**
 * Installs the fused `LinearAttention`; returns the way back.
 *
 * From 128 tokens on, and where the device can bind what it makes on the way, in chunks, see `chunkedForward`, `chunkedGradient`
 * and `chunkedDeltaGradient`. All else goes one token after the other with the state in registers: no decay is too strong, nothing is
 * inverted, and no number of tokens makes more dispatches. Workgroups of 32, all loops over 16 tokens or fewer that are held in 16 KB of
 * workgroup memory.
 *
 * Its forward: one dispatch, B H Dv / 32 workgroups, each invocation a column of Dk numbers. Per token, head and workgroup: (2 + Hq / H) Dk
 * loads for all 32 together, 2 per invocation; 32 Dk (2 + 2 delta + 1 decay) multiply-adds.
 *
 * Its gradient: five dispatches (three for the rule `linear`, four for `gated`), two more per 64 value channels beyond 64 and one for a decay
 * per head. Columns forward (states at block borders, residuals of the delta rules), columns backward (gradient of value, beta and first state),
 * records of what the last pass reads, rows: B H Dk / 32 workgroups per 64 value channels, each invocation a row of the state and one of its
 * gradient in registers, forward and backward through blocks of sqrt(T) tokens. About 4 times the arithmetic of the forward. With a decay the
 * states of all borders and of one block are kept, 2 sqrt(T) B H Dk Dv numbers; without one no state is.
 *
 * @param label who computes, as `explain()` says it
 * @param form to be taken by all calls, whatever their shapes
 */
export function implementLinearAttention(label: string, form?: LinearAttentionForm): () => void {
  const formOf = (inputs: LinearAttentionInputs, backend: tf.KernelBackend): LinearAttentionForm =>
    form ?? linearAttentionForm(inputs, bindable(backend));
  return linearAttentionKernel.implement({
    backend: 'webgpu',
    label,
    supports(inputs, attributes) {
      const plan = planOf(inputs, attributes);
      const { keyDim, share } = plan.sizes;
      if (keyDim > WIDEST_KEY) return `keys of ${keyDim} channels; a column of the state in registers takes ${WIDEST_KEY}`;
      if (plan.held < 1 || plan.rowsHeld < 1)
        return `${share} query heads per state head; one token of them must fit into 16 KB of workgroup memory`;
      const backend = tf.backend() as tf.KernelBackend;
      const limit = bindable(backend);
      const largest =
        formOf(inputs, backend) === 'chunked' ? chunkBytes(inputs) : 4 * Math.max(...Object.values(scratchShapes(plan)).map(sizeOf));
      if (largest > limit) return `a gradient that keeps ${largest} bytes of states; this device binds ${limit}`;
      return true;
    },
    forward({ inputs, attributes, backend }) {
      if (formOf(inputs, backend) === 'chunked') return chunkedForward(backend, inputs, attributes.scale);
      const plan = planOf(inputs, attributes);
      const { query, key, value, logDecay, beta, state } = inputs;
      const { batch, time, heads, keyDim, valueDim } = plan.sizes;
      const { output, lastState } = runWgsl(backend, {
        name: `LinearAttention-${plan.name}`,
        source: sourceOf(`LinearAttention-${plan.name}`, () => forwardColumns(plan.variant, true)),
        workgroupSize: [LANES],
        workgroups: plan.columns,
        inputs: { query, key, value, ...(logDecay && { logDecay }), ...(beta && { beta }), state: state ?? key },
        outputs: {
          output: { shape: [batch, time, query.shape[2]!, valueDim] },
          lastState: { shape: [batch, heads, keyDim, valueDim] },
        },
        integers: { ...plan.sizes, held: plan.held, hasState: state ? 1 : 0 },
        floats: plan.floats,
      });
      return { output, state: lastState };
    },
    gradient({ inputs, upstream, attributes, backend }) {
      if (formOf(inputs, backend) === 'recurrent') return gradient(backend, inputs, planOf(inputs, attributes), upstream);
      const { beta } = inputs;
      return beta
        ? chunkedDeltaGradient(backend, { ...inputs, beta }, attributes.scale, upstream)
        : chunkedGradient(backend, inputs, attributes.scale, upstream);
    },
  });
}
