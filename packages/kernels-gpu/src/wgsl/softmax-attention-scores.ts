import { STATISTICS } from './softmax-attention-pass.ts';
import type { TilePass } from './softmax-attention-pass.ts';

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

/** WGSL functions for rows, visibility and scores of a pass. */
export function rowsOf({ kind, bound, listed }: TilePass): string {
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
