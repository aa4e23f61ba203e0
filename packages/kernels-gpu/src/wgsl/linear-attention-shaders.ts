import { each } from './linear-attention-quads.ts';

/** What a shader's text depends on; each combination is a pipeline. */
export interface LinearAttentionVariant {
  /** key channels over 4, rounded up: a column of the state in registers */
  readonly quads: number;
  readonly decay: 'none' | 'head' | 'channel';
  readonly delta: boolean;
}

/** Invocations of a workgroup. */
export const LANES = 32;
/** 4-vectors of workgroup memory for the keys, queries and decays of the tokens that are held at once: 13.5 KB. */
export const HELD = 864;
/** Most tokens (times query heads per state head) that are held at once: 2 KB for values or upstreams. */
const HELD_ROWS = 16;

// 4 key channels of token t of one head out of `heads`, zero beyond the last
const quadLoader = (tensor: string, heads: string) => `
fn ${tensor}Quad(b: u32, t: u32, head: u32, quad: u32) -> vec4<f32> {
  let start = ((b * uniforms.time + t) * ${heads} + head) * uniforms.keyDim;
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) { if (4u * quad + i < uniforms.keyDim) { four[i] = ${tensor}[start + 4u * quad + i]; } }
  return four;
}`;

// tokens first to last - 1 into workgroup memory
// tensors are read here alone, many loads at a time: one load per token would wait for memory at every token
function hold({ quads, decay, delta }: LinearAttentionVariant, query: boolean, perRow: 'value' | 'dOutput'): string {
  return `
    workgroupBarrier();
    if (lane < last - first) {
      let row = (b * uniforms.time + first + lane) * uniforms.heads + h;
      scalars[lane] = vec2<f32>(${delta ? 'beta[row]' : '1.0'}, ${decay === 'head' ? 'exp(max(logDecay[row], -1000.0))' : '1.0'});
    }
    ${
      perRow === 'value'
        ? `for (var i = 0u; i < last - first; i++) { perRow[i * ${LANES}u + lane] = value[((b * uniforms.time + first + i) * uniforms.heads + h) * uniforms.valueDim + column]; }`
        : `for (var i = 0u; i < (last - first) * uniforms.share; i++) {
      let token = (b * uniforms.time + first + i / uniforms.share) * uniforms.heads + h;
      perRow[i * ${LANES}u + lane] = uniforms.scale * dOutput[(token * uniforms.share + i % uniforms.share) * uniforms.valueDim + column];
    }`
    }
    for (var i = lane; i < (last - first) * ${quads}u; i += ${LANES}u) {
      keys[i] = keyQuad(b, first + i / ${quads}u, h, i % ${quads}u);
      ${decay === 'channel' ? `decays[i] = exp(max(logDecayQuad(b, first + i / ${quads}u, h, i % ${quads}u), vec4<f32>(-1000.0)));` : ''}
    }
    ${
      query
        ? `for (var i = lane; i < (last - first) * uniforms.share * ${quads}u; i += ${LANES}u) {
      let row = i / ${quads}u;
      queries[i] = queryQuad(b, first + row / uniforms.share, h * uniforms.share + row % uniforms.share, i % ${quads}u);
    }`
        : ''
    }
    workgroupBarrier();`;
}

function memory({ quads, decay }: LinearAttentionVariant, query: boolean): string {
  return `
var<workgroup> scalars: array<vec2<f32>, ${HELD_ROWS}>;
var<workgroup> perRow: array<f32, ${HELD_ROWS * LANES}>;
var<workgroup> keys: array<vec4<f32>, ${heldKeys(quads)}>;
${quadLoader('key', 'uniforms.heads')}
${decay === 'channel' ? `var<workgroup> decays: array<vec4<f32>, ${heldKeys(quads)}>;${quadLoader('logDecay', 'uniforms.heads')}` : ''}
${query ? `var<workgroup> queries: array<vec4<f32>, ${HELD - 2 * heldKeys(quads)}>;${quadLoader('query', '(uniforms.heads * uniforms.share)')}` : ''}`;
}

/** 4-vectors for the keys, and as many for their decays; the queries have the rest. */
function heldKeys(quads: number): number {
  return Math.max(quads, Math.floor(HELD / 4 / quads) * quads);
}

/** How many tokens a workgroup holds at once; 0 when not even one fits. */
export function heldTokens(quads: number, share: number): number {
  return Math.min(heldKeys(quads) / quads, Math.floor((HELD - 2 * heldKeys(quads)) / (quads * share)), Math.floor(HELD_ROWS / share));
}

const fade = ({ quads, decay }: LinearAttentionVariant): string =>
  decay === 'channel'
    ? each(quads, (i) => `s${i} *= decays[at + ${i}u];`)
    : decay === 'head'
      ? `{ let factor = scalars[t - first].y;
    ${each(quads, (i) => `s${i} *= factor;`)} }`
      : '';

const begin = (quads: number) => `
  let h = group.y;
  let b = group.z;
  let e = group.x * ${LANES}u + lane;
  let alive = e < uniforms.valueDim;
  let column = min(e, uniforms.valueDim - 1u);
  let plane = (b * uniforms.heads + h) * uniforms.keyDim;
  ${each(quads, (i) => `var s${i} = vec4<f32>();`)}`;

// a column of a [.., Dk, Dv] tensor from or to registers
const readColumn = (tensor: string, quads: number) => `
  for (var d = 0u; d < uniforms.keyDim; d++) {
    let x = ${tensor}[(plane + d) * uniforms.valueDim + column];
    switch (d / 4u) {
      ${each(quads, (i) => `case ${i}u: { s${i}[d % 4u] = x; }`)}
      default: {}
    }
  }`;
const writeColumn = (tensor: string, quads: number, start: string) => `
  if (alive) {
    ${each(quads, (i) => each(4, (j) => `if (${4 * i + j}u < uniforms.keyDim) { ${tensor}[(${start} + ${4 * i + j}u) * uniforms.valueDim + e] = s${i}.${'xyzw'[j]}; }`))}
  }`;

/**
 * Forward in time, an invocation per value channel with its column of the state in registers. With `read` it writes the output and the last
 * state; otherwise what the gradient wants: the residual `v - S k` of the delta rules, and the state before every block of tokens.
 */
export function forwardColumns(variant: LinearAttentionVariant, read: boolean): string {
  const { quads, delta, decay } = variant;
  return `
${memory(variant, read)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${begin(quads)}
  if (uniforms.hasState != 0u) {${readColumn('state', quads)}
  }
  for (var first = 0u; first < uniforms.time; first += uniforms.held) {
    let last = min(uniforms.time, first + uniforms.held);
    ${hold(variant, read, 'value')}
    for (var t = first; t < last; t++) {
      let at = (t - first) * ${quads}u;
      let row = (b * uniforms.time + t) * uniforms.heads + h;
      ${
        read || decay === 'none'
          ? ''
          : `if (t % uniforms.block == 0u) {
        let border = ((b * uniforms.heads + h) * uniforms.blocks + t / uniforms.block) * uniforms.keyDim;
        ${writeColumn('borders', quads, 'border')}
      }`
      }
      ${fade(variant)}
      var update = perRow[(t - first) * ${LANES}u + lane];
      ${
        delta
          ? `var recalled = vec4<f32>();
      ${each(quads, (i) => `recalled += s${i} * keys[at + ${i}u];`)}
      update -= recalled.x + recalled.y + recalled.z + recalled.w;
      ${read ? '' : 'if (alive) { residual[row * uniforms.valueDim + e] = update; }'}
      update *= scalars[t - first].x;`
          : ''
      }
      ${each(quads, (i) => `s${i} += keys[at + ${i}u] * update;`)}
      ${
        read
          ? `for (var r = 0u; r < uniforms.share; r++) {
        let from_ = at * uniforms.share + r * ${quads}u;
        var sum = vec4<f32>();
        ${each(quads, (i) => `sum += s${i} * queries[from_ + ${i}u];`)}
        if (alive) { output[(row * uniforms.share + r) * uniforms.valueDim + e] = uniforms.scale * (sum.x + sum.y + sum.z + sum.w); }
      }`
          : ''
      }
    }
  }
  ${read ? writeColumn('lastState', quads, 'plane') : ''}
}
`;
}

/**
 * Backward in time, an invocation per value channel with its column of the state's gradient in registers: the gradient of what every token
 * writes (`v`, or `beta (v - S k)` of the delta rules), and of the first state.
 */
export function backwardColumns(variant: LinearAttentionVariant): string {
  const { quads, delta } = variant;
  return `
${memory(variant, true)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${begin(quads)}
  ${readColumn('dLastState', quads)}
  for (var end = uniforms.time; end > 0u; ) {
    let last = end;
    let first = (end - 1u) / uniforms.held * uniforms.held;
    ${hold(variant, true, 'dOutput')}
    for (var t = last; t > first; ) {
      t--;
      let at = (t - first) * ${quads}u;
      let row = (b * uniforms.time + t) * uniforms.heads + h;
      for (var r = 0u; r < uniforms.share; r++) {
        let from_ = at * uniforms.share + r * ${quads}u;
        let upstream = perRow[((t - first) * uniforms.share + r) * ${LANES}u + lane];
        ${each(quads, (i) => `s${i} += queries[from_ + ${i}u] * upstream;`)}
      }
      var sum = vec4<f32>();
      ${each(quads, (i) => `sum += s${i} * keys[at + ${i}u];`)}
      let found = sum.x + sum.y + sum.z + sum.w;
      if (alive) { dUpdate[row * uniforms.valueDim + e] = found; }
      ${
        delta
          ? `let recalled = -scalars[t - first].x * found;
      ${each(quads, (i) => `s${i} += keys[at + ${i}u] * recalled;`)}`
          : ''
      }
      ${fade(variant)}
    }
    end = first;
  }
  ${writeColumn('dState', quads, 'plane')}
}
`;
}
