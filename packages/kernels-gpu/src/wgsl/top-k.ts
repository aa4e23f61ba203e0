import { topKKernel } from '@seqloom/core';
import { runWgsl } from './run.ts';

const LANES = 64;

// whole numbers in the order of the numbers that they stand for: no rule of a compiler about NaN or infinities can touch their order
const forwardSource = `
var<workgroup> keys: array<u32, ${LANES}>;
var<workgroup> places: array<u32, ${LANES}>;
fn keyOf(value: f32) -> u32 {
  let bits = select(bitcast<u32>(value), 0u, value == 0.0);
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}
fn comesFirst(key: u32, place: u32, otherKey: u32, otherPlace: u32) -> bool {
  return key > otherKey || (key == otherKey && place < otherPlace);
}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let start = group.x * uniforms.width;
  var lastKey = 0xffffffffu;
  var lastPlace = 0u;
  for (var rank = 0u; rank < uniforms.k; rank++) {
    // the first of those that come after the last one given out
    var key = 0u;
    var place = uniforms.width;
    for (var c = lane; c < uniforms.width; c += ${LANES}u) {
      let own = keyOf(x[start + c]);
      let isLeft = rank == 0u || comesFirst(lastKey, lastPlace, own, c);
      if (isLeft && (place == uniforms.width || comesFirst(own, c, key, place))) {
        key = own;
        place = c;
      }
    }
    keys[lane] = key;
    places[lane] = place;
    workgroupBarrier();
    for (var half = ${LANES / 2}u; half > 0u; half /= 2u) {
      if (lane < half) {
        let other = lane + half;
        if (places[other] < uniforms.width && (places[lane] == uniforms.width || comesFirst(keys[other], places[other], keys[lane], places[lane]))) {
          keys[lane] = keys[other];
          places[lane] = places[other];
        }
      }
      workgroupBarrier();
    }
    lastKey = keys[0];
    lastPlace = places[0];
    if (lane == 0u) {
      values[group.x * uniforms.k + rank] = x[start + lastPlace];
      indices[group.x * uniforms.k + rank] = i32(lastPlace);
    }
    workgroupBarrier();
  }
}
`;

const backwardSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * 256u + lane;
  if (place >= uniforms.size) { return; }
  let row = place / uniforms.width;
  let column = i32(place % uniforms.width);
  var result = 0.0;
  for (var rank = row * uniforms.k; rank < (row + 1u) * uniforms.k; rank++) {
    if (indices[rank] == column) { result = upstream[rank]; }
  }
  dInput[place] = result;
}
`;

/**
 * Installs the fused `TopKRows`; returns the way back.
 *
 * Forward: one dispatch, a workgroup of 64 per row: k rounds of N loads and comparisons (the first from memory, the rest from cache), 512 bytes
 * of workgroup memory. Gradient: one dispatch, one invocation per input, k loads of the indices.
 */
export function implementTopK(label: string): () => void {
  return topKKernel.implement({
    backend: 'webgpu',
    label,
    forward({ inputs: { input }, attributes: { k }, backend }) {
      const width = input.shape.at(-1)!;
      const shape = [...input.shape.slice(0, -1), k];
      return runWgsl(backend, {
        name: 'TopKRows',
        source: forwardSource,
        workgroupSize: [LANES],
        workgroups: [input.size / width],
        inputs: { x: input },
        outputs: { values: { shape }, indices: { shape, dtype: 'int32' } },
        integers: { width, k },
      });
    },
    gradient({ inputs: { input }, saved, upstream, attributes: { k }, backend }) {
      const { dInput } = runWgsl(backend, {
        name: 'TopKRowsGrad',
        source: backwardSource,
        workgroupSize: [256],
        workgroups: [Math.ceil(input.size / 256)],
        inputs: { indices: saved.indices, upstream: upstream.values },
        outputs: { dInput: { shape: input.shape } },
        integers: { size: input.size, width: input.shape.at(-1)!, k },
      });
      return { input: dInput };
    },
  });
}
