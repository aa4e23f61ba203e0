/** What one pass over attention tiles makes. */
export type TilePassKind = 'forward' | 'dQuery' | 'dKey' | 'dValue' | 'dBias' | 'dSlope';

/** One variant of the tile shader; every variant is a pipeline. */
export interface TilePass {
  readonly kind: TilePassKind;
  /** own rows of a workgroup over 8: 4, or 1 where there are few rows */
  readonly tall: 1 | 4;
  /** 32-channel columns of the result that a workgroup keeps in registers, 1 to 4; 0 for the kinds that keep none */
  readonly columns: number;
  /** optional tensors that are bound */
  readonly bound: { readonly [name in 'queryPositions' | 'keyPositions' | 'bias' | 'sinkLogits' | 'slopes']?: boolean };
  /** whether key blocks are listed per query block */
  readonly listed: boolean;
}

/** Invocations of a workgroup: 8 x 8, each with 4 x 4 scores (1 x 4 in a low tile). */
export const TILE_LANES = 64;
/** Keys per tile, and rows per tall tile. */
export const TILE = 32;
/** Numbers per query row in the statistics of the gradient: logSumExp, delta, position, slope. */
export const STATISTICS = 4;

const each = (count: number, text: (index: number) => string, between = '\n'): string =>
  Array.from({ length: count }, (_, index) => text(index)).join(between);

/** Whether the workgroup's own tile are keys, and the other tiles, over which it walks, query rows. */
function ownsKeys(kind: TilePassKind): boolean {
  return kind === 'dKey' || kind === 'dValue';
}

/** Which tensor the weights are multiplied with, its rows, and the extent of those. */
const MULTIPLIED = {
  forward: ['value', 'keyRow', 'valueDim'],
  dQuery: ['key', 'keyRow', 'keyDim'],
  dKey: ['query', 'queryRow', 'keyDim'],
  dValue: ['dOutput', 'queryRow', 'valueDim'],
} as const;

// 4 channels of a row, zero beyond its end
const load = (target: string, count: number, tensor: string, row: string, first: string, limit: string, width: string, column: string) => `
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
      ${target}[(i / 8u) * 9u + i % 8u] = four;
    }`;

// products of all own with all other rows over `width` channels, 32 at a time: adds to <sum><r>_<c>
const products = (sum: string, tall: number, width: string, own: readonly [string, string], other: readonly [string, string]) => `
  for (var channel = 0; channel < ${width}; channel += 32) {
    workgroupBarrier();${load('ownTile', tall * 8, own[0], own[1], 'ownFirst', 'ownLimit', width, 'channel')}${load('otherTile', TILE, other[0], other[1], 'otherFirst', 'otherLimit', width, 'channel')}
    workgroupBarrier();
    for (var d = 0u; d < 8u; d++) {
      ${each(tall, (r) => `let a${r} = ownTile[(ty + ${8 * r}u) * 9u + d];`, ' ')}
      ${each(4, (c) => `let b${c} = otherTile[(tx + ${8 * c}u) * 9u + d];`, ' ')}
      ${each(tall, (r) => each(4, (c) => `${sum}${r}_${c} += dot(a${r}, b${c});`, ' '))}
    }
  }`;

const declare = (name: string, tall: number, columns: number, type: string): string =>
  each(tall, (r) => each(columns, (c) => `var ${name}${r}_${c} = ${type};`, ' '), '\n  ');

function visibility({ bound, listed }: TilePass): string {
  if (listed)
    return `
fn visible(q: i32, k: i32) -> bool { return uniforms.causal == 0u || k <= q; }`;
  return `
fn visible(q: i32, k: i32) -> bool {
  if (k < 0) { return false; }
  if (k < i32(uniforms.prefix)) { return true; }
  let distance = q - k;
  if (uniforms.causal != 0u && distance < 0) { return false; }
  if (distance % i32(uniforms.dilation) != 0) { return false; }
  return abs(distance) < i32(uniforms.window) || k < i32(uniforms.sinks);
}${
    bound.keyPositions
      ? `
fn keyPosition(place: vec2<i32>, j: i32) -> i32 { return i32(keyPositions[place.x * i32(uniforms.keys) + j]); }`
      : ''
  }`;
}

function rowsOf({ kind, bound, listed }: TilePass): string {
  // a pass over bias tiles takes one head at a time, all others the query heads of one key head together
  const perHead = kind === 'dBias';
  const statistics = kind !== 'forward';
  const position = statistics
    ? `i32(statistics[${STATISTICS} * row + 2])`
    : bound.queryPositions
      ? 'i32(queryPositions[place.x * i32(uniforms.queries) + token])'
      : 'token + i32(uniforms.keys) - i32(uniforms.queries)';
  const slope = statistics ? `statistics[${STATISTICS} * row + 3]` : bound.slopes ? 'slopes[head]' : '0.0';
  return `
fn headOf(place: vec2<i32>, x: i32) -> i32 { return ${perHead ? 'place.y' : 'place.y * i32(uniforms.share) + x % i32(uniforms.share)'}; }
fn tokenOf(x: i32) -> i32 { return ${perHead ? 'x' : 'x / i32(uniforms.share)'}; }
fn queryRow(place: vec2<i32>, x: i32) -> i32 {
  return (place.x * i32(uniforms.queries) + tokenOf(x)) * i32(uniforms.heads) + headOf(place, x);
}
fn keyRow(place: vec2<i32>, j: i32) -> i32 {
  return (place.x * i32(uniforms.keys) + j) * i32(uniforms.groups) + ${perHead ? 'place.y / i32(uniforms.share)' : 'place.y'};
}
${visibility({ kind, bound, listed } as TilePass)}
fn safeTanh(x: f32) -> f32 {
  let square = x * x;
  if (square < 0.01) { return x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0)))); }
  let e = exp(-2.0 * abs(x));
  return sign(x) * (1.0 - e) / (1.0 + e);
}
// score of a query row and a key, the slope of the soft cap there, and their distance; HIDDEN where the row does not see the key
fn scored(place: vec2<i32>, x: i32, j: i32, product: f32) -> vec3<f32> {
  let token = tokenOf(x);
  let head = headOf(place, x);
  let row = queryRow(place, x);
  let q = ${listed ? 'token + i32(uniforms.keys) - i32(uniforms.queries)' : position};
  let k = ${bound.keyPositions ? 'keyPosition(place, j)' : 'j'};
  if (!visible(q, k)) { return vec3<f32>(HIDDEN, 0.0, 0.0); }
  var score = product * uniforms.scale;
  var slopeOfCap = 1.0;
  ${
    listed
      ? ''
      : `if (uniforms.softCap > 0.0) {
    let squashed = safeTanh(score / uniforms.softCap);
    score = uniforms.softCap * squashed;
    slopeOfCap = 1.0 - squashed * squashed;
  }`
  }
  let distance = f32(abs(q - k));
  ${bound.slopes || (statistics && !listed) ? `score -= ${slope} * distance;` : ''}
  ${
    bound.bias
      ? `let biasRow = ((place.x % i32(uniforms.biasBatches)) * i32(uniforms.biasHeads) + head % i32(uniforms.biasHeads)) * i32(uniforms.queries) + token;
  score += bias[biasRow * i32(uniforms.keys) + j];`
      : ''
  }
  return vec3<f32>(select(score, HIDDEN, score < HIDDEN), slopeOfCap, distance);
}`;
}

// what a pair's chance is multiplied with, before `dO v - delta` where the gradient needs that
const FACTORS = { dValue: '1.0', dQuery: 'score.y * uniforms.scale', dKey: 'score.y * uniforms.scale', dBias: '1.0', dSlope: '-score.z' };

// the products become weights: each invocation goes over its own entries, in a loop, since the text of a score is long
function weights({ kind, tall }: TilePass): string {
  const keysOwn = ownsKeys(kind);
  return `
  ${each(tall, (r) => each(4, (c) => `tileWeights[(ty + ${8 * r}u) * 33u + tx + ${8 * c}u] = s${r}_${c};`, ' '), '\n  ')}
  for (var i = 0u; i < ${4 * tall}u; i++) {
    let own = ownFirst + i32(ty + i / 4u * 8u);
    let other = otherFirst + i32(tx + i % 4u * 8u);
    let entry = (ty + i / 4u * 8u) * 33u + tx + i % 4u * 8u;
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
function timesUpstream({ kind, tall }: TilePass): string {
  const keysOwn = ownsKeys(kind);
  const delta = (name: string, row: string, limit: string) =>
    `let ${name} = statistics[${STATISTICS} * queryRow(place, min(${row}, ${limit} - 1)) + 1];`;
  return `
  {
  ${keysOwn ? each(4, (c) => delta(`delta${c}`, `otherFirst + i32(tx) + ${8 * c}`, 'otherLimit')) : each(tall, (r) => delta(`delta${r}`, `ownFirst + i32(ty) + ${8 * r}`, 'ownLimit'))}
  ${each(tall, (r) => each(4, (c) => `tileWeights[(ty + ${8 * r}u) * 33u + tx + ${8 * c}u] *= p${r}_${c} - delta${keysOwn ? c : r};`, ' '), '\n  ')}
  }
  ${kind === 'dBias' ? each(tall, (r) => each(4, (c) => `total${r}_${c} += tileWeights[(ty + ${8 * r}u) * 33u + tx + ${8 * c}u];`, ' '), '\n  ') : ''}`;
}

// the row statistics of the online softmax: `parts` invocations share a row
function softmax(tall: number): string {
  const parts = TILE_LANES / (8 * tall);
  const width = TILE / parts;
  return `
  workgroupBarrier();
  {
    var top = FLOOR;
    for (var c = softColumn; c < softColumn + ${width}u; c++) { top = max(top, tileWeights[softRow * 33u + c]); }
    partialTop[lane] = top;
  }
  workgroupBarrier();
  var top = rowTop[softRow];
  for (var i = 0u; i < ${parts}u; i++) { top = max(top, partialTop[softRow * ${parts}u + i]); }
  {
    var sum = 0.0;
    for (var c = softColumn; c < softColumn + ${width}u; c++) {
      let chance = exp(tileWeights[softRow * 33u + c] - top);
      tileWeights[softRow * 33u + c] = chance;
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

function accumulate({ kind, tall, columns }: TilePass): string {
  const [tensor, row, extent] = MULTIPLIED[kind as keyof typeof MULTIPLIED];
  return `
  ${kind === 'forward' ? each(tall, (r) => `{ let fade = rowFade[ty + ${8 * r}u]; ${each(columns, (c) => `sum${r}_${c} *= fade;`, ' ')} }`) : ''}
  ${each(
    columns,
    (c) => `
  workgroupBarrier();${load('otherTile', TILE, tensor, row, 'otherFirst', 'otherLimit', `i32(uniforms.${extent})`, `(firstColumn + ${32 * c})`)}
  workgroupBarrier();
  for (var k = 0u; k < ${TILE}u; k++) {
    let four = otherTile[k * 9u + tx];
    ${each(tall, (r) => `sum${r}_${c} += tileWeights[(ty + ${8 * r}u) * 33u + k] * four;`, ' ')}
  }`,
  )}`;
}

// one tile against another: scores, weights, and what becomes of them
function tile(pass: TilePass): string {
  const { kind, tall } = pass;
  const keysOwn = ownsKeys(kind);
  const [query, key] = [['query', 'queryRow'] as const, ['key', 'keyRow'] as const];
  const [upstream, value] = [['dOutput', 'queryRow'] as const, ['value', 'keyRow'] as const];
  const second = kind !== 'forward' && kind !== 'dValue';
  return `
  ${declare('s', tall, 4, '0.0')}
  ${products('s', tall, 'i32(uniforms.keyDim)', keysOwn ? key : query, keysOwn ? query : key)}
  ${weights(pass)}
  ${second ? declare('p', tall, 4, '0.0') : ''}
  ${second ? products('p', tall, 'i32(uniforms.valueDim)', keysOwn ? value : upstream, keysOwn ? upstream : value) : ''}
  ${second ? timesUpstream(pass) : ''}
  ${kind === 'forward' ? softmax(tall) : ''}
  ${kind === 'dSlope' ? 'workgroupBarrier();' : ''}
  ${kind === 'dSlope' ? `if (lane < ${8 * tall}u) { for (var c = 0u; c < ${TILE}u; c++) { rowTotal += tileWeights[lane * 33u + c]; } }` : ''}
  ${kind in MULTIPLIED ? accumulate(pass) : ''}`;
}

// the other tiles of this workgroup, by the rules of visibility
function walkStructured(pass: TilePass): string {
  const share = pass.kind === 'dBias' ? '1' : 'i32(uniforms.share)';
  if (ownsKeys(pass.kind))
    return `
  let otherLimit = queries * ${share};
  var firstToken = 0;
  var endToken = queries;
  if (uniforms.structured != 0u) {
    let lastKey = min(keys - 1, ownFirst + ${8 * pass.tall - 1});
    if (uniforms.causal != 0u && ownFirst >= i32(uniforms.prefix)) { firstToken = max(0, ownFirst - shift); }
    if (ownFirst >= max(i32(uniforms.prefix), i32(uniforms.sinks))) {
      if (uniforms.causal == 0u) { firstToken = max(0, ownFirst - i32(uniforms.window) + 1 - shift); }
      endToken = min(queries, lastKey + i32(uniforms.window) - shift);
    }
  }
  for (var otherFirst = firstToken * ${share} / ${TILE} * ${TILE}; otherFirst < endToken * ${share}; otherFirst += ${TILE}) {${tile(pass)}
  }`;
  return `
  let otherLimit = keys;
  var special = 0;
  var firstKey = 0;
  var endKey = keys;
  if (uniforms.structured != 0u) {
    let lastRow = min(ownLimit - 1, ownFirst + ${8 * pass.tall - 1});
    let firstPosition = ownFirst / ${share} + shift;
    let lastPosition = lastRow / ${share} + shift;
    special = max(i32(uniforms.prefix), i32(uniforms.sinks));
    if (uniforms.causal != 0u) { endKey = min(keys, max(lastPosition + 1, i32(uniforms.prefix))); }
    else { endKey = min(keys, max(lastPosition + i32(uniforms.window), special)); }
    firstKey = max(0, firstPosition - i32(uniforms.window) + 1) / ${TILE} * ${TILE};
  }
  var otherFirst = 0;
  ${
    pass.kind === 'forward'
      ? `let perSplit = (endKey + ${TILE} * splits - 1) / (${TILE} * splits) * ${TILE};
  otherFirst = split * perSplit;
  endKey = min(endKey, otherFirst + perSplit);`
      : ''
  }
  if (otherFirst >= special) { otherFirst = max(otherFirst, firstKey); }
  while (otherFirst < endKey) {${tile(pass)}
    otherFirst += ${TILE};
    if (otherFirst >= special && otherFirst < firstKey) { otherFirst = firstKey; }
  }`;
}

// the other tiles of this workgroup, from the lists of key blocks
function walkListed(pass: TilePass): string {
  if (ownsKeys(pass.kind))
    return `
  for (var firstBlock = 0; firstBlock < i32(uniforms.queryBlocks); firstBlock += ${TILE_LANES}) {
    let mine = firstBlock + i32(lane);
    var chosen = 0u;
    if (mine < i32(uniforms.queryBlocks)) {
      let list = ((place.x * i32(uniforms.groups) + place.y) * i32(uniforms.queryBlocks) + mine) * i32(uniforms.chosen);
      for (var slot = 0; slot < i32(uniforms.chosen); slot++) { if (blocks[list + slot] == ownBlock) { chosen = 1u; } }
    }
    workgroupBarrier();
    chosenBy[lane] = chosen;
    workgroupBarrier();
    for (var i = 0; i < min(${TILE_LANES}, i32(uniforms.queryBlocks) - firstBlock); i++) {
      if (workgroupUniformLoad(&chosenBy[i]) != 0u) {
        let block = firstBlock + i;
        let otherLimit = min(queries, (block + 1) * i32(uniforms.queryBlock)) * i32(uniforms.share);
        for (var otherFirst = block * i32(uniforms.queryBlock) * i32(uniforms.share); otherFirst < otherLimit; otherFirst += ${TILE}) {${tile(pass)}
        }
      }
    }
  }`;
  return `
  let keyBlock = i32(uniforms.keyBlock);
  for (var slot = 0; slot < i32(uniforms.chosen); slot++) {
    let block = blocks[((place.x * i32(uniforms.groups) + place.y) * i32(uniforms.queryBlocks) + ownBlock) * i32(uniforms.chosen) + slot];
    if (block >= 0) {
      let otherLimit = min(keys, (block + 1) * keyBlock);
      for (var otherFirst = block * keyBlock; otherFirst < otherLimit; otherFirst += ${TILE}) {${tile(pass)}
      }
    }
  }`;
}

function finish({ kind, tall, columns, listed }: TilePass): string {
  const own = (r: number) => `ownFirst + i32(ty) + ${8 * r}`;
  if (kind === 'dBias')
    return each(tall, (r) =>
      each(
        4,
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

// which tile is this workgroup's own: group.x the tile, group.y head and slice of columns, group.z the batch row
function begin(pass: TilePass): string {
  const { kind, tall, columns, listed } = pass;
  const rows = 8 * tall;
  const keysOwn = ownsKeys(kind);
  const place = `
  let queries = i32(uniforms.queries);
  let keys = i32(uniforms.keys);
  let shift = keys - queries;
  let ty = lane / 8u;
  let tx = lane % 8u;`;
  if (kind === 'dBias')
    return `${place}
  let keyTiles = (keys + ${TILE - 1}) / ${TILE};
  let ownFirst = i32(group.x) / keyTiles * ${rows};
  let biasKey = i32(group.x) % keyTiles * ${TILE};
  let ownLimit = queries;
  let biasPlane = i32(group.z * uniforms.biasHeads + group.y);`;
  const share = 'i32(uniforms.share)';
  const slices = Math.max(1, columns);
  const common = `${place}
  let place = vec2<i32>(i32(group.z), i32(group.y % uniforms.groups));
  let firstColumn = i32(group.y / uniforms.groups) * ${32 * slices};`;
  if (!listed)
    return `${common}
  ${
    kind === 'forward'
      ? `let splits = i32(uniforms.splits);
  let split = i32(group.x) % splits;
  let ownFirst = i32(group.x) / splits * ${rows};`
      : `let ownFirst = i32(group.x) * ${rows};`
  }
  let ownLimit = ${keysOwn ? 'keys' : `queries * ${share}`};`;
  return keysOwn
    ? `${common}
  let tilesPerBlock = (i32(uniforms.keyBlock) + ${rows - 1}) / ${rows};
  let ownBlock = i32(group.x) / tilesPerBlock;
  let ownFirst = ownBlock * i32(uniforms.keyBlock) + i32(group.x) % tilesPerBlock * ${rows};
  let ownLimit = min(keys, (ownBlock + 1) * i32(uniforms.keyBlock));`
    : `${common}
  let tilesPerBlock = (i32(uniforms.queryBlock) * ${share} + ${rows - 1}) / ${rows};
  let ownBlock = i32(group.x) / tilesPerBlock;
  let ownFirst = ownBlock * i32(uniforms.queryBlock) * ${share} + i32(group.x) % tilesPerBlock * ${rows};
  let ownLimit = min(queries, (ownBlock + 1) * i32(uniforms.queryBlock)) * ${share};`;
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
  const { kind, tall, columns, bound, listed } = pass;
  const parts = TILE_LANES / (8 * tall);
  const forward = kind === 'forward';
  return `
const HIDDEN = -1e30;
const FLOOR = -1e29;
var<workgroup> ownTile: array<vec4<f32>, ${8 * tall * 9}>;
var<workgroup> otherTile: array<vec4<f32>, ${TILE * 9}>;
var<workgroup> tileWeights: array<f32, ${8 * tall * 33}>;
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
  let softColumn = lane % ${parts}u * ${TILE / parts}u;
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
      ? `${declare('total', tall, 4, '0.0')}
  let otherFirst = biasKey;
  let otherLimit = keys;
  for (var b = i32(group.z); b < i32(uniforms.batches); b += i32(uniforms.biasBatches)) {
    for (var h = i32(group.y); h < i32(uniforms.heads); h += i32(uniforms.biasHeads)) {
      let place = vec2<i32>(b, h);${tile(pass)}
    }
  }`
      : listed
        ? walkListed(pass)
        : walkStructured(pass)
  }
  ${finish(pass)}
}
`;
}
