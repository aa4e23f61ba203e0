import { endingReader, factorOf } from './linear-attention-chunk-states.ts';
import { CHUNK, chunkPlace, each, quadReader, quadWriter } from './linear-attention-quads.ts';
import type { ChunkVariant } from './linear-attention-quads.ts';
import { TILE_MEMORY, TILE_PLACE, rowsTimesRows, rowsTimesTerms, scoreReader, termsTimesTerms } from './linear-attention-tiles.ts';

/** Invocations of a workgroup of the sums over pairs. */
export const PAIR_LANES = 128;

// slices of 16 of the queries of all heads that share the state, as terms: their scores, and a vector of theirs
const throughScores = (scores: string, tensor: string, tile: string) => `
  for (var start = 0u; start < (last - first) * uniforms.share; start += 16u) {
    let place = min(start + y, (last - first) * uniforms.share - 1u);
    let i = place / uniforms.share;
    let row = ((b * uniforms.time + first + i) * uniforms.heads + head) * uniforms.share + place % uniforms.share;
    let inside = start + y < (last - first) * uniforms.share;
    let score = ${scores}Quad(row, i, x, inside);
    let other = select(vec4<f32>(), ${tensor}Quad(row, ${tile} + x), inside);${termsTimesTerms('score', 'other')}
  }`;

/**
 * `dV = (K decayed to the chunk's end) dS + P^T dO`, with the gradient dS of the state at the chunk's end and the scores P; for the delta rules
 * the second term alone, as `dUpdate`.
 *
 * A workgroup of 256 per chunk, state head and 64 value channels: 128 Dk + 8192 Hq / H loads, 4096 (Dk + 64 Hq / H) multiply-adds, 8 KB of
 * workgroup memory.
 */
export function valueGradientSource(variant: ChunkVariant, delta: boolean): string {
  const { wide } = variant;
  const into = delta ? 'dUpdate' : 'dValue';
  return `${delta ? '' : `${endingReader(variant)}${quadReader('dStates', 'value', true)}`}${quadReader('dOutput', 'value', wide)}${quadWriter(into, 'value', wide || delta)}${scoreReader('scores')}${TILE_MEMORY}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('uniforms.heads')}
  let tile = group.x * 16u;${TILE_PLACE}
  ${
    delta
      ? ''
      : `let t = min(first + lane / 4u, last - 1u);
  let at = ((b * uniforms.heads + head) * uniforms.chunks + chunk) * uniforms.keyDim;
  for (var start = 0u; start < uniforms.keyQuads; start += 4u) {
    let d = 4u * start + y;
    let key_ = select(vec4<f32>(), endingQuad((b * uniforms.time + t) * uniforms.heads + head, start + lane % 4u), first + lane / 4u < last);
    let state_ = select(vec4<f32>(), dStatesQuad(at + min(d, uniforms.keyDim - 1u), tile + x), d < uniforms.keyDim);${rowsTimesTerms('key_', 'state_')}
  }`
  }${throughScores('scores', 'dOutput', 'tile')}
  ${each(
    4,
    (i) =>
      `if (first + 4u * y + ${i}u < last) { write_${into}((b * uniforms.time + first + 4u * y + ${i}u) * uniforms.heads + head, tile + x, acc${i}); }`,
  )}
}
`;
}

// rows of the chunk, from the tensor, by the key channels of a state: dot products over the value channels
const throughState = (tensor: string, row: string, states: string) => `
  for (var start = 0u; start < uniforms.valueQuads; start += 4u) {
    let quad = start + lane % 4u;
    let d = 4u * tile + lane / 4u;
    let row_ = select(vec4<f32>(), ${tensor}Quad(${row}, quad), first + lane / 4u < last);
    let state_ = select(vec4<f32>(), ${states}Quad(at + min(d, uniforms.keyDim - 1u), quad), d < uniforms.keyDim);${rowsTimesRows('row_', 'state_')}
  }`;

// sums over the tile's channels of tensor * acc, per row
const rowSums = (tensor: string, heads: string, into: string) => `
  workgroupBarrier();
  {
    var sums = vec4<f32>();
    ${each(4, (i) => `if (first + 4u * y + ${i}u < last) { sums.${'xyzw'[i]} = dot(${tensor}Quad((b * uniforms.time + first + 4u * y + ${i}u) * ${heads} + head, tile + x), acc${i}); }`)}
    left[lane] = sums;
  }
  workgroupBarrier();
  if (lane < 16u) {
    var sums = vec4<f32>();
    for (var i = 0u; i < 16u; i++) { sums += left[16u * lane + i]; }
    for (var i = 0u; i < 4u; i++) {
      let t = first + 4u * lane + i;
      if (t < last) { ${into}[((b * uniforms.time + t) * ${heads} + head) * uniforms.tiles + group.x] = sums[i]; }
    }
  }`;

const QUERY_HEADS = '(uniforms.heads * uniforms.share)';

/**
 * `dQ = scale (dO S^T decayed from the chunk's start) + dP K`, without its second term where decays are per channel; with a decay per head also
 * `starts`, what the first term means to the decays up to the token, a sum per tile of 64 channels.
 *
 * A workgroup of 256 per chunk, query head and 64 key channels: 128 Dv + 8192 loads, 4096 (Dv + 64) multiply-adds, 8 KB of workgroup memory.
 */
export function queryGradientSource({ decay, wide }: ChunkVariant): string {
  const pairs = decay !== 'channel';
  return `${quadReader('dOutput', 'value', wide)}${quadReader('states', 'value', true)}${quadWriter('dQuery', 'key', wide)}${decay === 'head' ? quadReader('query', 'key', wide) : ''}${
    pairs ? `${quadReader('key', 'key', wide)}${scoreReader('dScores')}` : ''
  }${TILE_MEMORY}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace(QUERY_HEADS)}
  let stateHead = head / uniforms.share;
  let tile = group.x * 16u;${TILE_PLACE}
  let t = min(first + lane / 4u, last - 1u);
  let row = (b * uniforms.time + t) * ${QUERY_HEADS} + head;
  let at = ((b * uniforms.heads + stateHead) * uniforms.chunks + chunk) * uniforms.keyDim;${throughState('dOutput', 'row', 'states')}
  ${each(
    4,
    (i) =>
      `acc${i} *= uniforms.scale${factorOf(decay, 'since', `((b * uniforms.time + min(first + 4u * y + ${i}u, last - 1u)) * uniforms.heads + stateHead)`, '(tile + x)')};`,
  )}${decay === 'head' ? rowSums('query', QUERY_HEADS, 'starts') : ''}
  ${
    pairs
      ? `for (var start = 0u; start < last - first; start += 16u) {
    let score = dScoresQuad(row, lane / 4u, start / 4u + lane % 4u, first + lane / 4u < last);
    let from_ = min(first + start + y, last - 1u);
    let key_ = select(vec4<f32>(), keyQuad((b * uniforms.time + from_) * uniforms.heads + stateHead, tile + x), first + start + y < last);${rowsTimesTerms('score', 'key_')}
  }`
      : ''
  }
  ${each(
    4,
    (i) =>
      `if (first + 4u * y + ${i}u < last) { write_dQuery((b * uniforms.time + first + 4u * y + ${i}u) * ${QUERY_HEADS} + head, tile + x, acc${i}); }`,
  )}
}
`;
}

/**
 * `dK = (V dS^T decayed to the chunk's end) + dP^T Q`, without its second term where decays are per channel; with a decay per head also `ends`,
 * what the first term means to the decays after the token, a sum per tile of 64 channels.
 *
 * A workgroup of 256 per chunk, state head and 64 key channels: 128 Dv + 8192 Hq / H loads, 4096 (Dv + 64 Hq / H) multiply-adds, 8 KB of
 * workgroup memory.
 */
export function keyGradientSource({ decay, wide }: ChunkVariant): string {
  const pairs = decay !== 'channel';
  return `${quadReader('value', 'value', wide)}${quadReader('dStates', 'value', true)}${quadWriter('dKey', 'key', wide)}${decay === 'head' ? quadReader('key', 'key', wide) : ''}${
    pairs ? `${quadReader('query', 'key', wide)}${scoreReader('dScores')}` : ''
  }${TILE_MEMORY}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('uniforms.heads')}
  let tile = group.x * 16u;${TILE_PLACE}
  let t = min(first + lane / 4u, last - 1u);
  let row = (b * uniforms.time + t) * uniforms.heads + head;
  let at = ((b * uniforms.heads + head) * uniforms.chunks + chunk) * uniforms.keyDim;${throughState('value', 'row', 'dStates')}
  ${
    decay === 'none'
      ? ''
      : each(
          4,
          (i) =>
            `acc${i} = acc${i}${factorOf(decay, 'until', `((b * uniforms.time + min(first + 4u * y + ${i}u, last - 1u)) * uniforms.heads + head)`, '(tile + x)')};`,
        )
  }${decay === 'head' ? rowSums('key', 'uniforms.heads', 'ends') : ''}${pairs ? throughScores('dScores', 'query', 'tile') : ''}
  ${each(
    4,
    (i) =>
      `if (first + 4u * y + ${i}u < last) { write_dKey((b * uniforms.time + first + 4u * y + ${i}u) * uniforms.heads + head, tile + x, acc${i}); }`,
  )}
}
`;
}

/**
 * What the decay over a whole chunk means, per key channel: the state at its start, decayed, by the gradient of the state at its end.
 *
 * 2 Dv loads and Dv multiply-adds per channel and chunk, an invocation each; no workgroup memory.
 */
export function wholesSource({ decay }: ChunkVariant): string {
  const whole = decay === 'head' ? 'since[row]' : 'since[row * uniforms.keyQuads + d / 4u][d % 4u]';
  return `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * 64u + lane;
  if (place >= uniforms.columns) { return; }
  let d = place % uniforms.keyDim;
  let chunk = place / uniforms.keyDim % uniforms.chunks;
  let plane = place / uniforms.keyDim / uniforms.chunks;
  let token = plane / uniforms.heads * uniforms.time + min(uniforms.time, (chunk + 1u) * ${CHUNK}u) - 1u;
  let row = token * uniforms.heads + plane % uniforms.heads;
  var sum = vec4<f32>();
  for (var i = place * uniforms.valueQuads; i < (place + 1u) * uniforms.valueQuads; i++) { sum += states[i] * dStates[i]; }
  wholes[place] = ${whole} * (sum.x + sum.y + sum.z + sum.w);
}
`;
}

/**
 * What the pairs of tokens on both sides of a decay add up to, without a difference: a pair belongs to the smallest aligned block of 2, 4, .. 64
 * tokens that holds both, one in each half. `levels` holds, per level, what a token of a second half means to the decays from the middle up to
 * it, or a token of a first half to those after it up to the middle.
 */
const throughLevels = `
    for (var level = 0u; level < 6u; level++) {
      let middle = (t >> level) << level;
      if (((t >> level) & 1u) == 1u) {
        for (var s = t; s < middle + (1u << level); s++) { sum += levels[level * ${CHUNK}u + s]; }
      } else {
        for (var s = middle; s < t; s++) { sum += levels[level * ${CHUNK}u + s]; }
      }
    }
    for (var s = t; s < ${CHUNK}u; s++) { sum += starts_[s]; }
    for (var s = 0u; s < t; s++) { sum += ends_[s]; }`;

/**
 * Gradient of a decay per head, from `pairs`, `starts`, `ends` and `wholes`.
 *
 * A workgroup of 128 per chunk and state head, an invocation per row or column of the pairs: 4096 Hq / H loads and as many additions, at most
 * 130 more per token; 2 KB of workgroup memory.
 */
export const headDecayGradientSource = `
var<workgroup> levels: array<f32, ${6 * CHUNK}>;
var<workgroup> starts_: array<f32, ${CHUNK}>;
var<workgroup> ends_: array<f32, ${CHUNK}>;
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('uniforms.heads')}
  let t = lane % ${CHUNK}u;
  let count = last - first;
  let token = (b * uniforms.time + first) * uniforms.heads + head;
  let rowLane = lane < ${CHUNK}u;
  for (var level = 0u; level < 6u; level++) {
    // a row of a second half, or a column of a first one
    if ((((t >> level) & 1u) == 1u) == rowLane) {
      let middle = select(((t >> level) + 1u) << level, (t >> level) << level, rowLane);
      let start = select(middle, middle - (1u << level), rowLane);
      var sum = 0.0;
      if (t < count) {
        for (var s = start; s < min(start + (1u << level), count); s++) {
          for (var r = 0u; r < uniforms.share; r++) {
            let row = (token + select(s, t, rowLane) * uniforms.heads) * uniforms.share + r;
            sum += pairs[row * ${CHUNK}u + select(t, s, rowLane)];
          }
        }
      }
      levels[level * ${CHUNK}u + t] = sum;
    }
  }
  var own = 0.0;
  if (t < count) {
    let row = token + t * uniforms.heads;
    if (rowLane) { for (var i = row * uniforms.share * uniforms.tiles; i < (row + 1u) * uniforms.share * uniforms.tiles; i++) { own += starts[i]; } }
    else { for (var i = row * uniforms.tiles; i < (row + 1u) * uniforms.tiles; i++) { own += ends[i]; } }
  }
  if (rowLane) { starts_[t] = own; } else { ends_[t] = own; }
  workgroupBarrier();
  if (lane < count) {
    var sum = 0.0;
    let at = ((b * uniforms.heads + head) * uniforms.chunks + chunk) * uniforms.keyDim;
    for (var d = 0u; d < uniforms.keyDim; d++) { sum += wholes[at + d]; }${throughLevels}
    dLogDecay[token + t * uniforms.heads] = sum;
  }
}
`;

/**
 * Where decays are per channel: adds the pairs' part to the gradients of query and key, and makes the decays' gradient of it all. Each pair's
 * decay is a running product of factors of at most 1.
 *
 * A workgroup of 128 per chunk, state head and 4 key channels, an invocation per row or column of the pairs: 4096 Hq / H loads of score
 * gradients and 8 vectors per token, 8192 Hq / H multiply-adds and as many products; 11 KB of workgroup memory.
 */
export function channelPairsSource({ wide }: ChunkVariant): string {
  return `${quadReader('query', 'key', wide)}${quadReader('key', 'key', wide)}${quadReader('logDecay', 'key', wide)}
${quadReader('dQuery', 'key', wide)}${quadReader('dKey', 'key', wide)}${quadWriter('dQuery', 'key', wide)}${quadWriter('dKey', 'key', wide)}${quadWriter('dLogDecay', 'key', wide)}
var<workgroup> levels: array<vec4<f32>, ${6 * CHUNK}>;
var<workgroup> starts_: array<vec4<f32>, ${CHUNK}>;
var<workgroup> ends_: array<vec4<f32>, ${CHUNK}>;
var<workgroup> queries: array<vec4<f32>, ${CHUNK}>;
var<workgroup> keys: array<vec4<f32>, ${CHUNK}>;
var<workgroup> factors: array<vec4<f32>, ${CHUNK}>;
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('uniforms.heads')}
  let quad = group.x;
  let t = lane % ${CHUNK}u;
  let count = last - first;
  let token = (b * uniforms.time + first) * uniforms.heads + head;
  let rowLane = lane < ${CHUNK}u;
  let inside = t < count;
  let own = token + min(t, count - 1u) * uniforms.heads;
  var state = vec4<f32>();
  if (rowLane) {
    factors[t] = select(vec4<f32>(), exp(max(logDecayQuad(own, quad), vec4<f32>(-1000.0))), inside);
    starts_[t] = vec4<f32>();
  } else {
    keys[t] = select(vec4<f32>(), keyQuad(own, quad), inside);
    state = select(vec4<f32>(), dKeyQuad(own, quad), inside);
  }
  // no other invocation touches these before all pairs are done
  for (var level = 0u; level < 6u; level++) { if ((((t >> level) & 1u) == 1u) == rowLane) { levels[level * ${CHUNK}u + t] = vec4<f32>(); } }
  var total = state;
  for (var r = 0u; r < uniforms.share; r++) {
    workgroupBarrier();
    if (rowLane) { queries[t] = select(vec4<f32>(), queryQuad(own * uniforms.share + r, quad), inside); }
    workgroupBarrier();
    if (inside) {
      let diagonal = dScores[(own * uniforms.share + r) * ${CHUNK}u + t];
      if (rowLane) {
        state = dQueryQuad(own * uniforms.share + r, quad);
        total = state + diagonal * keys[t];
      } else { total += diagonal * queries[t]; }
      var factor = vec4<f32>(1.0);
      for (var level = 0u; level < 6u; level++) {
        if ((((t >> level) & 1u) == 1u) == rowLane) {
          var part = vec4<f32>();
          if (rowLane) {
            let middle = (t >> level) << level;
            for (var j = middle; j > middle - (1u << level); ) {
              factor *= factors[j];
              j--;
              part += dScores[(own * uniforms.share + r) * ${CHUNK}u + j] * factor * keys[j];
            }
            levels[level * ${CHUNK}u + t] += part * queries[t];
          } else {
            let middle = ((t >> level) + 1u) << level;
            for (var i = middle; i < min(middle + (1u << level), count); i++) {
              factor *= factors[i];
              part += dScores[((token + i * uniforms.heads) * uniforms.share + r) * ${CHUNK}u + t] * factor * queries[i];
            }
            levels[level * ${CHUNK}u + t] += part * keys[t];
          }
          total += part;
        }
      }
      if (rowLane) {
        write_dQuery(own * uniforms.share + r, quad, total);
        starts_[t] += state * queries[t];
      }
    }
  }
  if (!rowLane) {
    if (inside) { write_dKey(own, quad, total); }
    ends_[t] = state * keys[t];
  }
  workgroupBarrier();
  if (lane < count) {
    var sum = vec4<f32>();
    let at = ((b * uniforms.heads + head) * uniforms.chunks + chunk) * uniforms.keyDim + 4u * quad;
    for (var d = 0u; d < 4u; d++) { if (4u * quad + d < uniforms.keyDim) { sum[d] = wholes[at + d]; } }${throughLevels}
    write_dLogDecay(own, quad, sum);
  }
}
`;
}
