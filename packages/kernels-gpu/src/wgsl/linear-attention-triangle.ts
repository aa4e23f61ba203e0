import { CHUNK, chunkPlace, decayReader, each, quadReader } from './linear-attention-quads.ts';
import type { ChunkVariant } from './linear-attention-quads.ts';

/** Blocks of 4 x 4 on and below the diagonal of a chunk's matrix of scores. */
const BLOCKS = ((CHUNK / 4) * (CHUNK / 4 + 1)) / 2;

/** Invocations of a workgroup of the scores: one per block, in whole subgroups. */
export const SCORE_LANES = 160;
/** Invocations of a workgroup of the solution. */
export const SOLVE_LANES = 256;

// token t of a chunk lies at t % 4 * 16 + t / 4, so that neighbours among the blocks read neighbours in memory
const PLACES = `
fn placeOf(token: u32) -> u32 { return token % 4u * ${CHUNK / 4}u + token / 4u; }`;

// rows and keys of all tokens of the chunk, 4 channels at a time, already decayed to where they meet
const channelTile = (lanes: number, same: boolean) => `
${same ? '' : `var<workgroup> rawRows: array<vec4<f32>, ${CHUNK}>;`}
var<workgroup> rawKeys: array<vec4<f32>, ${CHUNK}>;
var<workgroup> decays: array<vec4<f32>, ${CHUNK}>;
var<workgroup> blockDecays: array<vec4<f32>, ${CHUNK / 4}>;
// halves of 4, 8, 16 and 32 tokens: rows of a second half have decayed since its middle, keys of a first half until then
var<workgroup> met: array<vec4<f32>, ${4 * CHUNK}>;
fn meet(lane: u32) {
  if (lane < ${CHUNK / 4}u) { blockDecays[lane] = decays[4u * lane] + decays[4u * lane + 1u] + decays[4u * lane + 2u] + decays[4u * lane + 3u]; }
  workgroupBarrier();
  for (var x = lane; x < ${4 * CHUNK}u; x += ${lanes}u) {
    let level = x / ${CHUNK}u;
    let token = x % ${CHUNK}u;
    let block = token / 4u;
    var sum = vec4<f32>();
    var row: vec4<f32>;
    if (((block >> level) & 1u) == 1u) {
      for (var i = (block >> level) << level; i < block; i++) { sum += blockDecays[i]; }
      for (var i = 4u * block; i <= token; i++) { sum += decays[i]; }
      row = ${same ? 'rawKeys' : 'rawRows'}[token];
    } else {
      for (var i = token + 1u; i < 4u * block + 4u; i++) { sum += decays[i]; }
      for (var i = block + 1u; i < ((block >> level) + 1u) << level; i++) { sum += blockDecays[i]; }
      row = rawKeys[token];
    }
    met[level * ${CHUNK}u + placeOf(token)] = row * exp(sum);
  }
  workgroupBarrier();
}`;

const dots = (row: string): string => `vec4<f32>(${each(4, (i) => `dot(${row}, k${i})`, ', ')})`;

// acc0 .. acc3: 4 rows of the block (rowBlock, keyBlock) by 4 keys, a decay per channel
function channelScores(same: boolean): string {
  const rows = same ? 'rawKeys' : 'rawRows';
  return `
  for (var quad = 0u; quad < uniforms.keyQuads; quad++) {
    workgroupBarrier();
    if (lane < ${CHUNK}u) {
      let t = first + lane;
      let inside = t < last;
      let token = (b * uniforms.time + min(t, last - 1u)) * uniforms.heads + stateHead;
      rawKeys[lane] = select(vec4<f32>(), keyQuad(token, quad), inside);
      decays[lane] = select(vec4<f32>(), logDecayQuad(token, quad), inside);
      ${same ? '' : `rawRows[lane] = select(vec4<f32>(), queryQuad((b * uniforms.time + min(t, last - 1u)) * (uniforms.heads * uniforms.share) + head, quad), inside);`}
    }
    workgroupBarrier();
    meet(lane);
    if (rowBlock > keyBlock && alive) {
      let level = ${CHUNK}u * firstLeadingBit(rowBlock ^ keyBlock);
      ${each(4, (i) => `let k${i} = met[level + ${(CHUNK / 4) * i}u + keyBlock];`)}
      ${each(4, (i) => `acc${i} += ${dots(`met[level + ${(CHUNK / 4) * i}u + rowBlock]`)};`)}
    } else if (alive) {
      // products of three factors of at most 1
      let at = 4u * rowBlock;
      let one = exp(decays[at + 1u]);
      let two = exp(decays[at + 2u]);
      let three = exp(decays[at + 3u]);
      let k0 = rawKeys[at];
      let k1 = rawKeys[at + 1u];
      let k2 = rawKeys[at + 2u];
      let r1 = ${rows}[at + 1u] * one;
      let r2 = ${rows}[at + 2u] * two;
      let r3 = ${rows}[at + 3u] * three;
      ${same ? '' : `acc0.x += dot(rawRows[at], k0);`}
      acc1 += vec4<f32>(dot(r1, k0), ${same ? '0.0' : 'dot(rawRows[at + 1u], k1)'}, 0.0, 0.0);
      acc2 += vec4<f32>(dot(r2, k0 * one), dot(r2, k1), ${same ? '0.0' : 'dot(rawRows[at + 2u], k2)'}, 0.0);
      acc3 += vec4<f32>(dot(r3 * two, k0 * one), dot(r3, k1 * two), dot(r3, k2), ${same ? '0.0' : 'dot(rawRows[at + 3u], rawKeys[at + 3u])'});
    }
  }`;
}

const QUADS = 4;
const plainTile = (same: boolean, head: boolean) => `
${same ? '' : `var<workgroup> rowTile: array<vec4<f32>, ${QUADS * CHUNK}>;`}
var<workgroup> keyTile: array<vec4<f32>, ${QUADS * CHUNK}>;
${head ? `var<workgroup> decays: array<f32, ${CHUNK}>;` : ''}`;

// the same without a decay, or with one per head
interface PlainScores {
  readonly lanes: number;
  readonly same: boolean;
  readonly head: boolean;
  /** tensors of rows and keys, with the vectors of their rows */
  readonly row?: string;
  readonly key?: string;
  readonly quads?: string;
  /** what happens to the products before they decay */
  readonly before?: string;
}

function plainScores({ lanes, same, head, row = 'query', key = 'key', quads = 'keyQuads', before = '' }: PlainScores): string {
  const rows = same ? 'keyTile' : 'rowTile';
  return `
  ${head ? `if (lane < ${CHUNK}u) { decays[lane] = select(0.0, logDecayOf((b * uniforms.time + min(first + lane, last - 1u)) * uniforms.heads + stateHead), first + lane < last); }` : ''}
  for (var start = 0u; start < uniforms.${quads}; start += ${QUADS}u) {
    workgroupBarrier();
    for (var x = lane; x < ${QUADS * CHUNK}u; x += ${lanes}u) {
      let t = first + x / ${QUADS}u;
      let inside = t < last;
      let token = b * uniforms.time + min(t, last - 1u);
      let quad = x % ${QUADS}u;
      let place = quad * ${CHUNK}u + placeOf(x / ${QUADS}u);
      keyTile[place] = select(vec4<f32>(), ${key}Quad(token * uniforms.heads + stateHead, start + quad), inside);
      ${same ? '' : `rowTile[place] = select(vec4<f32>(), ${row}Quad(token * (uniforms.heads * uniforms.share) + head, start + quad), inside);`}
    }
    workgroupBarrier();
    if (alive) {
      for (var at = 0u; at < ${QUADS * CHUNK}u; at += ${CHUNK}u) {
        ${each(4, (i) => `let k${i} = keyTile[at + ${(CHUNK / 4) * i}u + keyBlock];`)}
        ${each(4, (i) => `acc${i} += ${dots(`${rows}[at + ${(CHUNK / 4) * i}u + rowBlock]`)};`)}
      }
    }
  }${before}
  ${
    head
      ? `if (alive) {
    let at = 4u * rowBlock;
    let one = decays[at + 1u];
    let two = decays[at + 2u];
    let three = decays[at + 3u];
    if (rowBlock > keyBlock) {
      let from_ = 4u * keyBlock;
      var between = decays[at];
      for (var i = from_ + 4u; i < at; i++) { between += decays[i]; }
      let keys = between + vec4<f32>(decays[from_ + 1u] + decays[from_ + 2u] + decays[from_ + 3u], decays[from_ + 2u] + decays[from_ + 3u], decays[from_ + 3u], 0.0);
      acc0 *= exp(keys);
      acc1 *= exp(keys + one);
      acc2 *= exp(keys + (one + two));
      acc3 *= exp(keys + (one + two + three));
    } else {
      acc1 *= exp(vec4<f32>(one, 0.0, 0.0, 0.0));
      acc2 *= exp(vec4<f32>(one + two, two, 0.0, 0.0));
      acc3 *= exp(vec4<f32>(one + two + three, two + three, three, 0.0));
    }
  }`
      : ''
  }`;
}

const BLOCK_OF_LANE = `
  // block number lane of the lower triangle, counted row by row
  let alive = lane < ${BLOCKS}u;
  var rowBlock = 0u;
  var keyBlock = min(lane, ${BLOCKS - 1}u);
  while (keyBlock > rowBlock) { rowBlock++; keyBlock -= rowBlock; }
  ${each(4, (i) => `var acc${i} = vec4<f32>();`)}`;

const triangle = ({ decay }: ChunkVariant, lanes: number, same: boolean): { memory: string; body: string } =>
  decay === 'channel'
    ? { memory: channelTile(lanes, same), body: channelScores(same) }
    : { memory: plainTile(same, decay === 'head'), body: plainScores({ lanes, same, head: decay === 'head' }) };

/**
 * `scores_ij = scale sum_d q_id exp(g_(j+1) + .. + g_i)_d k_jd` for i >= j of every chunk, [B, T, Hq, 64]; numbers above the diagonal hold garbage
 * outside of its own blocks of 4 x 4.
 *
 * A workgroup of 160 per chunk and query head, an invocation per block of 4 x 4 on or below the diagonal. 128 Dk loads (192 Dk with a decay per
 * channel) and 2176 Dk multiply-adds; 8 KB of workgroup memory. With a decay per channel pairs meet in the middle of the smallest aligned
 * block of 8, 16, 32 or 64 tokens that holds both, so that no exponent is positive and each is a sum of its own terms: 4 exponentials per
 * token and channel.
 */
export function scoresSource(variant: ChunkVariant): string {
  const { memory, body } = triangle(variant, SCORE_LANES, false);
  return `${quadReader('query', 'key', variant.wide)}${quadReader('key', 'key', variant.wide)}${decayReader(variant)}${PLACES}${memory}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('(uniforms.heads * uniforms.share)')}
  let stateHead = head / uniforms.share;${BLOCK_OF_LANE}${body}
  if (alive) {
    ${each(
      4,
      (i) => `{
      let t = first + 4u * rowBlock + ${i}u;
      if (t < last) { scores[((b * uniforms.time + t) * (uniforms.heads * uniforms.share) + head) * ${CHUNK / 4}u + keyBlock] = uniforms.scale * acc${i}; }
    }`,
    )}
  }
}
`;
}

/**
 * Gradients of the scores, `scale dO_i . V_j`, and with a decay per head times it: what keys and queries want. With a decay per head also
 * `pairs`, the same without scale and decay times the scores: what a pair means to every decay between its tokens.
 *
 * A workgroup per chunk and query head, as for the scores, with Dv in the place of Dk. With `strict` the last head that shares a state does not
 * see its own token.
 */
export function scoreGradientsSource({ decay, wide }: ChunkVariant): string {
  const head = decay === 'head';
  const place = (i: number) =>
    `((b * uniforms.time + first + 4u * rowBlock + ${i}u) * (uniforms.heads * uniforms.share) + head) * ${CHUNK / 4}u + keyBlock`;
  const alive = (i: number) => `alive && first + 4u * rowBlock + ${i}u < last`;
  const before = head ? `\n  ${each(4, (i) => `if (${alive(i)}) { pairs[${place(i)}] = acc${i} * scores[${place(i)}]; }`)}` : '';
  const body = plainScores({ lanes: SCORE_LANES, same: false, head, row: 'dOutput', key: 'value', quads: 'valueQuads', before });
  return `${quadReader('dOutput', 'value', wide)}${quadReader('value', 'value', wide)}${head ? decayReader({ decay, wide }) : ''}${PLACES}${plainTile(false, head)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('(uniforms.heads * uniforms.share)')}
  let stateHead = head / uniforms.share;${BLOCK_OF_LANE}${body}
  if (uniforms.strict != 0u && head % uniforms.share == uniforms.share - 1u && rowBlock == keyBlock) {
    ${each(4, (i) => `acc${i}.${'xyzw'[i]} = 0.0;`, ' ')}
  }
  ${each(4, (i) => `if (${alive(i)}) { dScores[${place(i)}] = uniforms.scale * acc${i}; }`)}
}
`;
}

/**
 * What the delta rules find missing, before the state is known: `W = (I + A)^-1 K'` and `U = (I + A)^-1 V` of every chunk, with
 * `A_ij = k_i exp(g_(j+1) + .. + g_i) k_j beta_j` below the diagonal and K' the keys, decayed from the chunk's start: token i finds `U - W S`
 * missing and writes beta_i times it. Side by side as `solved` [B, H, chunks, 64, Dk' + Dv'], in whole vectors.
 *
 * A workgroup of 256 per chunk and state head: the matrix as in the scores, then an invocation per column of K' and V goes down the rows,
 * 4 at a time. 64 (2 Dk + Dv) loads and 480 of its own column, 2176 Dk + 2080 (Dk + Dv) multiply-adds, 15 KB of workgroup memory.
 */
export function solveSource(variant: ChunkVariant): string {
  const { decay, wide } = variant;
  const { memory, body } = triangle(variant, SOLVE_LANES, true);
  const one = (tensor: string, width: string) =>
    wide ? `${tensor}[row * uniforms.${width}Quads + c / 4u][c % 4u]` : `${tensor}[row * uniforms.${width}Dim + c]`;
  const since = { none: '', head: ' * since[row]', channel: ' * since[row * 4u * uniforms.keyQuads + c]' }[decay];
  return `${quadReader('key', 'key', wide)}${decayReader(variant)}${PLACES}${memory}
// blocks of 4 x 4 of A, column by column
var<workgroup> system: array<vec4<f32>, ${4 * BLOCKS}>;
// a number of K' and V
fn rightSide(row: u32, column: u32) -> f32 {
  let keys = 4u * uniforms.keyQuads;
  if (column < uniforms.keyDim) { let c = column; return ${one('key', 'key')}${since}; }
  if (column >= keys && column - keys < uniforms.valueDim) { let c = column - keys; return ${one('value', 'value')}; }
  return 0.0;
}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${chunkPlace('uniforms.heads')}
  let stateHead = head;${BLOCK_OF_LANE}${body}
  if (alive) {
    for (var i = 0u; i < 4u; i++) {
      // behind the last token nothing is read
      let t = min(first + 4u * keyBlock + i, last - 1u);
      let strength = beta[(b * uniforms.time + t) * uniforms.heads + head];
      system[4u * lane + i] = strength * vec4<f32>(${each(4, (j) => `acc${j}[i]`, ', ')});
    }
  }
  workgroupBarrier();
  let width = 4u * (uniforms.keyQuads + uniforms.valueQuads);
  let at = ((b * uniforms.heads + head) * uniforms.chunks + chunk) * ${CHUNK}u * width;
  for (var column = lane; column < width; column += ${SOLVE_LANES}u) {
    for (var block = 0u; block < ${CHUNK / 4}u; block++) {
      var x = vec4<f32>();
      for (var i = 0u; i < 4u; i++) {
        let t = first + 4u * block + i;
        if (t < last) { x[i] = rightSide((b * uniforms.time + t) * uniforms.heads + head, column); }
      }
      // what this invocation wrote further up
      for (var before = 0u; before < block; before++) {
        let a = 2u * block * (block + 1u) + 4u * before;
        let above = at + 4u * before * width + column;
        x -= system[a] * solved[above] + system[a + 1u] * solved[above + width]
          + system[a + 2u] * solved[above + 2u * width] + system[a + 3u] * solved[above + 3u * width];
      }
      let own = 2u * block * (block + 1u) + 4u * block;
      x -= vec4<f32>(0.0, system[own].yzw) * x.x;
      x -= vec4<f32>(0.0, 0.0, system[own + 1u].zw) * x.y;
      x.w -= system[own + 2u].w * x.z;
      ${each(4, (i) => `solved[at + (4u * block + ${i}u) * width + column] = x.${'xyzw'[i]};`)}
    }
  }
}
`;
}
