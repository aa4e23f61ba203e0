/** `sigmoid(x)`, which never takes exp of a positive number, and `silu(x)`, with their slopes. */
export const activations = `
fn sigmoid(x: f32) -> f32 {
  let e = exp(-abs(x));
  return select(e, 1.0, x >= 0.0) / (1.0 + e);
}
fn sigmoidSlope(x: f32) -> f32 {
  let s = sigmoid(x);
  return s * (1.0 - s);
}
fn silu(x: f32) -> f32 { return x * sigmoid(x); }
fn siluSlope(x: f32) -> f32 {
  let s = sigmoid(x);
  return s + x * s * (1.0 - s);
}
`;

/** `isNan(x)` by its bits: a comparison of a number with itself may be compiled away. */
export const nanTest = `
fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
`;

// every invocation gets the result; `combine` joins two numbers
function reduction(
  name: string,
  size: number,
  subgroups: boolean,
  inSubgroup: string,
  combine: (left: string, right: string) => string,
): string {
  const begin = `
var<workgroup> ${name}Parts: array<f32, ${subgroups ? size / 4 : size}>;
fn ${name}(value: f32, lane: u32) -> f32 {`;
  if (subgroups)
    return `${begin}
  let part = ${inSubgroup}(value);
  if (lane % subgroupSize == 0u) { ${name}Parts[lane / subgroupSize] = part; }
  workgroupBarrier();
  var total = ${name}Parts[0];
  for (var i = 1u; i < ${size}u / subgroupSize; i++) { total = ${combine('total', `${name}Parts[i]`)}; }
  workgroupBarrier();
  return total;
}
`;
  return `${begin}
  ${name}Parts[lane] = value;
  workgroupBarrier();
  for (var half = ${size / 2}u; half > 0u; half /= 2u) {
    if (lane < half) { ${name}Parts[lane] = ${combine(`${name}Parts[lane]`, `${name}Parts[lane + half]`)}; }
    workgroupBarrier();
  }
  let total = ${name}Parts[0];
  workgroupBarrier();
  return total;
}
`;
}

/**
 * `workgroupSum(value, lane)` over the invocations of a workgroup, a power of two from 128 on, in a fixed order; all get the result.
 *
 * 4 bytes of workgroup memory per invocation and a barrier per halving; with `subgroups`, for calls that say so too, 1 byte and two barriers.
 * That takes neighbouring invocations to lie in one subgroup, in the order of subgroups of any size from 4 on.
 */
export const workgroupSum = (size: number, subgroups = false): string =>
  reduction('workgroupSum', size, subgroups, 'subgroupAdd', (left, right) => `${left} + ${right}`);

/** `workgroupMax(value, lane)`, like `workgroupSum`. */
export const workgroupMax = (size: number, subgroups = false): string =>
  reduction('workgroupMax', size, subgroups, 'subgroupMax', (left, right) => `max(${left}, ${right})`);
