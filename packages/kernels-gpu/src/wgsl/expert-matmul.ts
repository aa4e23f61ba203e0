import { expertMatMulKernel } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { tuningFor } from './device.ts';
import { release, runWgsl } from './run.ts';
import { sourceOf } from './source-cache.ts';
import { eachFour, load, loadsOf, multiply, places, tiles } from './tiling.ts';
import type { Tiling } from './tiling.ts';
import { invocationsOf, tileName } from './tuning.ts';

// rows without an expert, or with one that does not exist, form a last group of their own
const countSource = `
var<workgroup> counts: array<u32, 256>;
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  var count = 0u;
  for (var n = lane; n < uniforms.rows; n += 256u) {
    let expert = experts[n];
    let own = select(u32(expert), uniforms.count, expert < 0 || u32(expert) >= uniforms.count);
    count += u32(own == group.x);
  }
  counts[lane] = count;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (lane < half) { counts[lane] += counts[lane + half]; }
    workgroupBarrier();
  }
  if (lane == 0u) { sizes[group.x] = i32(counts[0]); }
}
`;

// each group's rows in their order, filled up with -1 to whole tiles
const orderSource = `
var<workgroup> ranks: array<u32, 256>;
fn tilesOf(expert: u32) -> u32 { return (u32(sizes[expert]) + uniforms.tileRows - 1u) / uniforms.tileRows; }
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  var start = 0u;
  for (var expert = 0u; expert < group.x; expert++) { start += tilesOf(expert); }
  let isLast = group.x == uniforms.count;
  let ownTiles = tilesOf(group.x);
  if (lane == 0u) { starts[group.x] = i32(start * uniforms.tileRows); }
  // the last group marks the tiles that nobody needs
  let end = select(start + ownTiles, uniforms.tiles, isLast);
  for (var tile = start + lane; tile < end; tile += 256u) { tileExpert[tile] = select(-1, i32(group.x), tile < start + ownTiles); }
  var given = start * uniforms.tileRows;
  for (var first = 0u; first < uniforms.rows; first += 256u) {
    let n = first + lane;
    var mine = false;
    if (n < uniforms.rows) {
      let expert = experts[n];
      mine = select(u32(expert), uniforms.count, expert < 0 || u32(expert) >= uniforms.count) == group.x;
    }
    ranks[lane] = u32(mine);
    workgroupBarrier();
    for (var reach = 1u; reach < 256u; reach *= 2u) {
      var before = 0u;
      if (lane >= reach) { before = ranks[lane - reach]; }
      workgroupBarrier();
      ranks[lane] += before;
      workgroupBarrier();
    }
    if (mine) { order[given + ranks[lane] - 1u] = i32(n); }
    given += ranks[255];
    workgroupBarrier();
  }
  for (var slot = given + lane; slot < (start + ownTiles) * uniforms.tileRows; slot += 256u) { order[slot] = -1; }
}
`;

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

// a tile of rows of one expert by columns
const productSource = (tiling: Tiling, transposed: boolean): string => `
${tiles(tiling)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let expert = tileExpert[group.y];
  if (expert < 0) { return; }
  let tile_b = group.x * ${tiling.columns}u;
  let slots = group.y * ${tiling.rows}u;
  let start_b = u32(expert) * uniforms.k * uniforms.n;
  // rows without an expert are zeros: nothing to add up
  let k = select(uniforms.k, 0u, u32(expert) == uniforms.count);
  ${places('a', tiling, true)}
  ${places('b', tiling, transposed)}
  ${upTo(loadsOf('a', tiling))
    .map(
      (share) => `var own${share} = vec4<i32>();
  for (var i = 0u; i < 4u; i++) { own${share}[i] = order[slots + four_a${share} * 4u + i]; }`,
    )
    .join('\n  ')}
${multiply(
  tiling,
  '0u',
  'k',
  `${upTo(loadsOf('a', tiling))
    .map(
      (share) => `{
    let p = slice + inner_a${share};
    next_a${share} = vec4<f32>();
    if (p < k) {
      ${[0, 1, 2, 3]
        .map((i) => `if (own${share}[${i}] >= 0) { next_a${share}[${i}] = a[u32(own${share}[${i}]) * uniforms.k + p]; }`)
        .join('\n      ')}
    }
  }`,
    )
    .join('\n  ')}
  if (slice < k) {
  ${load('b', tiling, transposed, false, 'uniforms.n')}
  }`,
)}
  ${eachFour(
    tiling,
    (ownRow, ownColumn, sum) => `{
    let row = order[slots + ${ownRow}];
    let column = tile_b + ${ownColumn};
    if (row >= 0) {
      for (var j = 0u; j < 4u; j++) { if (column + j < uniforms.n) { output[u32(row) * uniforms.n + column + j] = ${sum}[j]; } }
    }
  }`,
  )}
}
`;

// input' upstream of one expert: the inner axis are its rows
const weightSource = (tiling: Tiling): string => `
${tiles(tiling)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let tile_b = group.x * ${tiling.columns}u;
  let tile_a = group.y * ${tiling.rows}u;
  let begin = u32(starts[group.z]);
  let to = begin + u32(sizes[group.z]);
  ${places('a', tiling, false)}
  ${places('b', tiling, false)}
${multiply(
  tiling,
  'begin',
  'to',
  (
    [
      ['a', 'a', 'm'],
      ['b', 'upstream', 'n'],
    ] as const
  )
    .flatMap(([name, tensor, extent]) =>
      upTo(loadsOf(name, tiling)).map(
        (share) => `{
    let slot = slice + inner_${name}${share};
    next_${name}${share} = vec4<f32>();
    if (slot < to) {
      let row = u32(order[slot]);
      for (var i = 0u; i < 4u; i++) {
        let column = tile_${name} + four_${name}${share} * 4u + i;
        if (column < uniforms.${extent}) { next_${name}${share}[i] = ${tensor}[row * uniforms.${extent} + column]; }
      }
    }
  }`,
      ),
    )
    .join('\n  '),
)}
  ${eachFour(
    tiling,
    (ownRow, ownColumn, sum) => `{
    let row = tile_a + ${ownRow};
    let column = tile_b + ${ownColumn};
    if (row < uniforms.m) {
      for (var j = 0u; j < 4u; j++) {
        if (column + j < uniforms.n) { output[(group.z * uniforms.m + row) * uniforms.n + column + j] = ${sum}[j]; }
      }
    }
  }`,
  )}
}
`;

/** Rows by expert: `order` lists them in tiles, `tileExpert` says whose tile it is, `starts` and `sizes` where each expert's begin. */
interface Order {
  readonly order: tf.TensorInfo;
  readonly tileExpert: tf.TensorInfo;
  readonly starts: tf.TensorInfo;
  readonly sizes: tf.TensorInfo;
  readonly tileCount: number;
  readonly tiling: Tiling;
}

/** The large tile only where most experts fill it: each begins a tile of its own. */
function tilingOf(backend: tf.KernelBackend, rows: number, count: number): Tiling {
  const { tuning, tileNumbers: numbers } = tuningFor(backend);
  const { matMul, smallMatMul } = tuning;
  return { ...(rows >= 2 * matMul.rows * count ? matMul : smallMatMul), numbers };
}

function orderRows(backend: tf.KernelBackend, experts: tf.Tensor, count: number): Order {
  const rows = experts.size;
  const tiling = tilingOf(backend, rows, count);
  const tileRows = tiling.rows;
  const { sizes } = runWgsl(backend, {
    name: 'ExpertMatMulCount',
    source: countSource,
    workgroupSize: [256],
    workgroups: [count + 1],
    inputs: { experts },
    outputs: { sizes: { shape: [count + 1], dtype: 'int32' } },
    integers: { rows, count },
  });
  // every group has at most one tile that is not full
  const tileCount = Math.floor(rows / tileRows) + count + 1;
  const made = runWgsl(backend, {
    name: 'ExpertMatMulOrder',
    source: orderSource,
    workgroupSize: [256],
    workgroups: [count + 1],
    inputs: { experts, sizes },
    outputs: {
      order: { shape: [tileCount * tileRows], dtype: 'int32' },
      tileExpert: { shape: [tileCount], dtype: 'int32' },
      starts: { shape: [count + 1], dtype: 'int32' },
    },
    integers: { rows, count, tileRows, tiles: tileCount },
  });
  return { ...made, sizes, tileCount, tiling };
}

const nameOf = (kernel: string, tiling: Tiling): string => `${kernel}-${tileName(tiling)}-${tiling.numbers}`;

function product(
  backend: tf.KernelBackend,
  { order, tileExpert, tileCount, tiling }: Order,
  a: tf.Tensor,
  weight: tf.Tensor,
  transposed: boolean,
): tf.TensorInfo {
  const [count, inner, outer] = weight.shape as [number, number, number];
  const [k, n] = transposed ? [outer, inner] : [inner, outer];
  const name = nameOf(transposed ? 'ExpertMatMulInputGrad' : 'ExpertMatMul', tiling);
  return runWgsl(backend, {
    name,
    source: sourceOf(name, () => productSource(tiling, transposed)),
    workgroupSize: [invocationsOf(tiling)],
    f16: tiling.numbers === 'f16',
    workgroups: [Math.ceil(n / tiling.columns), tileCount],
    inputs: { a, b: weight, order, tileExpert },
    outputs: { output: { shape: [a.shape[0]!, n] } },
    integers: { k, n, count },
  }).output;
}

/**
 * Installs the fused `ExpertMatMul`; returns the way back.
 *
 * Two dispatches count and order the rows by expert (N loads per expert each, 1 KiB of workgroup memory), so that sums have one order and an expert
 * without rows costs nothing. Then the matrix product's tiles: with 64 x 64 x 16 a workgroup of 256 computes 64 rows of one expert by 64 columns in
 * slices of 16, 2048 loads for 131072 operations per slice, 8704 bytes of workgroup memory; at most N / 64 + E + 1 tiles of rows. Gradient: the same with the
 * transposed matrices for the input, and one product per expert over its rows for the weights.
 */
export function implementExpertMatMul(label: string): () => void {
  return expertMatMulKernel.implement({
    backend: 'webgpu',
    label,
    forward({ inputs: { input, experts, weight }, backend }) {
      const rows = orderRows(backend, experts, weight.shape[0]!);
      const output = product(backend, rows, input, weight, false);
      release(backend, rows.order, rows.tileExpert, rows.starts, rows.sizes);
      return { output };
    },
    gradient({ inputs: { input, experts, weight }, upstream, backend }) {
      const [count, m, n] = weight.shape as [number, number, number];
      const rows = orderRows(backend, experts, count);
      const dInput = product(backend, rows, upstream.output, weight, true);
      const { tiling } = rows;
      const name = nameOf('ExpertMatMulWeightGrad', tiling);
      const { output: dWeight } = runWgsl(backend, {
        name,
        source: sourceOf(name, () => weightSource(tiling)),
        workgroupSize: [invocationsOf(tiling)],
        f16: tiling.numbers === 'f16',
        workgroups: [Math.ceil(n / tiling.columns), Math.ceil(m / tiling.rows), count],
        inputs: { a: input, upstream: upstream.output, order: rows.order, starts: rows.starts, sizes: rows.sizes },
        outputs: { output: { shape: weight.shape } },
        integers: { m, n },
      });
      release(backend, rows.order, rows.tileExpert, rows.starts, rows.sizes);
      return { input: dInput, weight: dWeight };
    },
  });
}
