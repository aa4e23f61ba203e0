import * as tf from '@tensorflow/tfjs-core';
import { batchAxes, batchStrides } from './batch-axes.ts';
import { tuningFor } from './device.ts';
import { runWgsl, sizeOf } from './run.ts';
import { sourceOf } from './source-cache.ts';
import { eachFour, load, multiply, places, tiles } from './tiling.ts';
import type { Tiling } from './tiling.ts';
import { invocationsOf, tileName } from './tuning.ts';
import type { MatMulTile } from './tuning.ts';

/** What tfjs hands to `BatchMatMul`, and what its fused form adds. */
export interface MatMulCall {
  readonly a: tf.TensorInfo;
  readonly b: tf.TensorInfo;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  /** one number per column */
  readonly bias?: tf.TensorInfo | undefined;
  readonly activation?: 'linear' | 'relu' | undefined;
}

/** Workgroups below which a product takes the smaller tile. */
const FEW_WORKGROUPS = 64;

interface Variant {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  /** whether four neighbours are loaded at once: of a (transposed only), b (untransposed only) and stored in the output */
  readonly wideA: boolean;
  readonly wideB: boolean;
  readonly wideOut: boolean;
}

function tiledSource(variant: Variant, tiling: Tiling): string {
  const alongInnerA = !variant.transposeA;
  const alongInnerB = variant.transposeB;
  const loads = `
  ${load('a', tiling, alongInnerA, variant.wideA, 'uniforms.m')}
  ${load('b', tiling, alongInnerB, variant.wideB, 'uniforms.n')}`;
  return `
${batchAxes}
${tiles(tiling)}
fn finish(value: vec4<f32>, column: u32) -> vec4<f32> {
  var result = value;
  if (has_bias) {
    for (var j = 0u; j < 4u; j++) { if (column + j < uniforms.n) { result[j] += bias[column + j]; } }
  }
  if (relu) { result = select(max(result, vec4<f32>()), result, result != result); }
  return result;
}

fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let tile_b = group.x * ${tiling.columns}u;
  let tile_a = group.y * ${tiling.rows}u;
  let start_a = batchOfA(group.z) * uniforms.m * uniforms.k;
  let start_b = batchOfB(group.z) * uniforms.k * uniforms.n;
  ${places('a', tiling, alongInnerA)}
  ${places('b', tiling, alongInnerB)}
${multiply(tiling, '0u', 'uniforms.k', loads)}
  ${eachFour(
    tiling,
    (ownRow, ownColumn, sum) => `{
    let row = tile_a + ${ownRow};
    let column = tile_b + ${ownColumn};
    if (row < uniforms.m && column < uniforms.n) {
      let place = (group.z * uniforms.m + row) * uniforms.n + column;
      let value = finish(${sum}, column);
      ${
        variant.wideOut
          ? 'output[place / 4u] = value;'
          : 'for (var j = 0u; j < 4u; j++) { if (column + j < uniforms.n) { output[place + j] = value[j]; } }'
      }
    }
  }`,
  )}
}
`;
}

// few rows: every workgroup takes one row and 64 columns, and shares the inner axis out among its 256 invocations
const rowSource = `
${batchAxes}
var<workgroup> parts: array<f32, 256>;

fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.y;
  let start_a = batchOfA(group.z) * uniforms.m * uniforms.k;
  let start_b = batchOfB(group.z) * uniforms.k * uniforms.n;
  // where b runs along the inner axis, neighbours take neighbours along that: 16 shares of 16 columns, four times
  for (var round = 0u; round < rounds; round++) {
    let shares = 256u / (64u / rounds);
    let mine = select(lane / 64u, lane % 16u, rounds > 1u);
    let column = group.x * 64u + select(lane % 64u, round * 16u + lane / 16u, rounds > 1u);
    var sum = 0.0;
    if (column < uniforms.n) {
      for (var p = mine; p < uniforms.k; p += shares) {
        let left = a[start_a + select(row * uniforms.k + p, p * uniforms.m + row, transposeA)];
        sum += left * b[start_b + select(p * uniforms.n + column, column * uniforms.k + p, rounds > 1u)];
      }
    }
    parts[lane] = sum;
    workgroupBarrier();
    if (mine == 0u && column < uniforms.n) {
      var total = 0.0;
      for (var share = 0u; share < shares; share++) { total += parts[select(lane + share * 64u, lane + share, rounds > 1u)]; }
      if (has_bias) { total += bias[column]; }
      if (relu && total < 0.0) { total = 0.0; }
      output[(group.z * uniforms.m + row) * uniforms.n + column] = total;
    }
    workgroupBarrier();
  }
}
`;

/**
 * Batched matrix product: out = op(a) op(b) (+ bias, then relu), batch axes broadcast.
 *
 * One dispatch. Tiled, in the tiles of the device's tuning: with 64 x 64 x 16 a workgroup of 256 computes 64 x 64 outputs in slices of 16 along
 * the inner axis: 2048 loads for 131072 operations per slice (64 operations per number loaded), 8704 bytes of workgroup memory, 16 sums in
 * registers per invocation; with 128 x 128 x 8 it is 128 operations per number loaded, 8448 bytes and 64 sums. The next slice is loaded while
 * one is multiplied, and every sum runs along the inner axis in order. For up to 8 rows: a workgroup of 256 computes 64 outputs of one row, every
 * number of b loaded once per row, 1 KiB.
 *
 * @param backend tfjs's webgpu backend
 * @param call a [..., M, K] or [..., K, M] when transposed, b [..., K, N] or [..., N, K], float32; bias [N]
 * @returns [..., M, N]
 * @throws Error when inner axes differ, or batch axes repeat in a pattern of more than four turns
 */
export function matMul(backend: tf.KernelBackend, call: MatMulCall): tf.TensorInfo {
  const { a, b, transposeA, transposeB, bias, activation } = call;
  const [aRows, aColumns] = a.shape.slice(-2) as [number, number];
  const [bRows, bColumns] = b.shape.slice(-2) as [number, number];
  let [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const [inner, n] = transposeB ? [bColumns, bRows] : [bRows, bColumns];
  tf.util.assert(
    k === inner,
    () =>
      `Error in matMul: inner shapes (${k}) and (${inner}) of Tensors with shapes ${a.shape} and ${b.shape} and transposeA=${transposeA} and transposeB=${transposeB} must match.`,
  );
  let aBatch = a.shape.slice(0, -2);
  let bBatch = b.shape.slice(0, -2);
  const shape = [...tf.broadcast_util.assertAndGetBroadcastShape(aBatch, bBatch), m, n];
  let batch = sizeOf(shape.slice(0, -2));
  if (!transposeA && sizeOf(bBatch) === 1 && sizeOf(aBatch) === batch) {
    // one matrix on the right: all rows on the left are one product
    [m, batch, aBatch, bBatch] = [m * batch, 1, [], []];
  }
  const strides = batchStrides(aBatch, bBatch);
  tf.util.assert(strides !== null, () => `Error in matMul: batch axes of ${a.shape} and ${b.shape} repeat in too many turns.`);
  const few = m <= 8;
  const variant: Variant = {
    transposeA,
    transposeB,
    wideA: !few && transposeA && m % 4 === 0,
    wideB: !few && !transposeB && n % 4 === 0,
    wideOut: !few && n % 4 === 0,
  };
  const { tuning, tileNumbers: numbers } = tuningFor(backend);
  const workgroupsOf = (tile: MatMulTile) => [Math.ceil(n / tile.columns), Math.ceil(m / tile.rows), batch] as const;
  const isSmall = sizeOf(workgroupsOf(tuning.matMul)) < FEW_WORKGROUPS;
  const tiling: Tiling = { ...(isSmall ? tuning.smallMatMul : tuning.matMul), numbers };
  const name = few ? 'MatMulRows' : `MatMul-${Object.values(variant).map(Number).join('')}-${tileName(tiling)}-${numbers}`;
  return runWgsl(backend, {
    name,
    source: few ? rowSource : sourceOf(name, () => tiledSource(variant, tiling)),
    workgroupSize: [few ? 256 : invocationsOf(tiling)],
    f16: !few && numbers === 'f16',
    workgroups: few ? [Math.ceil(n / 64), m, batch] : workgroupsOf(tiling),
    inputs: { a, b, bias },
    outputs: { output: { shape } },
    vec4: [...(variant.wideA ? ['a'] : []), ...(variant.wideB ? ['b'] : []), ...(variant.wideOut ? ['output'] : [])],
    integers: { m, n, k, ...strides },
    constants: { relu: activation === 'relu', ...(few && { rounds: transposeB ? 4 : 1, transposeA }) },
  }).output;
}
