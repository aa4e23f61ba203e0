import { rotaryKernel } from '@seqloom/core';
import type { RotaryInputs } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { runWgsl, sizeOf } from './run.ts';

const source = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * 256u + lane;
  if (place >= uniforms.size) { return; }
  let channel = place % uniforms.width;
  if (channel >= 2u * uniforms.pairs) {
    output[place] = x[place];
    return;
  }
  let token = place / uniforms.width / uniforms.heads;
  var pair = channel % uniforms.pairs;
  var isFirst = channel < uniforms.pairs;
  var step = uniforms.pairs;
  if (interleaved) {
    pair = channel / 2u;
    isFirst = channel % 2u == 0u;
    step = 1u;
  }
  // one row of angles per position, shared by all batches or not
  let angle = (token % uniforms.angles) * uniforms.pairs + pair;
  let turned = select(x[place - select(step, 0u, isFirst)], -x[place + select(0u, step, isFirst)], isFirst);
  output[place] = x[place] * cosines[angle] + turned * sines[angle] * uniforms.sign;
}
`;

function turn(backend: tf.KernelBackend, x: tf.Tensor, { cos, sin }: RotaryInputs, interleaved: boolean, sign: number): tf.TensorInfo {
  const [, , heads, width] = x.shape as [number, number, number, number];
  const [batch, time, pairs] = cos.shape as [number, number, number];
  const size = sizeOf(x.shape);
  return runWgsl(backend, {
    name: 'Rotary',
    source,
    workgroupSize: [256],
    workgroups: [Math.ceil(size / 256)],
    inputs: { x, cosines: cos, sines: sin },
    outputs: { output: { shape: x.shape } },
    integers: { size, heads, width, pairs, angles: batch * time },
    floats: { sign },
    constants: { interleaved },
  }).output;
}

/**
 * Installs the fused `Rotary`; returns the way back.
 *
 * One dispatch, forward and gradient alike, one invocation per number: 4 loads (2 of the input, from cache, 2 of the angles), 4 operations, no
 * workgroup memory.
 */
export function implementRotary(label: string): () => void {
  return rotaryKernel.implement({
    backend: 'webgpu',
    label,
    supports: ({ cos, sin }) => cos.shape[0] === sin.shape[0] || 'cos and sin differ in their batch axis',
    forward: ({ inputs, attributes, backend }) => ({ output: turn(backend, inputs.input, inputs, attributes.interleaved, 1) }),
    // the transpose of a rotation is the rotation by the opposite angle
    gradient: ({ inputs, upstream, attributes, backend }) => ({
      input: turn(backend, upstream.output, inputs, attributes.interleaved, -1),
    }),
  });
}
