import { complexLinearScanKernel, linearScanKernel } from '@seqloom/core';
import type { ComplexLinearScanInputs } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { runWgsl } from './run.ts';

const LANES = 64;

const lane = `
  let c = group.x * ${LANES}u + lane;
  if (c >= uniforms.channels) { return; }
  let sequence = group.y * uniforms.time * uniforms.channels + c;`;

/** Steps whose loads are under way together: one at a time, every step would wait for memory. */
const TOGETHER = 8;

/**
 * Walks through the scan, from its last step with `backward`: loads the named tensors of several steps, as `<tensor>_<j>`, and then takes the
 * steps one by one; `at_<j>` is the place of a step, `step_<j>` its number.
 */
function walk(backward: boolean, tensors: readonly string[], take: (j: number) => string): string {
  const steps = Array.from({ length: TOGETHER }, (_, j) => j);
  return `
  for (var first = 0u; first < uniforms.time; first += ${TOGETHER}u) {
    ${steps
      .map((j) => {
        // steps beyond the end are loaded as the last one, and not taken
        const step = `let step_${j} = ${backward ? 'uniforms.time - 1u - ' : ''}min(first + ${j}u, uniforms.time - 1u);`;
        return `${step} let at_${j} = sequence + placeOf(step_${j}) * uniforms.channels;`;
      })
      .join('\n    ')}
    ${steps.map((j) => tensors.map((tensor) => `let ${tensor}_${j} = ${tensor}[at_${j}];`).join(' ')).join('\n    ')}
    ${steps.map((j) => `if (first + ${j}u < uniforms.time) { ${take(j)} }`).join('\n    ')}
  }`;
}

const placeOf = `
fn placeOf(step: u32) -> u32 { return select(step, uniforms.time - 1u - step, uniforms.reverse != 0u); }`;

const forwardSource = `${placeOf}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  var h = 0.0;
  if (has_state) { h = state[group.y * uniforms.channels + c]; }
  ${walk(false, ['decay', 'input'], (j) => `h = decay_${j} * h + input_${j}; hidden[at_${j}] = h;`)}
  lastState[group.y * uniforms.channels + c] = h;
}
`;

const backwardSource = (state: boolean): string => `${placeOf}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  var carried = dLastState[group.y * uniforms.channels + c];
  ${walk(
    true,
    ['decay', 'dHidden'],
    (j) => `
      let g = dHidden_${j} + carried;
      dInput[at_${j}] = g;
      carried = decay_${j} * g;`,
  )}
  ${state ? 'dState[group.y * uniforms.channels + c] = carried;' : ''}
}
`;

const decaySource = `${placeOf}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  let at = sequence + placeOf(group.z) * uniforms.channels;
  var before = 0.0;
  if (group.z > 0u) { before = hidden[sequence + placeOf(group.z - 1u) * uniforms.channels]; }
  else if (has_state) { before = state[group.y * uniforms.channels + c]; }
  dDecay[at] = dInput[at] * before;
}
`;

const complexForwardSource = `${placeOf}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  var h = vec2<f32>();
  if (has_stateReal) { h = vec2<f32>(stateReal[group.y * uniforms.channels + c], stateImaginary[group.y * uniforms.channels + c]); }
  ${walk(
    false,
    ['decayReal', 'decayImaginary', 'inputReal', 'inputImaginary'],
    (j) => `
      h = vec2<f32>(
        decayReal_${j} * h.x - decayImaginary_${j} * h.y + inputReal_${j},
        decayReal_${j} * h.y + decayImaginary_${j} * h.x + inputImaginary_${j});
      hiddenReal[at_${j}] = h.x;
      hiddenImaginary[at_${j}] = h.y;`,
  )}
}
`;

const complexLastSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  let at = sequence + select(uniforms.time - 1u, 0u, uniforms.reverse != 0u) * uniforms.channels;
  lastReal[group.y * uniforms.channels + c] = hiddenReal[at];
  lastImaginary[group.y * uniforms.channels + c] = hiddenImaginary[at];
}
`;

const complexBackwardSource = `${placeOf}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  var carried = vec2<f32>(dLastReal[group.y * uniforms.channels + c], dLastImaginary[group.y * uniforms.channels + c]);
  ${walk(
    true,
    ['decayReal', 'decayImaginary', 'dHiddenReal', 'dHiddenImaginary'],
    (j) => `
      let g = vec2<f32>(dHiddenReal_${j}, dHiddenImaginary_${j}) + carried;
      dInputReal[at_${j}] = g.x;
      dInputImaginary[at_${j}] = g.y;
      carried = vec2<f32>(decayReal_${j} * g.x + decayImaginary_${j} * g.y, decayReal_${j} * g.y - decayImaginary_${j} * g.x);`,
  )}
}
`;

const complexDecaySource = `${placeOf}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${lane}
  let at = sequence + placeOf(group.z) * uniforms.channels;
  var before = vec2<f32>();
  if (group.z > 0u) {
    let earlier = sequence + placeOf(group.z - 1u) * uniforms.channels;
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
 * An invocation per batch row and channel walks through time, 64 per workgroup; neighbours load neighbouring channels, and 8 steps are loaded
 * together. Forward one dispatch: per step 2 loads, 1 multiply-add and 1 store. Gradient two: the same walk backward, which is the gradient of
 * the input, and that of the decay at all steps at once (2 loads, 1 operation, 1 store). No workgroup memory.
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
      const { grid, time, whole, state: first } = gridOf(decay, attributes.reverse);
      const made = runWgsl(backend, {
        name: `LinearScanGrad-${state ? 'state' : 'zero'}`,
        source: backwardSource(state !== undefined),
        ...grid,
        inputs: { decay, dHidden: upstream.hidden, dLastState: upstream.state },
        outputs: { dInput: whole, ...(state && { dState: first }) } as Record<'dInput' | 'dState', typeof whole>,
      });
      const { dDecay } = runWgsl(backend, {
        name: 'LinearScanDecay',
        source: decaySource,
        ...grid,
        workgroups: [...grid.workgroups, time],
        inputs: { hidden: saved.hidden, dInput: made.dInput, state },
        outputs: { dDecay: whole },
      });
      return { decay: dDecay, input: made.dInput, ...(state && { state: made.dState }) };
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
