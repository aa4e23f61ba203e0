import * as tf from '@tensorflow/tfjs-core';
import { batchAxes, batchStrides } from './batch-axes.ts';
import { runWgsl, sizeOf } from './run.ts';

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

/** rows and columns of the output that a workgroup computes */
const TILE = 64;

interface Variant {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  /** whether four neighbours are loaded at once: of a (transposed only), b (untransposed only) and stored in the output */
  readonly wideA: boolean;
  readonly wideB: boolean;
  readonly wideOut: boolean;
}

/**
 * Statements that load a slice of 64 rows (a) or columns (b) by 16 of the inner axis, four of the former per invocation, into `next`.
 *
 * Where memory runs along the inner axis, neighbours in the workgroup take neighbours along it, and the four come one by one; where it runs
 * along rows or columns, neighbours take the next four.
 */
export function load(name: 'a' | 'b', alongInner: boolean, wide: boolean, extent: string): string {
  const first = `tile_${name} + four_${name} * 4u`;
  const one = (index: number): string =>
    alongInner
      ? `if (p < uniforms.k && ${first} + ${index}u < ${extent}) { next[${index}] = ${name}[start_${name} + (${first} + ${index}u) * uniforms.k + p]; }`
      : `if (p < uniforms.k && ${first} + ${index}u < ${extent}) { next[${index}] = ${name}[start_${name} + p * ${extent} + ${first} + ${index}u]; }`;
  const body = wide
    ? `if (p < uniforms.k && ${first} < ${extent}) { next = ${name}[(start_${name} + p * ${extent} + ${first}) / 4u]; }`
    : [0, 1, 2, 3].map(one).join('\n    ');
  return `{
    let p = slice + inner_${name};
    var next = vec4<f32>();
    ${body}
    next_${name} = next;
  }`;
}

/** Statements that say which of the 16 along the inner axis, and which four rows or columns, an invocation loads. */
export const places = (name: 'a' | 'b', alongInner: boolean): string =>
  alongInner
    ? `let inner_${name} = lane % 16u; let four_${name} = lane / 16u;`
    : `let inner_${name} = lane / 16u; let four_${name} = lane % 16u;`;

/** Workgroup memory of `multiply`. */
export const tiles = `
// rows of 17 rather than 16: neighbours along either axis then lie in different banks
var<workgroup> aTile: array<vec4<f32>, 272>;
var<workgroup> bTile: array<vec4<f32>, 272>;
`;

/**
 * Statements that multiply 64 rows by 64 columns over the inner axis between two uniform numbers: `loads` sets `next_a` and `next_b` for the
 * slice at `slice`, zeros beyond the end. Leaves the invocation's place `x`, `y` among 16 x 16 and its rows `sum0` to `sum3` of four columns.
 */
export function multiply(from: string, to: string, loads: string): string {
  return `
  let x = lane % 16u;
  let y = lane / 16u;
  var sum0 = vec4<f32>(); var sum1 = vec4<f32>(); var sum2 = vec4<f32>(); var sum3 = vec4<f32>();
  var next_a = vec4<f32>();
  var next_b = vec4<f32>();
  // a slice is on its way while the one before it is multiplied; beyond the last one, zeros
  for (var slice = ${from}; slice < ${to} + 16u; slice += 16u) {
    ${loads}
    if (slice > ${from}) {
      for (var p = 0u; p < 16u; p++) {
        let left = aTile[p * 17u + y];
        let right = bTile[p * 17u + x];
        sum0 += left.x * right;
        sum1 += left.y * right;
        sum2 += left.z * right;
        sum3 += left.w * right;
      }
    }
    workgroupBarrier();
    aTile[inner_a * 17u + four_a] = next_a;
    bTile[inner_b * 17u + four_b] = next_b;
    workgroupBarrier();
  }`;
}

const sources = new Map<string, string>();

function tiledSource(variant: Variant): string {
  const key = JSON.stringify(variant);
  let source = sources.get(key);
  if (source) return source;
  const alongInnerA = !variant.transposeA;
  const alongInnerB = variant.transposeB;
  const loads = `
  ${load('a', alongInnerA, variant.wideA, 'uniforms.m')}
  ${load('b', alongInnerB, variant.wideB, 'uniforms.n')}`;
  source = `
${batchAxes}
${tiles}
fn finish(value: vec4<f32>, column: u32) -> vec4<f32> {
  var result = value;
  if (has_bias) {
    for (var j = 0u; j < 4u; j++) { if (column + j < uniforms.n) { result[j] += bias[column + j]; } }
  }
  if (relu) { result = select(max(result, vec4<f32>()), result, result != result); }
  return result;
}

fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let tile_b = group.x * ${TILE}u;
  let tile_a = group.y * ${TILE}u;
  let start_a = batchOfA(group.z) * uniforms.m * uniforms.k;
  let start_b = batchOfB(group.z) * uniforms.k * uniforms.n;
  ${places('a', alongInnerA)}
  ${places('b', alongInnerB)}
${multiply('0u', 'uniforms.k', loads)}
  let column = tile_b + x * 4u;
  if (column >= uniforms.n) { return; }
  ${[0, 1, 2, 3]
    .map(
      (i) => `{
    let row = tile_a + y * 4u + ${i}u;
    if (row >= uniforms.m) { return; }
    let place = (group.z * uniforms.m + row) * uniforms.n + column;
    let value = finish(sum${i}, column);
    ${
      variant.wideOut
        ? 'output[place / 4u] = value;'
        : 'for (var j = 0u; j < 4u; j++) { if (column + j < uniforms.n) { output[place + j] = value[j]; } }'
    }
  }`,
    )
    .join('\n  ')}
}
`;
  sources.set(key, source);
  return source;
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
 * One dispatch. Tiled: a workgroup of 256 computes 64 x 64 outputs in slices of 16 along the inner axis: 2048 loads for 131072 operations per
 * slice (64 operations per number loaded), 8704 bytes of workgroup memory, 16 sums in registers per invocation; the next slice is loaded while
 * one is multiplied. For up to 8 rows: a workgroup of 256 computes 64 outputs of one row, every number of b loaded once per row, 1 KiB.
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
  const flags = Object.values(variant).map(Number).join('');
  return runWgsl(backend, {
    name: few ? 'MatMulRows' : `MatMul${flags}`,
    source: few ? rowSource : tiledSource(variant),
    workgroupSize: [256],
    workgroups: few ? [Math.ceil(n / 64), m, batch] : [Math.ceil(n / TILE), Math.ceil(m / TILE), batch],
    inputs: { a, b, bias },
    outputs: { output: { shape } },
    vec4: [...(variant.wideA ? ['a'] : []), ...(variant.wideB ? ['b'] : []), ...(variant.wideOut ? ['output'] : [])],
    integers: { m, n, k, ...strides },
    constants: { relu: activation === 'relu', ...(few && { rounds: transposeB ? 4 : 1, transposeA }) },
  }).output;
}
