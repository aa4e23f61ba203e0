import { causalConv1dKernel } from '@seqloom/core';
import type { CausalConv1dInputs } from '@seqloom/core';
import { columnSum } from './column-sum.ts';
import { activations } from './functions.ts';
import { release, runWgsl } from './run.ts';

// token t of state and input in one row of time, which the first K - 1 are the state's
const shared = `
${activations}
fn lengthOf(batch: u32) -> u32 {
  if (has_lengths) { return u32(lengths[batch]); }
  return uniforms.time;
}
fn joined(batch: u32, token: u32, channel: u32) -> f32 {
  let history = uniforms.taps - 1u;
  if (token >= history) { return x[(batch * uniforms.time + token - history) * uniforms.channels + channel]; }
  if (has_state) { return state[(batch * history + token) * uniforms.channels + channel]; }
  return 0.0;
}
fn convolve(batch: u32, token: u32, channel: u32) -> f32 {
  var sum = 0.0;
  if (has_bias) { sum = bias[channel]; }
  for (var tap = 0u; tap < uniforms.taps; tap++) { sum += weight[channel * uniforms.taps + tap] * joined(batch, token + tap, channel); }
  return sum;
}
`;

const forwardSource = `
${shared}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let channel = group.x * 64u + lane;
  if (channel >= uniforms.channels) { return; }
  let token = group.y;
  let batch = group.z;
  let length = lengthOf(batch);
  if (token < uniforms.time) {
    var value = 0.0;
    if (token < length) {
      value = convolve(batch, token, channel);
      if (isSilu) { value = silu(value); }
    }
    output[(batch * uniforms.time + token) * uniforms.channels + channel] = value;
  } else {
    let place = token - uniforms.time;
    finalState[(batch * (uniforms.taps - 1u) + place) * uniforms.channels + channel] = joined(batch, length + place, channel);
  }
}
`;

// gradient of the sum before the activation
const sumSource = `
${shared}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let channel = group.x * 64u + lane;
  if (channel >= uniforms.channels) { return; }
  let place = (group.z * uniforms.time + group.y) * uniforms.channels + channel;
  var value = 0.0;
  if (group.y < lengthOf(group.z)) {
    value = upstream[place];
    if (isSilu) { value *= siluSlope(convolve(group.z, group.y, channel)); }
  }
  dSum[place] = value;
}
`;

// every token reaches the K - 1 after it
const inputSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let channel = group.x * 64u + lane;
  if (channel >= uniforms.channels) { return; }
  let history = uniforms.taps - 1u;
  let token = group.y;
  let batch = group.z;
  var sum = 0.0;
  for (var tap = 0u; tap < uniforms.taps; tap++) {
    if (token >= tap && token - tap < uniforms.time) {
      sum += weight[channel * uniforms.taps + tap] * dSum[(batch * uniforms.time + token - tap) * uniforms.channels + channel];
    }
  }
  var length = uniforms.time;
  if (has_lengths) { length = u32(lengths[batch]); }
  if (token >= length && token < length + history) {
    sum += upstreamState[(batch * history + token - length) * uniforms.channels + channel];
  }
  if (token >= history) { dInput[(batch * uniforms.time + token - history) * uniforms.channels + channel] = sum; }
  else if (has_dState) { dState[(batch * history + token) * uniforms.channels + channel] = sum; }
}
`;

// partial sums over a block of tokens; the tap after the last one stands for the bias
const weightSource = `
${shared}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let channel = group.x * 64u + lane;
  if (channel >= uniforms.channels) { return; }
  let tap = group.z;
  let last = min((group.y + 1u) * uniforms.block, uniforms.batch * uniforms.time);
  var sum = 0.0;
  for (var row = group.y * uniforms.block; row < last; row++) {
    let batch = row / uniforms.time;
    let token = row % uniforms.time;
    // beyond the valid tokens the input may hold anything, NaN too
    if (token >= lengthOf(batch)) { continue; }
    let given = dSum[row * uniforms.channels + channel];
    if (tap < uniforms.taps) { sum += given * joined(batch, token + tap, channel); } else { sum += given; }
  }
  if (tap < uniforms.taps) { dWeight[(group.y * uniforms.channels + channel) * uniforms.taps + tap] = sum; }
  else if (has_dBias) { dBias[group.y * uniforms.channels + channel] = sum; }
}
`;

function sizesOf({ input, weight }: CausalConv1dInputs): { batch: number; time: number; channels: number; taps: number } {
  const [batch, time, channels] = input.shape as [number, number, number];
  return { batch, time, channels, taps: weight.shape[1]! };
}

/**
 * Installs the fused `CausalConv1d`; returns the way back.
 *
 * Forward: one dispatch, one invocation per output and number of the new state: 2 K loads, mostly from cache, 2 K operations. Gradient: the
 * gradient of the sum (as the forward), then that of input and state (2 K loads each), then partial sums of those of weight and bias over blocks
 * of tokens (2 loads per tap and token) and one or two dispatches that add them up. No workgroup memory.
 */
export function implementCausalConv1d(label: string): () => void {
  return causalConv1dKernel.implement({
    backend: 'webgpu',
    label,
    forward({ inputs, attributes, backend }) {
      const { batch, time, channels, taps } = sizesOf(inputs);
      const { output, finalState } = runWgsl(backend, {
        name: 'CausalConv1d',
        source: forwardSource,
        workgroupSize: [64],
        workgroups: [Math.ceil(channels / 64), time + taps - 1, batch],
        inputs: { x: inputs.input, weight: inputs.weight, bias: inputs.bias, state: inputs.state, lengths: inputs.lengths },
        outputs: { output: { shape: inputs.input.shape }, finalState: { shape: [batch, taps - 1, channels] } },
        integers: { time, channels, taps },
        constants: { isSilu: attributes.activation === 'silu' },
      });
      return { output, state: finalState };
    },
    gradient({ inputs, upstream, attributes, backend }) {
      const { input, weight, bias, state, lengths } = inputs;
      const { batch, time, channels, taps } = sizesOf(inputs);
      const constants = { isSilu: attributes.activation === 'silu' };
      const integers = { time, channels, taps };
      const columns = Math.ceil(channels / 64);
      const { dSum } = runWgsl(backend, {
        name: 'CausalConv1dSumGrad',
        source: sumSource,
        workgroupSize: [64],
        workgroups: [columns, time, batch],
        inputs: { x: input, weight, bias, state, lengths, upstream: upstream.output },
        outputs: { dSum: { shape: input.shape } },
        integers,
        constants,
      });
      const { dInput, dState } = runWgsl(backend, {
        name: 'CausalConv1dInputGrad',
        source: inputSource,
        workgroupSize: [64],
        workgroups: [columns, time + taps - 1, batch],
        inputs: { weight, dSum, lengths, upstreamState: upstream.state },
        outputs: { dInput: { shape: input.shape }, dState: state && { shape: state.shape } },
        integers,
      });
      const block = Math.max(16, Math.ceil((batch * time) / 256));
      const blocks = Math.ceil((batch * time) / block);
      const parts = runWgsl(backend, {
        name: 'CausalConv1dWeightGrad',
        source: weightSource,
        workgroupSize: [64],
        workgroups: [columns, blocks, bias ? taps + 1 : taps],
        inputs: { x: input, state, lengths, dSum, weight, bias },
        outputs: { dWeight: { shape: [blocks, channels, taps] }, dBias: bias && { shape: [blocks, channels] } },
        integers: { ...integers, batch, block },
        constants,
      });
      const made = {
        input: dInput,
        weight: columnSum(backend, parts.dWeight, weight.shape),
        bias: parts.dBias && columnSum(backend, parts.dBias, bias!.shape),
        state: dState,
      };
      release(backend, dSum, parts.dWeight, parts.dBias);
      return made as { input: typeof dInput; weight: typeof dInput; bias: typeof dInput; state: typeof dInput };
    },
  });
}
