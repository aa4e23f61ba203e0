import { TILE_LANES, ownsKeys } from './softmax-attention-pass.ts';
import type { TilePass } from './softmax-attention-pass.ts';

/** Which tile is this workgroup's own: group.x the tile, group.y head and slice of columns, group.z the batch row. */
export function begin(pass: TilePass): string {
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
  let keyTiles = (keys + ${8 * pass.wide - 1}) / ${8 * pass.wide};
  let ownFirst = i32(group.x) / keyTiles * ${rows};
  let biasKey = i32(group.x) % keyTiles * ${8 * pass.wide};
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

/** The other tiles of this workgroup, by the rules of visibility; `tile` is what happens at each. */
export function walkStructured(pass: TilePass, tile: string): string {
  const others = 8 * pass.wide;
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
  for (var otherFirst = firstToken * ${share} / ${others} * ${others}; otherFirst < endToken * ${share}; otherFirst += ${others}) {${tile}
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
    firstKey = max(0, firstPosition - i32(uniforms.window) + 1) / ${others} * ${others};
  }
  var otherFirst = 0;
  ${
    pass.kind === 'forward'
      ? `let perSplit = (endKey + ${others} * splits - 1) / (${others} * splits) * ${others};
  otherFirst = split * perSplit;
  endKey = min(endKey, otherFirst + perSplit);`
      : ''
  }
  if (otherFirst >= special) { otherFirst = max(otherFirst, firstKey); }
  while (otherFirst < endKey) {${tile}
    otherFirst += ${others};
    if (otherFirst >= special && otherFirst < firstKey) { otherFirst = firstKey; }
  }`;
}

/** The other tiles of this workgroup, from the lists of key blocks; `tile` is what happens at each. */
export function walkListed(pass: TilePass, tile: string): string {
  const others = 8 * pass.wide;
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
        for (var otherFirst = block * i32(uniforms.queryBlock) * i32(uniforms.share); otherFirst < otherLimit; otherFirst += ${others}) {${tile}
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
      for (var otherFirst = block * keyBlock; otherFirst < otherLimit; otherFirst += ${others}) {${tile}
      }
    }
  }`;
}
