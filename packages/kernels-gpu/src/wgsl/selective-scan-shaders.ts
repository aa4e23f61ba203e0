/** Channels of a workgroup, one per invocation. */
export const LANES = 32;
/** Tokens that are held at once: 128 N bytes of workgroup memory for the matrices of N states, and 8 KB for what each channel reads. */
export const HELD_FORWARD = 16;
/** The same of the backward pass: 64 N bytes and 4 KB, beside 128 N bytes for sums over channels. */
export const HELD_BACKWARD = 8;

const each = (count: number, text: (index: number) => string, between = '\n    '): string =>
  Array.from({ length: count }, (_, index) => text(index)).join(between);

const total = (name: string): string => `(${name}.x + ${name}.y + ${name}.z + ${name}.w)`;

/**
 * Gathers what the gradient reads into few bindings: per token and channel u, delta and the output's gradient; per token B and C, each padded to
 * whole 4-vectors.
 */
export const recordSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.x;
  for (var c = lane; c < uniforms.channels; c += 64u) {
    let at = row * uniforms.channels + c;
    records[at] = vec4<f32>(input[at], delta[at], dOutput[at], 0.0);
  }
  for (var i = lane; i < uniforms.padded; i += 64u) {
    let inside = i < uniforms.states;
    let at = row * uniforms.states + min(i, uniforms.states - 1u);
    matrices[row * 2u * uniforms.padded + i] = select(0.0, inputMatrix[at], inside);
    matrices[(row * 2u + 1u) * uniforms.padded + i] = select(0.0, outputMatrix[at], inside);
  }
}
`;

/** A and D of a channel in one row, A padded to whole 4-vectors. */
export const laneSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let c = group.x * 64u + lane;
  if (c >= uniforms.channels) { return; }
  let start = c * (uniforms.padded + 1u);
  for (var n = 0u; n < uniforms.padded; n++) { lanes[start + n] = select(0.0, transition[c * uniforms.states + min(n, uniforms.states - 1u)], n < uniforms.states); }
  var direct = 0.0;
  if (has_skip) { direct = skip[c]; }
  lanes[start + uniforms.padded] = direct;
}
`;

const begin = (quads: number) => `
  let b = group.y;
  let c = group.x * ${LANES}u + lane;
  let alive = c < uniforms.channels;
  let channel = min(c, uniforms.channels - 1u);
  let parameters = channel * ${4 * quads + 1}u;
  ${each(quads, (i) => `let a${i} = vec4<f32>(${each(4, (j) => `lanes[parameters + ${4 * i + j}u]`, ', ')});`)}`;

// the matrices of tokens first to last - 1 into workgroup memory
const hold = (quads: number) => `
    workgroupBarrier();
    for (var i = lane; i < (last - first) * ${2 * quads}u; i += ${LANES}u) { held[i] = matrices[(b * uniforms.time + first) * ${2 * quads}u + i]; }
    for (var i = 0u; i < last - first; i++) { steps[i * ${LANES}u + lane] = records[(b * uniforms.time + first + i) * uniforms.channels + channel]; }
    workgroupBarrier();`;

const readState = (tensor: string, name: string, quads: number, start: string) =>
  each(quads, (i) =>
    each(4, (j) => `if (${4 * i + j}u < uniforms.states) { ${name}${i}.${'xyzw'[j]} = ${tensor}[${start} + ${4 * i + j}u]; }`),
  );
const writeState = (tensor: string, name: string, quads: number, start: string) =>
  each(quads, (i) =>
    each(4, (j) => `if (${4 * i + j}u < uniforms.states) { ${tensor}[${start} + ${4 * i + j}u] = ${name}${i}.${'xyzw'[j]}; }`),
  );

// the same from B and C themselves
const holdUnpacked = (quads: number) => `
    workgroupBarrier();
    for (var i = lane; i < (last - first) * ${quads}u; i += ${LANES}u) {
      let token = b * uniforms.time + first + i / ${quads}u;
      var four = array<vec4<f32>, 2>();
      for (var j = 0u; j < 4u; j++) {
        let n = i % ${quads}u * 4u + j;
        if (n < uniforms.states) {
          four[0][j] = inputMatrix[token * uniforms.states + n];
          four[1][j] = outputMatrix[token * uniforms.states + n];
        }
      }
      held[i / ${quads}u * ${2 * quads}u + i % ${quads}u] = four[0];
      held[i / ${quads}u * ${2 * quads}u + ${quads}u + i % ${quads}u] = four[1];
    }
    for (var i = 0u; i < last - first; i++) {
      let at = (b * uniforms.time + first + i) * uniforms.channels + channel;
      steps[i * ${LANES}u + lane] = vec4<f32>(input[at], delta[at], 0.0, 0.0);
    }
    workgroupBarrier();`;

/** Forward: with `read` the outputs and the last state, otherwise the states before every block, and behind them the last one's gradient. */
export function forwardSource(quads: number, read: boolean): string {
  const at = '(b * uniforms.channels + channel) * uniforms.states';
  const border = (n: string) => `let border = ((b * (uniforms.blocks + 1u) + ${n}) * uniforms.channels + c) * uniforms.states;`;
  return `
var<workgroup> held: array<vec4<f32>, ${2 * quads * HELD_FORWARD}>;
var<workgroup> steps: array<vec4<f32>, ${LANES * HELD_FORWARD}>;
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${begin(quads)}
  ${each(quads, (i) => `var h${i} = vec4<f32>();`)}
  if (uniforms.hasState != 0u) { let start = ${at}; ${readState('state', 'h', quads, 'start')} }
  for (var first = 0u; first < uniforms.time; first += uniforms.held) {
    let last = min(uniforms.time, first + uniforms.held);${read ? holdUnpacked(quads) : hold(quads)}
    for (var t = first; t < last; t++) {
      let matrix = (t - first) * ${2 * quads}u;
      let row = (b * uniforms.time + t) * uniforms.channels;
      ${read ? '' : `if (alive && t % uniforms.block == 0u) { ${border('t / uniforms.block')} ${writeState('borders', 'h', quads, 'border')} }`}
      let record = steps[(t - first) * ${LANES}u + lane];
      let driven = record.x * record.y;
      ${each(quads, (i) => `h${i} = exp(record.y * a${i}) * h${i} + driven * held[matrix + ${i}u];`)}
      ${
        read
          ? `var sum = vec4<f32>();
      ${each(quads, (i) => `sum += h${i} * held[matrix + ${quads + i}u];`)}
      if (alive) { output[row + c] = ${total('sum')} + lanes[parameters + ${4 * quads}u] * record.x; }`
          : ''
      }
    }
  }
  ${read ? `if (alive) { let start = ${at}; ${writeState('lastState', 'h', quads, 'start')} }` : ''}
  ${
    read
      ? ''
      : `if (alive) {
    let start = ${at};
    ${border('uniforms.blocks')}
    for (var n = 0u; n < uniforms.states; n++) { borders[border + n] = dLastState[start + n]; }
  }`
  }
}
`;
}

/**
 * Gradient: per block of tokens, from the last to the first, forward from its border, keeping the decayed states, then backward. Sums over
 * channels are made in workgroup memory, one partial sum per workgroup.
 */
export function backwardSource(quads: number): string {
  const sumOver = (name: string, offset: number) => `
        workgroupBarrier();
        ${each(quads, (i) => `shared_[lane * ${quads}u + ${i}u] = ${name}${i};`)}
        workgroupBarrier();
        for (var i = lane; i < ${quads}u; i += ${LANES}u) {
          var sum = vec4<f32>();
          for (var j = 0u; j < ${LANES}u; j++) { sum += shared_[j * ${quads}u + i]; }
          dMatrices[((group.x * uniforms.batch + b) * uniforms.time + t) * ${2 * quads}u + ${offset}u + i] = sum;
        }`;
  return `
var<workgroup> held: array<vec4<f32>, ${2 * quads * HELD_BACKWARD}>;
var<workgroup> steps: array<vec4<f32>, ${LANES * HELD_BACKWARD}>;
var<workgroup> shared_: array<vec4<f32>, ${LANES * quads}>;
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${begin(quads)}
  let direct = lanes[parameters + ${4 * quads}u];
  let store = (b * uniforms.tiles + group.x) * uniforms.block * ${quads * LANES}u + lane;
  ${each(quads, (i) => `var g${i} = vec4<f32>();\n  var dA${i} = vec4<f32>();`)}
  var dDirect = 0.0;
  { let start = ((b * (uniforms.blocks + 1u) + uniforms.blocks) * uniforms.channels + channel) * uniforms.states;
    ${readState('borders', 'g', quads, 'start')} }
  for (var n = uniforms.blocks; n > 0u; ) {
    n--;
    let start = n * uniforms.block;
    let end = min(uniforms.time, start + uniforms.block);
    {
      ${each(quads, (i) => `var h${i} = vec4<f32>();`)}
      let border = ((b * (uniforms.blocks + 1u) + n) * uniforms.channels + channel) * uniforms.states;
      ${readState('borders', 'h', quads, 'border')}
      for (var first = start; first < end; first += uniforms.held) {
        let last = min(end, first + uniforms.held);${hold(quads)}
        for (var t = first; t < last; t++) {
          let matrix = (t - first) * ${2 * quads}u;
          let record = steps[(t - first) * ${LANES}u + lane];
          let kept = store + (t - start) * ${quads * LANES}u;
          ${each(quads, (i) => `h${i} *= exp(record.y * a${i}); decayed[kept + ${i * LANES}u] = h${i}; h${i} += record.x * record.y * held[matrix + ${i}u];`)}
        }
      }
    }
    for (var tail = end; tail > start; ) {
      let last = tail;
      let first = start + (tail - 1u - start) / uniforms.held * uniforms.held;${hold(quads)}
      for (var t = last; t > first; ) {
        t--;
        let matrix = (t - first) * ${2 * quads}u;
        let place = (b * uniforms.time + t) * uniforms.channels + channel;
        // beyond the last channel nothing may be added to the sums
        let record = select(vec4<f32>(), steps[(t - first) * ${LANES}u + lane], alive);
        let kept = store + (t - start) * ${quads * LANES}u;
        let driven = record.x * record.y;
        var drive = vec4<f32>();
        var step = vec4<f32>();
        ${each(
          quads,
          (i) => `g${i} += record.z * held[matrix + ${quads + i}u];
        let d${i} = decayed[kept + ${i * LANES}u];
        let dC${i} = record.z * (d${i} + driven * held[matrix + ${i}u]);
        let dB${i} = driven * g${i};
        drive += g${i} * held[matrix + ${i}u];
        let e${i} = g${i} * d${i};
        step += e${i} * a${i};
        dA${i} += e${i} * record.y;
        g${i} *= exp(record.y * a${i});`,
        )}
        dDirect += record.z * record.x;
        if (alive) {
          dTokens[place] = vec4<f32>(record.y * ${total('drive')} + record.z * direct, record.x * ${total('drive')} + ${total('step')}, 0.0, 0.0);
        }
        ${sumOver('dB', 0)}
        ${sumOver('dC', quads)}
      }
      tail = first;
    }
  }
  if (alive) {
    // gradients of the first state, A and D
    let row = (b * uniforms.channels + c) * (2u * uniforms.states + 1u);
    ${writeState('dLanes', 'g', quads, 'row')}
    ${writeState('dLanes', 'dA', quads, 'row + uniforms.states')}
    dLanes[row + 2u * uniforms.states] = dDirect;
  }
}
`;
}

/** Cuts columns out of rows, an invocation per element. */
export const columnsSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let i = group.x * 64u + lane;
  if (i >= uniforms.size) { return; }
  part[i] = values[i / uniforms.width * uniforms.stride + uniforms.offset + i % uniforms.width];
}
`;
