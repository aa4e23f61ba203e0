import { selectiveScanKernel } from '@seqloom/core';
import type { SelectiveScanInputs } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { columnSum } from './column-sum.ts';
import { release, runWgsl, sizeOf } from './run.ts';
import { sourceOf } from './source-cache.ts';
import {
  HELD_BACKWARD,
  HELD_FORWARD,
  LANES,
  backwardSource,
  columnsSource,
  forwardSource,
  laneSource,
  recordSource,
} from './selective-scan-shaders.ts';

/** Most states per channel, which are registers. */
const MOST_STATES = 64;

function planOf({ input, transition }: SelectiveScanInputs) {
  const [batch, time, channels] = input.shape as [number, number, number];
  const states = transition.shape[1]!;
  const quads = Math.ceil(states / 4);
  const tiles = Math.ceil(channels / LANES);
  // states at the borders of blocks and within one block: about 2 sqrt(T) together
  const block = Math.min(time, Math.max(8, Math.ceil(Math.sqrt(time))));
  const blocks = Math.ceil(time / block);
  return { batch, time, channels, states, quads, tiles, block, blocks, padded: 4 * quads };
}

type Plan = ReturnType<typeof planOf>;

// the large tensors that only one call needs
function scratchShapes({ batch, time, channels, states, quads, tiles, block, blocks, padded }: Plan) {
  return {
    records: [batch, time, channels, 4],
    matrices: [batch, time, 2, padded],
    borders: [batch, blocks + 1, channels, states],
    decayed: [batch, tiles, block, quads, LANES, 4],
    dMatrices: [tiles, batch, time, 2, padded],
  };
}

// A and D side by side
function lanesOf(backend: tf.KernelBackend, { transition, skip }: SelectiveScanInputs, { channels, states, padded }: Plan): tf.TensorInfo {
  return runWgsl(backend, {
    name: 'SelectiveScanLanes',
    source: laneSource,
    workgroupSize: [64],
    workgroups: [Math.ceil(channels / 64)],
    inputs: { transition, skip },
    outputs: { lanes: { shape: [channels, padded + 1] } },
    integers: { channels, states, padded },
  }).lanes;
}

// columns offset to offset + width - 1 of every row
function columns(
  backend: tf.KernelBackend,
  values: tf.TensorInfo,
  stride: number,
  offset: number,
  width: number,
  shape: readonly number[],
) {
  const size = sizeOf(shape);
  return runWgsl(backend, {
    name: 'SelectiveScanColumns',
    source: columnsSource,
    workgroupSize: [64],
    workgroups: [Math.ceil(size / 64)],
    inputs: { values },
    outputs: { part: { shape } },
    integers: { size, width, stride, offset },
  }).part;
}

function gradient(backend: tf.KernelBackend, inputs: SelectiveScanInputs, upstream: { output: tf.TensorInfo; state: tf.TensorInfo }) {
  const plan = planOf(inputs);
  const { batch, time, channels, states, quads, tiles, block, blocks, padded } = plan;
  const shapes = scratchShapes(plan);
  const { input, transition, inputMatrix, skip, state } = inputs;
  const lanes = lanesOf(backend, inputs, plan);
  const { records, matrices } = runWgsl(backend, {
    name: 'SelectiveScanRecords',
    source: recordSource,
    workgroupSize: [64],
    workgroups: [batch * time],
    inputs: { input, delta: inputs.delta, inputMatrix, outputMatrix: inputs.outputMatrix, dOutput: upstream.output },
    outputs: { records: { shape: shapes.records }, matrices: { shape: shapes.matrices } },
    vec4: ['records'],
    integers: { channels, states, padded },
  });
  const integers = { batch, time, channels, states, block, blocks, tiles };
  const { borders } = runWgsl(backend, {
    name: `SelectiveScanBorders-${quads}`,
    source: sourceOf(`SelectiveScanBorders-${quads}`, () => forwardSource(quads, false)),
    workgroupSize: [LANES],
    workgroups: [tiles, batch],
    inputs: { records, matrices, lanes, dLastState: upstream.state, state: state ?? lanes },
    outputs: { borders: { shape: shapes.borders } },
    vec4: ['records', 'matrices'],
    integers: { ...integers, held: HELD_FORWARD, hasState: state ? 1 : 0 },
  });
  const { dTokens, dMatrices, dLanes, decayed } = runWgsl(backend, {
    name: `SelectiveScanGrad-${quads}`,
    source: sourceOf(`SelectiveScanGrad-${quads}`, () => backwardSource(quads)),
    workgroupSize: [LANES],
    workgroups: [tiles, batch],
    inputs: { records, matrices, lanes, borders },
    outputs: {
      dTokens: { shape: [batch, time, channels, 4] },
      dMatrices: { shape: shapes.dMatrices },
      dLanes: { shape: [batch, channels, 2 * states + 1] },
      decayed: { shape: shapes.decayed },
    },
    vec4: ['records', 'matrices', 'dMatrices', 'decayed', 'dTokens'],
    integers: { ...integers, held: HELD_BACKWARD },
  });
  release(backend, records, matrices, lanes, borders, decayed);
  const sums = columnSum(backend, dMatrices, [batch, time, 2, padded]);
  const laneWidth = 2 * states + 1;
  const laneSums = columnSum(backend, dLanes, [channels, laneWidth]);
  const made = {
    input: columns(backend, dTokens, 4, 0, 1, input.shape),
    delta: columns(backend, dTokens, 4, 1, 1, input.shape),
    inputMatrix: columns(backend, sums, 2 * padded, 0, states, inputMatrix.shape),
    outputMatrix: columns(backend, sums, 2 * padded, padded, states, inputMatrix.shape),
    transition: columns(backend, laneSums, laneWidth, states, states, transition.shape),
    ...(skip && { skip: columns(backend, laneSums, laneWidth, 2 * states, 1, skip.shape) }),
    ...(state && { state: columns(backend, dLanes, laneWidth, 0, states, state.shape) }),
  };
  release(backend, dTokens, dMatrices, dLanes, sums, laneSums);
  return made;
}

/**
 * Installs the fused `SelectiveScan`; returns the way back.
 *
 * An invocation per batch row and channel with its N states in registers, 32 per workgroup; B and C of 16 tokens at a time (8 backward) are loaded
 * once for all 32, and with them what every channel reads: 128 N bytes and 8 KB of workgroup memory.
 *
 * Forward: two dispatches, the first of which only puts A and D side by side. Per token and channel 2 loads and 1 store, N exponentials and 3 N
 * multiply-adds.
 *
 * Gradient: eleven to thirteen dispatches: gathering (2), states at the borders of blocks (1), the backward pass (1), sums of its partial sums (2),
 * and one that cuts each result out. Blocks have sqrt(T) tokens: 2 sqrt(T) B C N numbers of states are kept. The backward pass does about
 * 3 N exponentials and 13 N multiply-adds per token and channel, with 192 N bytes and 4 KB of workgroup memory, sums over channels included.
 */
export function implementSelectiveScan(label: string): () => void {
  return selectiveScanKernel.implement({
    backend: 'webgpu',
    label,
    supports(inputs) {
      const plan = planOf(inputs);
      if (plan.states > MOST_STATES) return `${plan.states} states per channel; they stand in registers, at most ${MOST_STATES}`;
      const limit = (tf.backend() as unknown as { device: GPUDevice }).device.limits.maxStorageBufferBindingSize;
      const largest = 4 * Math.max(...Object.values(scratchShapes(plan)).map(sizeOf));
      if (largest > limit) return `a gradient that keeps ${largest} bytes in one buffer; this device binds ${limit}`;
      return true;
    },
    forward({ inputs, backend }) {
      const plan = planOf(inputs);
      const { batch, time, channels, states, quads, tiles } = plan;
      const { input, delta, inputMatrix, outputMatrix, state } = inputs;
      const lanes = lanesOf(backend, inputs, plan);
      const { output, lastState } = runWgsl(backend, {
        name: `SelectiveScan-${quads}`,
        source: sourceOf(`SelectiveScan-${quads}`, () => forwardSource(quads, true)),
        workgroupSize: [LANES],
        workgroups: [tiles, batch],
        inputs: { input, delta, inputMatrix, outputMatrix, lanes, state: state ?? lanes },
        outputs: { output: { shape: input.shape }, lastState: { shape: [batch, channels, states] } },
        integers: { batch, time, channels, states, held: HELD_FORWARD, hasState: state ? 1 : 0 },
      });
      release(backend, lanes);
      return { output, state: lastState };
    },
    gradient: ({ inputs, upstream, backend }) => gradient(backend, inputs, upstream),
  });
}
