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

/**
 * `workgroupSum(value, lane)` over the invocations of a workgroup, a power of two, in a fixed order; all get the result. 4 bytes of workgroup
 * memory per invocation.
 */
export const workgroupSum = (size: number): string => `
var<workgroup> sums: array<f32, ${size}>;
fn workgroupSum(value: f32, lane: u32) -> f32 {
  sums[lane] = value;
  workgroupBarrier();
  for (var half = ${size / 2}u; half > 0u; half /= 2u) {
    if (lane < half) { sums[lane] += sums[lane + half]; }
    workgroupBarrier();
  }
  let total = sums[0];
  workgroupBarrier();
  return total;
}
`;
