import { gatherRowsKernel, scatterAddRowsKernel } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { zeros } from './fill.ts';
import { release, runWgsl } from './run.ts';

const gatherSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * 256u + lane;
  if (place >= uniforms.size) { return; }
  let index = indices[place / uniforms.width];
  var value = 0.0;
  if (index >= 0 && u32(index) < uniforms.count) { value = table[u32(index) * uniforms.width + place % uniforms.width]; }
  rows[place] = value;
}
`;

// next[n]: the next place with the same index, or -1; isFirst[n]: 1 where none came before
const linkSource = `
var<workgroup> some: array<i32, 256>;
var<workgroup> open: array<u32, 256>;
fn anyOpen(mine: bool, lane: u32) -> bool {
  open[lane] = u32(mine);
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (lane < half) { open[lane] |= open[lane + half]; }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&open[0]) != 0u;
}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let n = group.x * 256u + lane;
  let within = n < uniforms.count;
  var own = -1;
  if (within) { own = indices[n]; }
  var before = false;
  var after = -1;
  // blocks of 256 places from the own one to the right, then to the left, until everybody has found what it looks for
  let blocks = (uniforms.count + 255u) / 256u;
  for (var block = group.x; block < blocks; block++) {
    let place = block * 256u + lane;
    some[lane] = -1;
    if (place < uniforms.count) { some[lane] = indices[place]; }
    workgroupBarrier();
    if (within && after < 0) {
      for (var other = 0u; other < 256u; other++) {
        let m = block * 256u + other;
        if (m > n && m < uniforms.count && some[other] == own) {
          after = i32(m);
          break;
        }
      }
    }
    if (block == group.x && within) {
      for (var other = 0u; other < lane; other++) { before = before || some[other] == own; }
    }
    if (!anyOpen(within && after < 0, lane)) { break; }
  }
  for (var passed = 1u; passed <= group.x; passed++) {
    if (!anyOpen(within && !before, lane)) { break; }
    let block = group.x - passed;
    some[lane] = indices[block * 256u + lane];
    workgroupBarrier();
    for (var other = 0u; other < 256u; other++) { before = before || some[other] == own; }
    workgroupBarrier();
  }
  if (within) {
    next[n] = after;
    isFirst[n] = select(1, 0, before);
  }
}
`;

const addSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let index = indices[group.x];
  if (isFirst[group.x] == 0 || index < 0 || u32(index) >= uniforms.count) { return; }
  for (var c = lane; c < uniforms.width; c += 64u) {
    var sum = 0.0;
    for (var n = i32(group.x); n >= 0; n = next[n]) { sum += rows[u32(n) * uniforms.width + c]; }
    table[u32(index) * uniforms.width + c] = sum;
  }
}
`;

function gather(backend: tf.KernelBackend, table: tf.Tensor, indices: tf.Tensor): tf.TensorInfo {
  const [count, width] = table.shape as [number, number];
  const size = indices.size * width;
  return runWgsl(backend, {
    name: 'GatherRows',
    source: gatherSource,
    workgroupSize: [256],
    workgroups: [Math.ceil(size / 256)],
    inputs: { table, indices },
    outputs: { rows: { shape: [...indices.shape, width] } },
    integers: { size, width, count },
  }).rows;
}

function scatterAdd(backend: tf.KernelBackend, rows: tf.Tensor, indices: tf.Tensor, shape: [number, number]): tf.TensorInfo {
  const table = zeros(backend, shape);
  const [count, width] = shape;
  const links = runWgsl(backend, {
    name: 'ScatterAddRowsLinks',
    source: linkSource,
    workgroupSize: [256],
    workgroups: [Math.ceil(indices.size / 256)],
    inputs: { indices },
    outputs: { next: { shape: [indices.size], dtype: 'int32' }, isFirst: { shape: [indices.size], dtype: 'int32' } },
    integers: { count: indices.size },
  });
  if (indices.size * count * width > 0) {
    runWgsl(backend, {
      name: 'ScatterAddRows',
      source: addSource,
      workgroupSize: [64],
      workgroups: [indices.size],
      inputs: { rows, indices, next: links.next, isFirst: links.isFirst },
      updates: { table },
      outputs: {},
      integers: { count, width },
    });
  }
  release(backend, links.next, links.isFirst);
  return table;
}

/**
 * Installs the fused `GatherRows` and `ScatterAddRows`; returns the way back.
 *
 * Gathering: one dispatch, one load and one store per number. Adding: three dispatches and no atomics, so that sums have one order: zeros; a link
 * from each row to the next of the same index, found block by block in 2 KiB of workgroup memory (up to N / 256 blocks of 256 comparisons per row,
 * fewer when indices repeat); then a workgroup of 64 per first row adds up its chain: every row loaded once.
 */
export function implementRows(label: string): () => void {
  const undoGather = gatherRowsKernel.implement({
    backend: 'webgpu',
    label,
    forward: ({ inputs, backend }) => ({ rows: gather(backend, inputs.table, inputs.indices) }),
    gradient: ({ inputs, upstream, backend }) => ({
      table: scatterAdd(backend, upstream.rows, inputs.indices, inputs.table.shape as [number, number]),
    }),
  });
  const undoScatter = scatterAddRowsKernel.implement({
    backend: 'webgpu',
    label,
    forward: ({ inputs, attributes, backend }) => ({
      table: scatterAdd(backend, inputs.rows, inputs.indices, [attributes.rowCount, inputs.rows.shape[1]!]),
    }),
    gradient: ({ inputs, upstream, backend }) => ({ rows: gather(backend, upstream.table, inputs.indices) }),
  });
  return () => {
    undoGather();
    undoScatter();
  };
}
