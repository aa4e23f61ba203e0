import { complexLinearScanKernel, linearScanKernel } from '@seqloom/core';
import type { ComplexLinearScanInputs } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { runWgsl } from './run.ts';

const LANES = 64;

const lane = `
  let c = group.x * ${LANES}u + lane;
  if (c >= uniforms.channels) { return; }
  let sequence = group.y * uniforms.time * uniforms.channels + c;`;

// step `i` of the scan; `backward` counts from its end
const place = (backward: boolean) => `
    let step = ${backward ? 'uniforms.time - 1u - i' : 'i'};
    let at = sequence + select(step, uniforms.time - 1u - step, uniforms.reverse != 0u) * uniforms.channels;`;

const forwardSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  var h = 0.0;
  if (has_state) { h = state[group.y * uniforms.channels + c]; }
  for (var i = 0u; i < uniforms.time; i++) {${place(false)}
    h = decay[at] * h + input[at];
    hidden[at] = h;
  }
  lastState[group.y * uniforms.channels + c] = h;
}
`;

const backwardSource = (state: boolean) => `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  var carried = dLastState[group.y * uniforms.channels + c];
  for (var i = 0u; i < uniforms.time; i++) {${place(true)}
    let g = dHidden[at] + carried;
    var before = 0.0;
    if (step > 0u) { before = hidden[select(at - uniforms.channels, at + uniforms.channels, uniforms.reverse != 0u)]; }
    ${state ? 'else { before = state[group.y * uniforms.channels + c]; }' : ''}
    dDecay[at] = g * before;
    dInput[at] = g;
    carried = decay[at] * g;
  }
  ${state ? 'dState[group.y * uniforms.channels + c] = carried;' : ''}
}
`;

const complexForwardSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  var h = vec2<f32>();
  if (has_stateReal) { h = vec2<f32>(stateReal[group.y * uniforms.channels + c], stateImaginary[group.y * uniforms.channels + c]); }
  for (var i = 0u; i < uniforms.time; i++) {${place(false)}
    let a = vec2<f32>(decayReal[at], decayImaginary[at]);
    h = vec2<f32>(a.x * h.x - a.y * h.y + inputReal[at], a.x * h.y + a.y * h.x + inputImaginary[at]);
    hiddenReal[at] = h.x;
    hiddenImaginary[at] = h.y;
  }
}
`;

const complexLastSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  let at = sequence + select(uniforms.time - 1u, 0u, uniforms.reverse != 0u) * uniforms.channels;
  lastReal[group.y * uniforms.channels + c] = hiddenReal[at];
  lastImaginary[group.y * uniforms.channels + c] = hiddenImaginary[at];
}
`;

const complexBackwardSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  var carried = vec2<f32>(dLastReal[group.y * uniforms.channels + c], dLastImaginary[group.y * uniforms.channels + c]);
  for (var i = 0u; i < uniforms.time; i++) {${place(true)}
    let g = vec2<f32>(dHiddenReal[at], dHiddenImaginary[at]) + carried;
    dInputReal[at] = g.x;
    dInputImaginary[at] = g.y;
    let a = vec2<f32>(decayReal[at], decayImaginary[at]);
    carried = vec2<f32>(a.x * g.x + a.y * g.y, a.x * g.y - a.y * g.x);
  }
}
`;

const complexDecaySource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  let step = group.z;
  let at = sequence + select(step, uniforms.time - 1u - step, uniforms.reverse != 0u) * uniforms.channels;
  var before = vec2<f32>();
  if (step > 0u) {
    let earlier = select(at - uniforms.channels, at + uniforms.channels, uniforms.reverse != 0u);
    before = vec2<f32>(hiddenReal[earlier], hiddenImaginary[earlier]);
  } else if (has_stateReal) {
    before = vec2<f32>(stateReal[group.y * uniforms.channels + c], stateImaginary[group.y * uniforms.channels + c]);
  }
  let g = vec2<f32>(dInputReal[at], dInputImaginary[at]);
  dDecayReal[at] = g.x * before.x + g.y * before.y;
  dDecayImaginary[at] = g.y * before.x - g.x * before.y;
}
`;

const complexStateSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  let at = sequence + select(0u, uniforms.time - 1u, uniforms.reverse != 0u) * uniforms.channels;
  let a = vec2<f32>(decayReal[at], decayImaginary[at]);
  let g = vec2<f32>(dInputReal[at], dInputImaginary[at]);
  dStateReal[group.y * uniforms.channels + c] = a.x * g.x + a.y * g.y;
  dStateImaginary[group.y * uniforms.channels + c] = a.x * g.y - a.y * g.x;
}
`;

// grid and sizes of a scan over [B, T, C]
function gridOf(decay: tf.TensorInfo, reverse: boolean) {
  const [batch, time, channels] = decay.shape as [number, number, number];
  return {
    time,
    state: { shape: [batch, channels] },
    whole: { shape: decay.shape },
    grid: {
      workgroupSize: [LANES] as const,
      workgroups: [Math.ceil(channels / LANES), batch] as const,
      integers: { time, channels, reverse: reverse ? 1 : 0 },
    },
  };
}

/**
 * Installs the fused `LinearScan`; returns the way back.
 *
 * Forward and gradient: one dispatch each, an invocation per batch row and channel that walks through time, 64 per workgroup; neighbours load
 * neighbouring channels. Per step 2 loads, 1 multiply-add and 1 store forward, 3 loads, 2 operations and 2 stores backward; no workgroup memory.
 */
export function implementLinearScan(label: string): () => void {
  return linearScanKernel.implement({
    backend: 'webgpu',
    label,
    forward({ inputs: { decay, input, state }, attributes, backend }) {
      const { grid, whole, state: last } = gridOf(decay, attributes.reverse);
      const made = runWgsl(backend, {
        name: 'LinearScan',
        source: forwardSource,
        ...grid,
        inputs: { decay, input, state },
        outputs: { hidden: whole, lastState: last },
      });
      return { hidden: made.hidden, state: made.lastState };
    },
    gradient({ inputs: { decay, state }, saved, upstream, attributes, backend }) {
      const { grid, whole, state: first } = gridOf(decay, attributes.reverse);
      const made = runWgsl(backend, {
        name: `LinearScanGrad-${state ? 'state' : 'zero'}`,
        source: backwardSource(state !== undefined),
        ...grid,
        inputs: { decay, hidden: saved.hidden, dHidden: upstream.hidden, dLastState: upstream.state, ...(state && { state }) },
        outputs: { dDecay: whole, dInput: whole, ...(state && { dState: first }) } as Record<'dDecay' | 'dInput' | 'dState', typeof whole>,
      });
      return { decay: made.dDecay, input: made.dInput, ...(state && { state: made.dState }) };
    },
  });
}

/**
 * Installs the fused `ComplexLinearScan`; returns the way back.
 *
 * An invocation per batch row and channel, 64 per workgroup, no workgroup memory. Forward two dispatches: the scan (4 loads, 4 multiply-adds,
 * 2 stores per step) and the last state. Gradient two or three: the scan backward, which is the gradient of the input (4 loads, 4
 * multiply-adds, 2 stores per step), that of the decay at all steps at once (4 loads, 4 operations, 2 stores), and that of the first state.
 */
export function implementComplexLinearScan(label: string): () => void {
  const states = ({ stateReal, stateImaginary }: ComplexLinearScanInputs) => ({ stateReal, stateImaginary });
  return complexLinearScanKernel.implement({
    backend: 'webgpu',
    label,
    forward({ inputs, attributes, backend }) {
      const { decayReal, decayImaginary, inputReal, inputImaginary } = inputs;
      const { grid, whole, state } = gridOf(decayReal, attributes.reverse);
      const { hiddenReal, hiddenImaginary } = runWgsl(backend, {
        name: 'ComplexLinearScan',
        source: complexForwardSource,
        ...grid,
        inputs: { decayReal, decayImaginary, inputReal, inputImaginary, ...states(inputs) },
        outputs: { hiddenReal: whole, hiddenImaginary: whole },
      });
      const { lastReal, lastImaginary } = runWgsl(backend, {
        name: 'ComplexLinearScanLast',
        source: complexLastSource,
        ...grid,
        inputs: { hiddenReal, hiddenImaginary },
        outputs: { lastReal: state, lastImaginary: state },
      });
      return { hiddenReal, hiddenImaginary, stateReal: lastReal, stateImaginary: lastImaginary };
    },
    gradient({ inputs, saved, upstream, attributes, backend }) {
      const { decayReal, decayImaginary, stateReal } = inputs;
      const { grid, time, whole, state } = gridOf(decayReal, attributes.reverse);
      const { dInputReal, dInputImaginary } = runWgsl(backend, {
        name: 'ComplexLinearScanGrad',
        source: complexBackwardSource,
        ...grid,
        inputs: {
          decayReal,
          decayImaginary,
          dHiddenReal: upstream.hiddenReal,
          dHiddenImaginary: upstream.hiddenImaginary,
          dLastReal: upstream.stateReal,
          dLastImaginary: upstream.stateImaginary,
        },
        outputs: { dInputReal: whole, dInputImaginary: whole },
      });
      const { dDecayReal, dDecayImaginary } = runWgsl(backend, {
        name: 'ComplexLinearScanDecay',
        source: complexDecaySource,
        ...grid,
        workgroups: [...grid.workgroups, time],
        inputs: { hiddenReal: saved.hiddenReal, hiddenImaginary: saved.hiddenImaginary, dInputReal, dInputImaginary, ...states(inputs) },
        outputs: { dDecayReal: whole, dDecayImaginary: whole },
      });
      const first =
        stateReal &&
        runWgsl(backend, {
          name: 'ComplexLinearScanFirst',
          source: complexStateSource,
          ...grid,
          inputs: { decayReal, decayImaginary, dInputReal, dInputImaginary },
          outputs: { dStateReal: state, dStateImaginary: state },
        });
      return {
        decayReal: dDecayReal,
        decayImaginary: dDecayImaginary,
        inputReal: dInputReal,
        inputImaginary: dInputImaginary,
        ...(first && { stateReal: first.dStateReal, stateImaginary: first.dStateImaginary }),
      };
    },
  });
}
