import { WALK_ENDS, addWrites, factorOf, fadePair, timesHeld, walkBegins } from './linear-attention-chunk-states.ts';
import { CHUNK, chunkPlace, quadReader, quadWriter } from './linear-attention-quads.ts';
import type { ChunkVariant } from './linear-attention-quads.ts';
import { TILE_LANES } from './linear-attention-tiles.ts';

/** Blocks of 4 x 4 on and below the diagonal. */
const BLOCKS = ((CHUNK / 4) * (CHUNK / 4 + 1)) / 2;

/**
 * To a delta rule a key is one more query: it reads what the state recalls, and what it read is subtracted. `joint` are the scaled queries of
 * the heads that share a state and then its key, `jointUpstream` the gradients of what they read, zeros for the key so far; `ending` the keys
 * as the chunk's end sees them. An invocation per token, head and vector; each number is read and written once.
 */
export function joinSource({ decay, wide }: ChunkVariant): string {
  return `${quadReader('query', 'key', wide)}${quadReader('key', 'key', wide)}${quadReader('dOutput', 'value', wide)}
${quadWriter('joint', 'key', wide)}${quadWriter('jointUpstream', 'value', wide)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let width = max(uniforms.keyQuads, uniforms.valueQuads);
  let place = group.x * 64u + lane;
  let row = place / width;
  let quad = place % width;
  if (row >= uniforms.rows) { return; }
  for (var r = 0u; r < uniforms.share; r++) {
    write_joint(row * (uniforms.share + 1u) + r, quad, uniforms.scale * queryQuad(row * uniforms.share + r, quad));
    write_jointUpstream(row * (uniforms.share + 1u) + r, quad, dOutputQuad(row * uniforms.share + r, quad));
  }
  let own = keyQuad(row, quad);
  write_joint(row * (uniforms.share + 1u) + uniforms.share, quad, own);
  write_jointUpstream(row * (uniforms.share + 1u) + uniforms.share, quad, vec4<f32>());
  if (quad < uniforms.keyQuads) { ending[row * uniforms.keyQuads + quad] = own${factorOf(decay, 'until', 'row', 'quad')}; }
}
`;
}

/** The way back: the queries' gradients, and what keys have as queries added to their gradients. */
export function partSource({ wide }: ChunkVariant): string {
  return `${quadReader('joint', 'key', wide)}${quadReader('dKey', 'key', wide)}${quadWriter('dQuery', 'key', wide)}${quadWriter('dKey', 'key', wide)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * 64u + lane;
  let row = place / uniforms.keyQuads;
  let quad = place % uniforms.keyQuads;
  if (row >= uniforms.rows) { return; }
  for (var r = 0u; r < uniforms.share; r++) {
    write_dQuery(row * uniforms.share + r, quad, uniforms.scale * jointQuad(row * (uniforms.share + 1u) + r, quad));
  }
  write_dKey(row, quad, dKeyQuad(row, quad) + jointQuad(row * (uniforms.share + 1u) + uniforms.share, quad));
}
`;
}

/**
 * The walk of the delta rules' gradient, backward in time: adds to `dUpdate`, the gradients of what tokens write, what comes through the state
 * at their chunk's end, and turns `dStates` from what every chunk adds into the gradients of the states at the chunks' ends.
 *
 * Loads, arithmetic and memory are those of the walk forward.
 */
export function scanBackSource({ decay, wide }: ChunkVariant): string {
  return `${quadReader('ending', 'key', true)}${quadReader('state', 'value', wide)}${quadWriter('lastState', 'value', wide)}${walkBegins('true')}
  for (var step = uniforms.chunks; step > 0u; step--) {
    let chunk = step - 1u;
    let first = chunk * ${CHUNK}u;
    let last = min(uniforms.time, first + ${CHUNK}u);
    let at = (plane * uniforms.chunks + chunk) * uniforms.keyDim;
    let rows = (plane * uniforms.chunks + chunk) * ${CHUNK}u * (uniforms.keyQuads + uniforms.valueQuads);
    workgroupBarrier();
    for (var x = lane; x < ${CHUNK}u * width; x += ${TILE_LANES}u) {
      let t = first + x / width;
      let quad = x % width;
      var write = vec4<f32>();
      if (t < last && tile + quad < uniforms.valueQuads) {
        let row = (b * uniforms.time + t) * uniforms.heads + head;
        let place = row * uniforms.valueQuads + tile + quad;
        var sum = dUpdate[place];${timesHeld((k) => `endingQuad(row, ${k})`)}
        dUpdate[place] = sum;
        write = -beta[row] * sum;
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
      let d = x / width * 2u;
      var one = held[from_];
      var two = held[from_ + width];
      let inside = tile + x % width < uniforms.valueQuads;
      let place = (at + d) * uniforms.valueQuads + tile + x % width;
      var oneMore = vec4<f32>();
      var twoMore = vec4<f32>();
      if (inside && d < uniforms.keyDim) {
        oneMore = dStates[place];
        dStates[place] = one;
      }
      if (inside && d + 1u < uniforms.keyDim) {
        twoMore = dStates[place + uniforms.valueQuads];
        dStates[place + uniforms.valueQuads] = two;
      }
      ${fadePair(decay)}
      one += oneMore;
      two += twoMore;${addWrites((token) => `solved[rows + (${token}) * (uniforms.keyQuads + uniforms.valueQuads) + quad]`)}
      held[from_] = one;
      held[from_ + width] = two;
    }
  }
${WALK_ENDS}`;
}

/**
 * Goes up the rows of every chunk's triangle: `D_j = dU_j - sum over i > j of N_ij beta_i D_i` in the place of dU, where N are the keys' scores
 * with each other; with it the gradients of the values, `beta D`, and of what the keys read, its negative.
 *
 * A workgroup of 256 per chunk and state head, an invocation per value channel: 64 loads and 480 of its own column, 2080 multiply-adds; 9 KB of
 * workgroup memory.
 */
export const solveBackSource = `
var<workgroup> system: array<vec4<f32>, ${4 * BLOCKS}>;
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('uniforms.heads')}
  // rows of blocks, counted as in the scores; tokens behind the last are zeros
  var rowBlock = 0u;
  var keyBlock = min(lane, ${BLOCKS - 1}u);
  while (keyBlock > rowBlock) { rowBlock++; keyBlock -= rowBlock; }
  if (lane < ${BLOCKS}u) {
    for (var i = 0u; i < 4u; i++) {
      let t = first + 4u * rowBlock + i;
      var four = vec4<f32>();
      if (t < last) {
        let row = (b * uniforms.time + t) * uniforms.heads + head;
        four = beta[row] * scores[(row * uniforms.share + uniforms.share - 1u) * ${CHUNK / 4}u + keyBlock];
      }
      system[4u * lane + i] = four;
    }
  }
  workgroupBarrier();
  let width = 4u * uniforms.valueQuads;
  let token = b * uniforms.time + first;
  for (var column = lane; column < uniforms.valueDim; column += ${TILE_LANES}u) {
    for (var step = ${CHUNK / 4}u; step > 0u; step--) {
      let block = step - 1u;
      var x = vec4<f32>();
      for (var i = 0u; i < 4u; i++) {
        let t = 4u * block + i;
        if (first + t < last) { x[i] = dUpdate[((token + t) * uniforms.heads + head) * width + column]; }
      }
      for (var later = block + 1u; later < ${CHUNK / 4}u; later++) {
        let a = 2u * later * (later + 1u) + 4u * block;
        for (var i = 0u; i < 4u; i++) {
          let t = min(4u * later + i, last - first - 1u);
          x -= system[a + i] * dUpdate[((token + t) * uniforms.heads + head) * width + column];
        }
      }
      let own = 2u * block * (block + 1u) + 4u * block;
      x -= vec4<f32>(system[own + 3u].xyz, 0.0) * x.w;
      x -= vec4<f32>(system[own + 2u].xy, 0.0, 0.0) * x.z;
      x.x -= system[own + 1u].x * x.y;
      for (var i = 0u; i < 4u; i++) {
        let t = 4u * block + i;
        if (first + t < last) {
          let row = (token + t) * uniforms.heads + head;
          dUpdate[row * width + column] = x[i];
          written[row * uniforms.valueDim + column] = beta[row] * x[i];
          keyUpstream[(row * uniforms.share + uniforms.share - 1u) * uniforms.valueDim + column] = -beta[row] * x[i];
        }
      }
    }
  }
}
`;

/** Gradient of beta, and what the tokens wrote, `beta (U - W S)`: an invocation per token and head, 2 Dv loads. */
export function strengthsSource({ wide }: ChunkVariant): string {
  return `${quadWriter('update', 'value', wide)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.x * 64u + lane;
  if (row >= uniforms.rows) { return; }
  let head = row % uniforms.heads;
  let t = row / uniforms.heads % uniforms.time;
  let plane = row / uniforms.heads / uniforms.time * uniforms.heads + head;
  let from_ = ((plane * uniforms.chunks + t / ${CHUNK}u) * ${CHUNK}u + t % ${CHUNK}u) * (uniforms.keyQuads + uniforms.valueQuads) + uniforms.keyQuads;
  var sum = 0.0;
  for (var quad = 0u; quad < uniforms.valueQuads; quad++) {
    let missing = solved[from_ + quad];
    sum += dot(missing, dUpdate[row * uniforms.valueQuads + quad]);
    write_update(row, quad, beta[row] * missing);
  }
  dBeta[row] = sum;
}
`;
}
