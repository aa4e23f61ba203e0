import { MULTIPLIED, STATISTICS, TILE_LANES, each, ownsKeys } from './softmax-attention-pass.ts';
import type { TilePass } from './softmax-attention-pass.ts';
import { rowsOf } from './softmax-attention-scores.ts';
import { begin, walkListed, walkStructured } from './softmax-attention-walk.ts';
import { tileNumbers } from './tiling.ts';

// 4 channels of a row, zero beyond its end
const load = (target: Tile, count: number, tensor: string, row: string, first: string, limit: string, width: string, column: string) => `
    for (var i = lane; i < ${count * 8}u; i += ${TILE_LANES}u) {
      let at = ${first} + i32(i / 8u);
      let channelAt = ${column} + 4 * i32(i % 8u);
      var four = vec4<f32>();
      if (at < ${limit} && channelAt < ${width}) {
        let start = ${row}(place, at) * ${width} + channelAt;
        four.x = ${tensor}[start];
        if (channelAt + 1 < ${width}) { four.y = ${tensor}[start + 1]; }
        if (channelAt + 2 < ${width}) { four.z = ${tensor}[start + 2]; }
        if (channelAt + 3 < ${width}) { four.w = ${tensor}[start + 3]; }
      }
      ${target.name}[(i / 8u) * 9u + i % 8u] = ${target.keys ? 'toTile(four)' : 'four'};
    }`;

/** One of the two tiles in workgroup memory. */
interface Tile {
  readonly name: 'ownTile' | 'otherTile';
  /** whether it holds keys or values */
  readonly keys: boolean;
}

const tilesOf = ({ kind }: TilePass): [own: Tile, other: Tile] => [
  { name: 'ownTile', keys: ownsKeys(kind) },
  { name: 'otherTile', keys: !ownsKeys(kind) },
];

const read = ({ name, keys }: Tile, place: string): string => (keys ? `fromTile(${name}[${place}])` : `${name}[${place}]`);

// products of all own with all other rows over `width` channels, 32 at a time: adds to <sum><r>_<c>
function products(pass: TilePass, sum: string, width: string, own: readonly [string, string], other: readonly [string, string]): string {
  const { tall, wide } = pass;
  const [ownTile, otherTile] = tilesOf(pass);
  return `
  for (var channel = 0; channel < ${width}; channel += 32) {
    workgroupBarrier();${load(ownTile, tall * 8, own[0], own[1], 'ownFirst', 'ownLimit', width, 'channel')}${load(otherTile, wide * 8, other[0], other[1], 'otherFirst', 'otherLimit', width, 'channel')}
    workgroupBarrier();
    for (var d = 0u; d < 8u; d++) {
      ${each(tall, (r) => `let a${r} = ${read(ownTile, `(ty + ${8 * r}u) * 9u + d`)};`, ' ')}
      ${each(wide, (c) => `let b${c} = ${read(otherTile, `(tx + ${8 * c}u) * 9u + d`)};`, ' ')}
      ${each(tall, (r) => each(wide, (c) => `${sum}${r}_${c} += dot(a${r}, b${c});`, ' '))}
    }
  }`;
}

const declare = (name: string, tall: number, columns: number, type: string): string =>
  each(tall, (r) => each(columns, (c) => `var ${name}${r}_${c} = ${type};`, ' '), '\n  ');

// what a pair's chance is multiplied with, before `dO v - delta` where the gradient needs that
const FACTORS = { dValue: '1.0', dQuery: 'score.y * uniforms.scale', dKey: 'score.y * uniforms.scale', dBias: '1.0', dSlope: '-score.z' };

// the products become weights: each invocation goes over its own entries, in a loop, since the text of a score is long
function weights(pass: TilePass): string {
  const { kind, tall, wide } = pass;
  const row = `${8 * wide + 1}u`;
  const keysOwn = ownsKeys(kind);
  return `
  ${each(tall, (r) => each(wide, (c) => `tileWeights[(ty + ${8 * r}u) * ${row} + tx + ${8 * c}u] = s${r}_${c};`, ' '), '\n  ')}
  for (var i = 0u; i < ${wide * tall}u; i++) {
    let own = ownFirst + i32(ty + i / ${wide}u * 8u);
    let other = otherFirst + i32(tx + i % ${wide}u * 8u);
    let entry = (ty + i / ${wide}u * 8u) * ${row} + tx + i % ${wide}u * 8u;
    var weight = ${kind === 'forward' ? 'HIDDEN' : '0.0'};
    if (own < ownLimit && other < otherLimit) {
      let x = ${keysOwn ? 'other' : 'own'};
      let score = scored(place, x, ${keysOwn ? 'own' : 'other'}, tileWeights[entry]);
      weight = ${kind === 'forward' ? 'score.x' : `exp(score.x - statistics[${STATISTICS} * queryRow(place, x)]) * ${FACTORS[kind]}`};
    }
    tileWeights[entry] = weight;
  }`;
}

// chances times `dO v - delta`; beyond the ends both are zero or unused
function timesUpstream({ kind, tall, wide }: TilePass): string {
  const row = `${8 * wide + 1}u`;
  const keysOwn = ownsKeys(kind);
  const delta = (name: string, row: string, limit: string) =>
    `let ${name} = statistics[${STATISTICS} * queryRow(place, min(${row}, ${limit} - 1)) + 1];`;
  return `
  {
  ${keysOwn ? each(wide, (c) => delta(`delta${c}`, `otherFirst + i32(tx) + ${8 * c}`, 'otherLimit')) : each(tall, (r) => delta(`delta${r}`, `ownFirst + i32(ty) + ${8 * r}`, 'ownLimit'))}
  ${each(tall, (r) => each(wide, (c) => `tileWeights[(ty + ${8 * r}u) * ${row} + tx + ${8 * c}u] *= p${r}_${c} - delta${keysOwn ? c : r};`, ' '), '\n  ')}
  }
  ${kind === 'dBias' ? each(tall, (r) => each(wide, (c) => `total${r}_${c} += tileWeights[(ty + ${8 * r}u) * ${row} + tx + ${8 * c}u];`, ' '), '\n  ') : ''}`;
}

// the row statistics of the online softmax: `parts` invocations share a row
function softmax({ tall, wide }: TilePass): string {
  const row = `softRow * ${8 * wide + 1}u`;
  const parts = TILE_LANES / (8 * tall);
  const width = (8 * wide) / parts;
  return `
  workgroupBarrier();
  {
    var top = FLOOR;
    for (var c = softColumn; c < softColumn + ${width}u; c++) { top = max(top, tileWeights[${row} + c]); }
    partialTop[lane] = top;
  }
  workgroupBarrier();
  var top = rowTop[softRow];
  for (var i = 0u; i < ${parts}u; i++) { top = max(top, partialTop[softRow * ${parts}u + i]); }
  {
    var sum = 0.0;
    for (var c = softColumn; c < softColumn + ${width}u; c++) {
      let chance = exp(tileWeights[${row} + c] - top);
      tileWeights[${row} + c] = chance;
      sum += chance;
    }
    partialSum[lane] = sum;
  }
  workgroupBarrier();
  if (lane % ${parts}u == 0u) {
    let fade = exp(rowTop[softRow] - top);
    var sum = rowSum[softRow] * fade;
    for (var i = 0u; i < ${parts}u; i++) { sum += partialSum[softRow * ${parts}u + i]; }
    rowFade[softRow] = fade;
    rowSum[softRow] = sum;
    rowTop[softRow] = top;
  }
  workgroupBarrier();`;
}

function accumulate(pass: TilePass): string {
  const { kind, tall, wide, columns } = pass;
  const [, otherTile] = tilesOf(pass);
  const [tensor, row, extent] = MULTIPLIED[kind as keyof typeof MULTIPLIED];
  return `
  ${kind === 'forward' ? each(tall, (r) => `{ let fade = rowFade[ty + ${8 * r}u]; ${each(columns, (c) => `sum${r}_${c} *= fade;`, ' ')} }`) : ''}
  ${each(
    columns,
    (c) => `
  workgroupBarrier();${load(otherTile, 8 * wide, tensor, row, 'otherFirst', 'otherLimit', `i32(uniforms.${extent})`, `(firstColumn + ${32 * c})`)}
  workgroupBarrier();
  for (var k = 0u; k < ${8 * wide}u; k++) {
    let four = ${read(otherTile, 'k * 9u + tx')};
    ${each(tall, (r) => `sum${r}_${c} += tileWeights[(ty + ${8 * r}u) * ${8 * wide + 1}u + k] * four;`, ' ')}
  }`,
  )}`;
}

// one tile against another: scores, weights, and what becomes of them
function tile(pass: TilePass): string {
  const { kind, tall, wide } = pass;
  const keysOwn = ownsKeys(kind);
  const [query, key] = [['query', 'queryRow'] as const, ['key', 'keyRow'] as const];
  const [upstream, value] = [['dOutput', 'queryRow'] as const, ['value', 'keyRow'] as const];
  const second = kind !== 'forward' && kind !== 'dValue';
  return `
  ${declare('s', tall, wide, '0.0')}
  ${products(pass, 's', 'i32(uniforms.keyDim)', keysOwn ? key : query, keysOwn ? query : key)}
  ${weights(pass)}
  ${second ? declare('p', tall, wide, '0.0') : ''}
  ${second ? products(pass, 'p', 'i32(uniforms.valueDim)', keysOwn ? value : upstream, keysOwn ? upstream : value) : ''}
  ${second ? timesUpstream(pass) : ''}
  ${kind === 'forward' ? softmax(pass) : ''}
  ${kind === 'dSlope' ? 'workgroupBarrier();' : ''}
  ${kind === 'dSlope' ? `if (lane < ${8 * tall}u) { for (var c = 0u; c < ${8 * wide}u; c++) { rowTotal += tileWeights[lane * ${8 * wide + 1}u + c]; } }` : ''}
  ${kind in MULTIPLIED ? accumulate(pass) : ''}`;
}

function finish({ kind, tall, wide, columns, listed }: TilePass): string {
  const own = (r: number) => `ownFirst + i32(ty) + ${8 * r}`;
  if (kind === 'dBias')
    return each(tall, (r) =>
      each(
        wide,
        (c) => `
  { let x = ${own(r)}; let j = biasKey + i32(tx) + ${8 * c};
    if (x < ownLimit && j < keys) { dBias[(biasPlane * queries + x) * keys + j] = total${r}_${c}; } }`,
        '',
      ),
    );
  if (kind === 'dSlope')
    return `
  if (lane < ${8 * tall}u && ownFirst + i32(lane) < ownLimit) { rowSlopes[queryRow(place, ownFirst + i32(lane))] = rowTotal; }`;
  const [, , extent] = MULTIPLIED[kind];
  const result = kind === 'forward' ? 'output' : kind;
  const row = ownsKeys(kind) ? 'keyRow' : 'queryRow';
  const splitRow = kind === 'forward' && !listed ? 'split * i32(uniforms.batches) * queries * i32(uniforms.heads) + ' : '';
  const quotient = kind === 'forward' ? 'let inverse = 1.0 / max(rowSum[ty + %u], 1.2e-38);' : '';
  return `
  ${kind === 'forward' ? 'workgroupBarrier();' : ''}
  let width = i32(uniforms.${extent});
  ${each(
    tall,
    (r) => `
  if (${own(r)} < ownLimit) {
    let start = (${splitRow}${row}(place, ${own(r)})) * width;
    ${quotient.replace('%', String(8 * r))}
    ${each(
      columns,
      (c) => `
    { let four = sum${r}_${c}${kind === 'forward' ? ' * inverse' : ''};
      let channelAt = firstColumn + ${32 * c} + 4 * i32(tx);
      if (channelAt < width) { ${result}[start + channelAt] = four.x; }
      if (channelAt + 1 < width) { ${result}[start + channelAt + 1] = four.y; }
      if (channelAt + 2 < width) { ${result}[start + channelAt + 2] = four.z; }
      if (channelAt + 3 < width) { ${result}[start + channelAt + 3] = four.w; } }`,
      '',
    )}
  }`,
    '',
  )}
  ${
    kind === 'forward'
      ? `if (firstColumn == 0 && lane < ${8 * tall}u && ownFirst + i32(lane) < ownLimit) {
    let total = rowSum[lane];
    logSumExp[${splitRow}queryRow(place, ownFirst + i32(lane))] = select(-uniforms.infinity, rowTop[lane] + log(total), total != 0.0);
  }`
      : ''
  }`;
}

/**
 * The shader of one pass over attention tiles; all passes share it: the products of the workgroup's own rows with every other tile, 32 channels
 * at a time, become weights, which are multiplied with a third tensor.
 *
 *   forward  own queries   e^(s - top)             times value, with an online softmax
 *   dQuery   own queries   p (dO v - delta) scale  times key
 *   dKey     own keys      the same                times query
 *   dValue   own keys      p                       times dO
 *   dBias    own queries x keys: p (dO v - delta), added up over the rows and heads that share the bias
 *   dSlope   own queries: -p (dO v - delta) |distance|, added up per row
 *
 * A row of a query tile is a token and one of the query heads that share a key head, so that keys are loaded once for all of them.
 */
export function tileSource(pass: TilePass): string {
  const { kind, tall, wide, columns, bound, listed } = pass;
  const typeOf = ({ keys }: Tile): string => (keys ? 'Four' : 'vec4<f32>');
  const [ownTile, otherTile] = tilesOf(pass);
  const parts = TILE_LANES / (8 * tall);
  const forward = kind === 'forward';
  return `
const HIDDEN = -1e30;
const FLOOR = -1e29;
${tileNumbers[pass.numbers]}
var<workgroup> ownTile: array<${typeOf(ownTile)}, ${8 * tall * 9}>;
var<workgroup> otherTile: array<${typeOf(otherTile)}, ${8 * wide * 9}>;
var<workgroup> tileWeights: array<f32, ${8 * tall * (8 * wide + 1)}>;
${listed && ownsKeys(kind) ? `var<workgroup> chosenBy: array<u32, ${TILE_LANES}>;` : ''}
${
  forward
    ? `var<workgroup> rowTop: array<f32, ${8 * tall}>;
var<workgroup> rowSum: array<f32, ${8 * tall}>;
var<workgroup> rowFade: array<f32, ${8 * tall}>;
var<workgroup> partialTop: array<f32, ${TILE_LANES}>;
var<workgroup> partialSum: array<f32, ${TILE_LANES}>;`
    : ''
}
${rowsOf(pass)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {${begin(pass)}
  ${columns > 0 ? declare('sum', tall, columns, 'vec4<f32>()') : ''}
  ${kind === 'dSlope' ? 'var rowTotal = 0.0;' : ''}
  ${
    forward
      ? `let softRow = lane / ${parts}u;
  let softColumn = lane % ${parts}u * ${(8 * wide) / parts}u;
  if (lane < ${8 * tall}u) {
    rowTop[lane] = FLOOR;
    rowSum[lane] = 0.0;
    ${
      bound.sinkLogits
        ? `if (split == 0) {
      let logit = sinkLogits[headOf(place, ownFirst + i32(lane))];
      rowTop[lane] = max(FLOOR, logit);
      rowSum[lane] = exp(logit - rowTop[lane]);
    }`
        : ''
    }
  }`
      : ''
  }
  ${
    kind === 'dBias'
      ? `${declare('total', tall, wide, '0.0')}
  let otherFirst = biasKey;
  let otherLimit = keys;
  for (var b = i32(group.z); b < i32(uniforms.batches); b += i32(uniforms.biasBatches)) {
    for (var h = i32(group.y); h < i32(uniforms.heads); h += i32(uniforms.biasHeads)) {
      let place = vec2<i32>(b, h);${tile(pass)}
    }
  }`
      : listed
        ? walkListed(pass, tile(pass))
        : walkStructured(pass, tile(pass))
  }
  ${finish(pass)}
}
`;
}
