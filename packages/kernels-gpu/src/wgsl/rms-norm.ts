import { rmsNormKernel } from '@seqloom/core';
import type { RmsNormAttributes, RmsNormInputs } from '@seqloom/core';
import { columnSum } from './column-sum.ts';
import { activations, workgroupSum } from './functions.ts';
import { release, runWgsl } from './run.ts';
import { withSubgroups } from './source-cache.ts';

const LANES = 128;

const shared = (subgroups: boolean): string => `
${activations}
${workgroupSum(LANES, subgroups)}
fn act(x: f32) -> f32 { if (isSilu) { return silu(x); } return sigmoid(x); }
fn actSlope(x: f32) -> f32 { if (isSilu) { return siluSlope(x); } return sigmoidSlope(x); }
// what is normalised
fn source(place: u32) -> f32 {
  if (has_gate && !normBeforeGate) { return x[place] * act(gate[place]); }
  return x[place];
}
fn inverseRms(start: u32, lane: u32) -> f32 {
  var squares = 0.0;
  for (var c = lane; c < uniforms.width; c += ${LANES}u) {
    let value = source(start + c);
    squares += value * value;
  }
  return inverseSqrt(workgroupSum(squares, lane) / f32(uniforms.width) + uniforms.epsilon);
}
`;

const forwardSource = (subgroups: boolean): string => `
${shared(subgroups)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let start = (group.x * uniforms.groups + group.y) * uniforms.width;
  let scale = inverseRms(start, lane);
  for (var c = lane; c < uniforms.width; c += ${LANES}u) {
    var value = source(start + c) * scale;
    if (has_weight) { value *= weight[group.y * uniforms.width + c]; }
    if (has_gate && normBeforeGate) { value *= act(gate[start + c]); }
    output[start + c] = value;
  }
}
`;

// a workgroup takes a block of rows, so that it can add up its share of the weight's gradient
const backwardSource = (subgroups: boolean): string => `
${shared(subgroups)}
// gradient of normalised * weight
fn upstreamAt(place: u32) -> f32 {
  if (has_gate && normBeforeGate) { return upstream[place] * act(gate[place]); }
  return upstream[place];
}
fn weightAt(channel: u32) -> f32 {
  if (has_weight) { return weight[channel]; }
  return 1.0;
}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let first = group.y * uniforms.width;
  let channels = uniforms.groups * uniforms.width;
  let last = min(uniforms.rows, (group.x + 1u) * uniforms.block);
  if (has_dWeight) {
    for (var c = lane; c < uniforms.width; c += ${LANES}u) { dWeight[group.x * channels + first + c] = 0.0; }
  }
  for (var row = group.x * uniforms.block; row < last; row++) {
    let start = row * channels + first;
    let scale = inverseRms(start, lane);
    var product = 0.0;
    for (var c = lane; c < uniforms.width; c += ${LANES}u) {
      product += upstreamAt(start + c) * weightAt(first + c) * source(start + c) * scale;
    }
    let along = workgroupSum(product, lane) / f32(uniforms.width);
    for (var c = lane; c < uniforms.width; c += ${LANES}u) {
      let place = start + c;
      let normalised = source(place) * scale;
      let given = upstreamAt(place);
      let dSource = (given * weightAt(first + c) - normalised * along) * scale;
      if (has_gate && !normBeforeGate) {
        dInput[place] = dSource * act(gate[place]);
        dGate[place] = dSource * x[place] * actSlope(gate[place]);
      } else {
        dInput[place] = dSource;
      }
      if (has_gate && normBeforeGate) {
        dGate[place] = upstream[place] * normalised * weightAt(first + c) * actSlope(gate[place]);
      }
      if (has_dWeight) { dWeight[group.x * channels + first + c] += given * normalised; }
    }
  }
}
`;

function settingsOf({ input }: RmsNormInputs, { groups, epsilon, gateActivation, normBeforeGate }: RmsNormAttributes) {
  const channels = input.shape.at(-1)!;
  return {
    rows: channels === 0 ? 0 : input.size / channels,
    width: channels / groups,
    floats: { epsilon },
    constants: { isSilu: gateActivation === 'silu', normBeforeGate },
  };
}

/**
 * Installs the fused `RmsNorm`; returns the way back.
 *
 * Forward: one dispatch, a workgroup of 128 per row and group of W channels; 2 W loads of the input (the second from cache), W of weight and
 * gate each, about 5 W operations, 512 bytes of workgroup memory. Gradient: one dispatch over blocks of rows that writes all gradients by row
 * and one partial sum per block of the weight's, 3 W loads of the input and 2 W of the upstream per row, about 15 W operations, 512 bytes; and
 * a second one that adds the partial sums up.
 * With subgroup operations a quarter of that memory, and two barriers per sum rather than nine.
 */
export function implementRmsNorm(label: string): () => void {
  return rmsNormKernel.implement({
    backend: 'webgpu',
    label,
    forward({ inputs, attributes, backend }) {
      const { rows, width, floats, constants } = settingsOf(inputs, attributes);
      const { groups } = attributes;
      return runWgsl(backend, {
        name: 'RmsNorm',
        ...withSubgroups('RmsNorm', backend, forwardSource),
        workgroupSize: [LANES],
        workgroups: [rows, groups],
        inputs: { x: inputs.input, weight: inputs.weight, gate: inputs.gate },
        outputs: { output: { shape: inputs.input.shape } },
        integers: { width, groups },
        floats,
        constants,
      });
    },
    gradient({ inputs, upstream, attributes, backend }) {
      const { input, weight, gate } = inputs;
      const { rows, width, floats, constants } = settingsOf(inputs, attributes);
      const { groups } = attributes;
      // enough workgroups to fill a GPU, few enough partial sums for the second pass
      const block = Math.max(1, Math.ceil(rows / 256));
      const blocks = Math.ceil(rows / block);
      const made = runWgsl(backend, {
        name: 'RmsNormGrad',
        ...withSubgroups('RmsNormGrad', backend, backwardSource),
        workgroupSize: [LANES],
        workgroups: [blocks, groups],
        inputs: { x: input, weight, gate, upstream: upstream.output },
        outputs: {
          dInput: { shape: input.shape },
          dGate: gate && { shape: gate.shape },
          dWeight: weight && { shape: [blocks, width * groups] },
        },
        integers: { width, groups, rows, block },
        floats,
        constants,
      });
      const dWeight = made.dWeight && columnSum(backend, made.dWeight, weight!.shape);
      release(backend, made.dWeight);
      return { input: made.dInput, weight: dWeight!, gate: made.dGate! };
    },
  });
}
