import { each } from './linear-attention-quads.ts';
import { LANES } from './linear-attention-shaders.ts';
import type { LinearAttentionVariant } from './linear-attention-shaders.ts';

/** Workgroup memory: 4-vectors of updates and upstreams, 9 KB, and numbers per key channel, 6 KB. */
const HELD_VECTORS = 576;
const HELD_SCALARS = 48;

/** How many tokens the row pass holds at once, of so many vectors and numbers each; 0 when not even one fits. */
export function heldRows(vectors: number, quads: number, scalars: number): number {
  return Math.min(16, Math.floor(HELD_VECTORS / (vectors * quads)), Math.floor(HELD_SCALARS / scalars));
}

/** Gradients of value and beta from that of the update, an invocation per token and head. */
export const writesSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.x * 64u + lane;
  if (row >= uniforms.rows) { return; }
  var sum = 0.0;
  for (var c = row * uniforms.valueDim; c < (row + 1u) * uniforms.valueDim; c++) {
    sum += dUpdate[c] * residual[c];
    dValue[c] = dUpdate[c] * beta[row];
  }
  dBeta[row] = sum;
}
`;

/**
 * One record per token and state head, so that the row pass needs one binding for all of it: queries of the heads that share the state, key,
 * decay factor, update, gradient of the value (delta rules) and gradients of the outputs, the last three padded to whole slices.
 */
export function recordSource({ decay, delta }: LinearAttentionVariant): string {
  return `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.x;
  let keyDim = uniforms.keyDim;
  let record = row * uniforms.record;
  for (var i = lane; i < uniforms.share * keyDim; i += 64u) { records[record + i] = query[row * uniforms.share * keyDim + i]; }
  for (var i = lane; i < keyDim; i += 64u) { records[record + uniforms.share * keyDim + i] = key[row * keyDim + i]; }
  ${
    decay === 'none'
      ? ''
      : `for (var i = lane; i < keyDim; i += 64u) {
    let logarithm = logDecay[${decay === 'channel' ? 'row * keyDim + i' : 'row'}];
    records[record + (uniforms.share + 1u) * keyDim + i] = exp(max(logarithm, -1000.0));
  }`
  }
  let start = record + uniforms.rowsAt;
  for (var i = lane; i < uniforms.padded; i += 64u) {
    let inside = i < uniforms.valueDim;
    let c = row * uniforms.valueDim + min(i, uniforms.valueDim - 1u);
    records[start + i] = select(0.0, ${delta ? 'residual[c] * beta[row]' : 'residual[c]'}, inside);
    ${delta ? 'records[start + uniforms.padded + i] = select(0.0, dUpdate[c] * beta[row], inside);' : ''}
    for (var r = 0u; r < uniforms.share; r++) {
      let upstream = dOutput[(row * uniforms.share + r) * uniforms.valueDim + min(i, uniforms.valueDim - 1u)];
      records[start + (${delta ? '2u' : '1u'} + r) * uniforms.padded + i] = select(0.0, upstream, inside);
    }
  }
}
`;
}

/**
 * Gradients of query, key and decay, an invocation per key channel with its row of the state and of the state's gradient in registers, a slice
 * of the value channels per workgroup. Per block of tokens, from the last to the first: forward from the state at its border, keeping the
 * decayed states, then backward.
 */
export function gradientRows({ decay, delta }: LinearAttentionVariant, quads: number): string {
  const vectors = delta ? '(uniforms.share + 2u)' : '(uniforms.share + 1u)';
  const upstreamAt = delta ? '2u' : '1u';
  const total = (name: string) => `(${name}.x + ${name}.y + ${name}.z + ${name}.w)`;
  const faded = decay === 'none' ? '' : each(quads, (i) => `s${i} *= factor;`);
  const scalars = decay === 'none' ? '(uniforms.share + 1u)' : '(uniforms.share + 2u)';
  const scalar = (index: string) => `scalars[((t - first) * ${scalars} + ${index}) * ${LANES}u + lane]`;
  const factor = decay === 'none' ? '' : `let factor = ${scalar('uniforms.share + 1u')};`;
  return `
var<workgroup> rows: array<vec4<f32>, ${HELD_VECTORS}>;
// query, key and decay factor of this invocation's channel
var<workgroup> scalars: array<f32, ${HELD_SCALARS * LANES}>;
fn hold(b: u32, h: u32, first: u32, last: u32, slice: u32, channel: u32, lane: u32) {
  workgroupBarrier();
  for (var i = lane; i < (last - first) * ${vectors} * ${quads}u; i += ${LANES}u) {
    let vector = i / ${quads}u;
    let t = first + vector / ${vectors};
    let start = ((b * uniforms.time + t) * uniforms.heads + h) * uniforms.record + uniforms.rowsAt
      + vector % ${vectors} * uniforms.padded + slice * ${4 * quads}u + i % ${quads}u * 4u;
    rows[i] = vec4<f32>(records[start], records[start + 1u], records[start + 2u], records[start + 3u]);
  }
  for (var i = 0u; i < (last - first) * ${scalars}; i++) {
    let token = (b * uniforms.time + first + i / ${scalars}) * uniforms.heads + h;
    scalars[i * ${LANES}u + lane] = records[token * uniforms.record + i % ${scalars} * uniforms.keyDim + channel];
  }
  workgroupBarrier();
}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let keyTiles = (uniforms.keyDim + ${LANES - 1}u) / ${LANES}u;
  let slice = group.x / keyTiles;
  let d = group.x % keyTiles * ${LANES}u + lane;
  let alive = d < uniforms.keyDim;
  let channel = min(d, uniforms.keyDim - 1u);
  let h = group.y;
  let b = group.z;
  let head = b * uniforms.heads + h;
  let tokens = uniforms.batch * uniforms.time * uniforms.heads;
  let store = ((head * (uniforms.slices * keyTiles) + group.x) * uniforms.block) * ${quads * LANES}u + lane;
  ${each(quads, (i) => `var g${i} = vec4<f32>();`)}
  {
    let start = (head * uniforms.keyDim + channel) * uniforms.valueDim;
    ${each(quads, (i) => each(4, (j) => `{ let c = slice * ${4 * quads}u + ${4 * i + j}u; if (c < uniforms.valueDim) { g${i}.${'xyzw'[j]} = dLastState[start + c]; } }`))}
  }
  for (var n = uniforms.blocks; n > 0u; ) {
    n--;
    let start = n * uniforms.block;
    let end = min(uniforms.time, start + uniforms.block);
    {
      ${each(quads, (i) => `var s${i} = vec4<f32>();`)}
      if (uniforms.hasBorder != 0u) {
        let from_ = ((head * uniforms.blocks + n) * uniforms.keyDim + channel) * uniforms.valueDim;
        ${each(quads, (i) =>
          each(
            4,
            (j) =>
              `{ let c = slice * ${4 * quads}u + ${4 * i + j}u; if (c < uniforms.valueDim) { s${i}.${'xyzw'[j]} = borders[from_ + c]; } }`,
          ),
        )}
      }
      for (var first = start; first < end; first += uniforms.held) {
        let last = min(end, first + uniforms.held);
        hold(b, h, first, last, slice, channel, lane);
        for (var t = first; t < last; t++) {
          let at = (t - first) * ${vectors} * ${quads}u;
          let row = (b * uniforms.time + t) * uniforms.heads + h;
          let k = ${scalar('uniforms.share')};
          ${factor}
          ${faded}
          ${
            decay === 'none'
              ? ''
              : `let kept = store + (t - start) * ${quads * LANES}u;
          ${each(quads, (i) => `states[kept + ${i * LANES}u] = s${i};`)}`
          }
          ${
            delta
              ? `var recalled = vec4<f32>();
          ${each(quads, (i) => `recalled += s${i} * rows[at + ${quads + i}u];`)}
          if (alive) { dKey[slice * tokens * uniforms.keyDim + row * uniforms.keyDim + d] = -${total('recalled')}; }`
              : ''
          }
          ${each(quads, (i) => `s${i} += k * rows[at + ${i}u];`)}
          for (var r = 0u; r < uniforms.share; r++) {
            let from_ = at + (${upstreamAt} + r) * ${quads}u;
            var sum = vec4<f32>();
            ${each(quads, (i) => `sum += s${i} * rows[from_ + ${i}u];`)}
            if (alive) { dQuery[((slice * tokens + row) * uniforms.share + r) * uniforms.keyDim + d] = uniforms.scale * ${total('sum')}; }
          }
        }
      }
    }
    for (var tail = end; tail > start; ) {
      let last = tail;
      let first = start + (tail - 1u - start) / uniforms.held * uniforms.held;
      hold(b, h, first, last, slice, channel, lane);
      for (var t = last; t > first; ) {
        t--;
        let at = (t - first) * ${vectors} * ${quads}u;
        let row = (b * uniforms.time + t) * uniforms.heads + h;
        let k = ${scalar('uniforms.share')};
        for (var r = 0u; r < uniforms.share; r++) {
          let from_ = at + (${upstreamAt} + r) * ${quads}u;
          let q = uniforms.scale * ${scalar('r')};
          ${each(quads, (i) => `g${i} += q * rows[from_ + ${i}u];`)}
        }
        var sum = vec4<f32>();
        ${each(quads, (i) => `sum += g${i} * rows[at + ${i}u];`)}
        let place = (slice * tokens + row) * uniforms.keyDim + d;
        if (alive) { dKey[place] = ${delta ? 'dKey[place] + ' : ''}${total('sum')}; }
        ${delta ? each(quads, (i) => `g${i} -= k * rows[at + ${quads + i}u];`) : ''}
        ${
          decay === 'none'
            ? ''
            : `let kept = store + (t - start) * ${quads * LANES}u;
        var along = vec4<f32>();
        ${each(quads, (i) => `along += g${i} * states[kept + ${i * LANES}u];`)}
        if (alive) { dDecay[place] = ${total('along')}; }
        ${factor}
        ${each(quads, (i) => `g${i} *= factor;`)}`
        }
      }
      tail = first;
    }
  }
}
`;
}

/** Sums over the last axis, an invocation per row. */
export const rowSumSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.x * 64u + lane;
  if (row >= uniforms.rows) { return; }
  var sum = 0.0;
  for (var c = row * uniforms.width; c < (row + 1u) * uniforms.width; c++) { sum += values[c]; }
  total[row] = sum;
}
`;
