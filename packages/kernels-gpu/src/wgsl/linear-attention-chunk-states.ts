import { CHUNK, chunkPlace, decayReader, each, quadReader, quadWriter } from './linear-attention-quads.ts';
import type { ChunkVariant } from './linear-attention-quads.ts';
import { TILE_LANES, TILE_MEMORY, TILE_PLACE, rowsTimesTerms, scoreReader, termsTimesTerms } from './linear-attention-tiles.ts';

/** Invocations of a workgroup of the flat shaders. */
export const FLAT_LANES = 64;
/** 4-vectors of a state in workgroup memory. */
export const HELD_STATE = 512;

/**
 * What decays leave of things inside every chunk, an invocation per token column: `since` = exp(g_1 + .. + g_t) and what remains of a token at
 * the chunk's end, `until` = exp(g_(t+1) + .. + g_C), or already times the keys, `ending`.
 *
 * 2 loads (3 per channel), 2 exponentials and 2 stores per token and column; no workgroup memory.
 */
export function decaysSource(variant: ChunkVariant): string {
  const perChannel = variant.decay === 'channel';
  const apart = !perChannel || variant.apart;
  const zero = perChannel ? 'vec4<f32>()' : '0.0';
  const decay = perChannel ? 'logDecayQuad(row, column)' : 'logDecayOf(row)';
  return `${decayReader(variant)}${apart ? '' : quadReader('key', 'key', variant.wide)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * ${FLAT_LANES}u + lane;
  if (place >= uniforms.columns) { return; }
  let width = ${perChannel ? 'uniforms.keyQuads' : '1u'};
  let column = place % width;
  let head = place / width % uniforms.heads;
  let chunk = place / (width * uniforms.heads) % uniforms.chunks;
  let b = place / (width * uniforms.heads * uniforms.chunks);
  let first = chunk * ${CHUNK}u;
  let last = min(uniforms.time, first + ${CHUNK}u);
  var sum = ${zero};
  for (var t = first; t < last; t++) {
    let row = (b * uniforms.time + t) * uniforms.heads + head;
    sum += ${decay};
    since[row * width + column] = exp(sum);
  }
  sum = ${zero};
  for (var t = last; t > first; ) {
    t--;
    let row = (b * uniforms.time + t) * uniforms.heads + head;
    ${apart ? 'until[row * width + column] = exp(sum);' : 'ending[row * width + column] = keyQuad(row, column) * exp(sum);'}
    sum += ${decay};
  }
}
`;
}

/** `endingQuad(row, quad)`: keys as the end of their chunk sees them. */
export function endingReader({ decay, wide, apart }: ChunkVariant): string {
  if (decay === 'channel' && !apart) return quadReader('ending', 'key', true);
  return `${quadReader('key', 'key', wide)}
fn endingQuad(row: u32, quad: u32) -> vec4<f32> { return keyQuad(row, quad)${factorOf(decay, 'until', 'row', 'quad')}; }`;
}

/** ` * since[..]` or ` * until[..]` of a token's row and a vector of channels. */
export function factorOf(decay: ChunkVariant['decay'], tensor: 'since' | 'until', row: string, quad: string): string {
  return {
    none: '',
    head: ` * ${tensor}[${row}]`,
    channel: ` * ${tensor}[${row} * uniforms.keyQuads + min(${quad}, uniforms.keyQuads - 1u)]`,
  }[decay];
}

/**
 * What every chunk adds to the state, K^T V over its tokens, for rules without recall; or, in the gradient, what it adds to the state's
 * gradient: the queries, decayed from the chunk's start, by the gradients of the outputs.
 *
 * A workgroup of 256 per chunk, head and tile of 64 x 64, an invocation per 4 x 4 numbers: 8192 loads and 262144 multiply-adds per 64 tokens,
 * 8 KB of workgroup memory.
 */
export function contributionsSource(variant: ChunkVariant, of: 'keys' | 'queries'): string {
  const { decay, wide } = variant;
  const readers =
    of === 'keys'
      ? `${endingReader(variant)}${quadReader('value', 'value', wide)}`
      : `${quadReader('query', 'key', wide)}${quadReader('dOutput', 'value', wide)}`;
  return `${readers}${TILE_MEMORY}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('uniforms.heads')}
  let tiles = (uniforms.keyQuads + 15u) / 16u;
  let keyTile = group.x % tiles * 16u;
  let valueTile = group.x / tiles * 16u;${TILE_PLACE}
  // tokens, or queries of all heads that share the state
  let rows = (last - first)${of === 'keys' ? '' : ' * uniforms.share'};
  for (var start = 0u; start < rows; start += 16u) {
    let inside = start + y < rows;
    let place = min(start + y, rows - 1u);
    ${
      of === 'keys'
        ? `let row = (b * uniforms.time + first + place) * uniforms.heads + head;
    let one = select(vec4<f32>(), endingQuad(row, keyTile + x), inside);
    let other = select(vec4<f32>(), valueQuad(row, valueTile + x), inside);`
        : `let row = (b * uniforms.time + first + place / uniforms.share) * uniforms.heads + head;
    let queryRow = row * uniforms.share + place % uniforms.share;
    let one = select(vec4<f32>(), uniforms.scale * queryQuad(queryRow, keyTile + x)${factorOf(decay, 'since', 'row', '(keyTile + x)')}, inside);
    let other = select(vec4<f32>(), dOutputQuad(queryRow, valueTile + x), inside);`
    }${termsTimesTerms('one', 'other')}
  }
  if (valueTile + x < uniforms.valueQuads) {
    let d = 4u * (keyTile + y);
    let at = ((b * uniforms.heads + head) * uniforms.chunks + chunk) * uniforms.keyDim;
    ${each(4, (i) => `if (d + ${i}u < uniforms.keyDim) { states[(at + d + ${i}u) * uniforms.valueQuads + valueTile + x] = acc${i}; }`)}
  }
}
`;
}

/**
 * Turns what the chunks add into the states at their starts, in place, and into the last state: the only walk from chunk to chunk, an
 * invocation per 4 numbers of the state. Backward in time it does the same for the gradients of the states at the chunks' ends.
 *
 * 1 load, 1 store and 1 multiply-add per number and chunk; no workgroup memory.
 */
export function carrySource(variant: ChunkVariant): string {
  const { decay, wide } = variant;
  const whole = {
    none: '',
    head: 'since[row]',
    channel: 'since[row * uniforms.keyQuads + d / 4u][d % 4u]',
  }[decay];
  return `${quadReader('state', 'value', wide)}${quadWriter('lastState', 'value', wide)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * ${FLAT_LANES}u + lane;
  if (place >= uniforms.columns) { return; }
  let quad = place % uniforms.valueQuads;
  let d = place / uniforms.valueQuads % uniforms.keyDim;
  let head = place / (uniforms.valueQuads * uniforms.keyDim);
  var sum = vec4<f32>();
  if (uniforms.hasState != 0u) { sum = stateQuad(head * uniforms.keyDim + d, quad); }
  for (var step = 0u; step < uniforms.chunks; step++) {
    let chunk = select(step, uniforms.chunks - 1u - step, uniforms.backward != 0u);
    let at = ((head * uniforms.chunks + chunk) * uniforms.keyDim + d) * uniforms.valueQuads + quad;
    let added = states[at];
    states[at] = sum;
    ${
      whole &&
      `let token = head / uniforms.heads * uniforms.time + min(uniforms.time, (chunk + 1u) * ${CHUNK}u) - 1u;
    let row = token * uniforms.heads + head % uniforms.heads;
    sum *= ${whole};`
    }
    sum += added;
  }
  write_lastState(head * uniforms.keyDim + d, quad, sum);
}
`;
}

/**
 * `sum += row . held`: a row of key channels, its vectors named by `load`, by the part of a state that the workgroup holds. Four loads are under
 * way at a time: in a walk there is little else to wait for them with.
 */
export function timesHeld(load: (k: string) => string): string {
  const add = (vector: string, k: string) =>
    `{ let from_ = 4u * (${k}) * width + quad; sum += ${vector}.x * held[from_] + ${vector}.y * held[from_ + width] + ${vector}.z * held[from_ + 2u * width] + ${vector}.w * held[from_ + 3u * width]; }`;
  return `
        var k = 0u;
        for (; k + 4u <= uniforms.keyQuads; k += 4u) {
          ${each(4, (i) => `let four${i} = ${load(`k + ${i}u`)};`, '\n          ')}
          ${each(4, (i) => add(`four${i}`, `k + ${i}u`), '\n          ')}
        }
        for (; k < uniforms.keyQuads; k++) {
          let four = ${load('k')};
          ${add('four', 'k')}
        }`;
}

/** Adds to `one` and `two`, 2 rows of the state, key channels of every token, named by `load`, times what it writes; 4 tokens at a time. */
export function addWrites(load: (token: string) => string): string {
  return `
      for (var i = 0u; i < last - first; i += 4u) {
        // behind the last token nothing is written
        ${each(4, (j) => `let four${j} = ${load(`min(i + ${j}u, last - first - 1u)`)};`, '\n        ')}
        ${each(4, (j) => `{ let write = writes[(i + ${j}u) * width + x % width]; let pair = select(four${j}.xy, four${j}.zw, upper); one += pair.x * write; two += pair.y * write; }`, '\n        ')}
      }`;
}

/** How a walk over the chunks begins: a workgroup's tile of the state, from the tensor `state` where `given` holds, zeros elsewhere. */
export const walkBegins = (given: string): string => `
var<workgroup> held: array<vec4<f32>, ${HELD_STATE}>;
var<workgroup> writes: array<vec4<f32>, ${TILE_LANES}>;
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let width = uniforms.tileQuads;
  let tile = group.x * width;
  let head = group.y;
  let b = group.z;
  let plane = b * uniforms.heads + head;
  for (var x = lane; x < 4u * uniforms.keyQuads * width; x += ${TILE_LANES}u) {
    let d = x / width;
    held[x] = vec4<f32>();
    if (${given} && d < uniforms.keyDim) { held[x] = stateQuad(plane * uniforms.keyDim + d, tile + x % width); }
  }`;

/** How it ends: the tile goes to `lastState`. */
export const WALK_ENDS = `  workgroupBarrier();
  for (var x = lane; x < uniforms.keyDim * width; x += ${TILE_LANES}u) { write_lastState(plane * uniforms.keyDim + x / width, tile + x % width, held[x]); }
}
`;

/** Two rows of the state, `one` and `two`, as they are at the end of a chunk. */
export function fadePair(decay: ChunkVariant['decay']): string {
  if (decay === 'none') return '';
  if (decay === 'head') return 'one *= since[rowOfLast]; two *= since[rowOfLast];';
  return 'let whole = since[rowOfLast * uniforms.keyQuads + quad]; one *= select(whole.x, whole.z, upper); two *= select(whole.y, whole.w, upper);';
}

/**
 * The delta rules' walk from chunk to chunk: `U - W S` in the place of U, the states at the chunks' starts, the last state.
 *
 * A workgroup of 256 per state head and 4 (beyond 128 key channels 2) vectors of value channels, with its part of the state in workgroup memory:
 * 12 KB. Per chunk 64 (2 Dk + 16) loads and 2048 Dk multiply-adds; B H Dv / 16 workgroups, T / 64 steps.
 */
export function scanSource(variant: ChunkVariant): string {
  const { decay, wide } = variant;
  return `${endingReader(variant)}${quadReader('state', 'value', wide)}${quadWriter('lastState', 'value', wide)}
${walkBegins('uniforms.hasState != 0u')}
  for (var chunk = 0u; chunk < uniforms.chunks; chunk++) {
    let first = chunk * ${CHUNK}u;
    let last = min(uniforms.time, first + ${CHUNK}u);
    let at = (plane * uniforms.chunks + chunk) * uniforms.keyDim;
    workgroupBarrier();
    for (var x = lane; x < uniforms.keyDim * width; x += ${TILE_LANES}u) {
      if (tile + x % width < uniforms.valueQuads) { states[(at + x / width) * uniforms.valueQuads + tile + x % width] = held[x]; }
    }
    for (var x = lane; x < ${CHUNK}u * width; x += ${TILE_LANES}u) {
      let quad = x % width;
      var write = vec4<f32>();
      if (tile + quad < uniforms.valueQuads) {
        let row = ((plane * uniforms.chunks + chunk) * ${CHUNK}u + x / width) * (uniforms.keyQuads + uniforms.valueQuads);
        var sum = vec4<f32>();${timesHeld((k) => `solved[row + ${k}]`)}
        let missing = solved[row + uniforms.keyQuads + tile + quad] - sum;
        solved[row + uniforms.keyQuads + tile + quad] = missing;
        write = beta[(b * uniforms.time + min(first + x / width, last - 1u)) * uniforms.heads + head] * missing;
      }
      writes[x] = write;
    }
    workgroupBarrier();
    ${decay === 'none' ? '' : 'let rowOfLast = (b * uniforms.time + last - 1u) * uniforms.heads + head;'}
    // 2 key channels by 4 value channels at a time
    for (var x = lane; x < 2u * uniforms.keyQuads * width; x += ${TILE_LANES}u) {
      let quad = x / width / 2u;
      let upper = x / width % 2u == 1u;
      let from_ = x / width * 2u * width + x % width;
      var one = held[from_];
      var two = held[from_ + width];
      ${fadePair(decay)}${addWrites((token) => `endingQuad((b * uniforms.time + first + ${token}) * uniforms.heads + head, quad)`)}
      held[from_] = one;
      held[from_ + width] = two;
    }
  }
${WALK_ENDS}`;
}

/**
 * `scale (Q decayed from the chunk's start) S + P U` of every chunk, with the scores P; U are the values, or what the delta rules write.
 *
 * A workgroup of 256 per chunk, query head and 64 value channels, an invocation per 4 x 4 outputs: 128 Dk + 8192 loads, 4096 (Dk + 64)
 * multiply-adds, 8 KB of workgroup memory.
 */
export function outputsSource(variant: ChunkVariant, delta: boolean): string {
  const { decay, wide } = variant;
  return `${quadReader('query', 'key', wide)}${quadWriter('output', 'value', wide)}${quadReader('states', 'value', true)}${delta ? '' : quadReader('value', 'value', wide)}${scoreReader('scores')}${TILE_MEMORY}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('(uniforms.heads * uniforms.share)')}
  let stateHead = head / uniforms.share;
  let tile = group.x * 16u;${TILE_PLACE}
  // what this invocation fetches: a vector of a token, and a vector of a row on the right
  let t = min(first + lane / 4u, last - 1u);
  let inside = first + lane / 4u < last;
  let row = (b * uniforms.time + t) * (uniforms.heads * uniforms.share) + head;
  let stateRow = (b * uniforms.time + t) * uniforms.heads + stateHead;
  let at = ((b * uniforms.heads + stateHead) * uniforms.chunks + chunk) * uniforms.keyDim;
  for (var start = 0u; start < uniforms.keyQuads; start += 4u) {
    let quad = start + lane % 4u;
    let d = 4u * start + y;
    let query_ = select(vec4<f32>(), uniforms.scale * queryQuad(row, quad)${factorOf(decay, 'since', 'stateRow', 'quad')}, inside);
    let state_ = select(vec4<f32>(), statesQuad(at + min(d, uniforms.keyDim - 1u), tile + x), d < uniforms.keyDim);${rowsTimesTerms('query_', 'state_')}
  }
  for (var start = 0u; start < last - first; start += 16u) {
    let score = scoresQuad(row, lane / 4u, start / 4u + lane % 4u, inside);
    ${
      delta
        ? `let from_ = (at / uniforms.keyDim * ${CHUNK}u + start + y) * (uniforms.keyQuads + uniforms.valueQuads) + uniforms.keyQuads;
    let token = b * uniforms.time + min(first + start + y, last - 1u);
    let update = beta[token * uniforms.heads + stateHead] * solved[from_ + min(tile + x, uniforms.valueQuads - 1u)];`
        : `let from_ = min(first + start + y, last - 1u);
    let update = select(vec4<f32>(), valueQuad((b * uniforms.time + from_) * uniforms.heads + stateHead, tile + x), first + start + y < last);`
    }${rowsTimesTerms('score', 'update')}
  }
  ${each(
    4,
    (i) => `if (first + 4u * y + ${i}u < last) {
    write_output((b * uniforms.time + first + 4u * y + ${i}u) * (uniforms.heads * uniforms.share) + head, tile + x, acc${i});
  }`,
  )}
}
`;
}
