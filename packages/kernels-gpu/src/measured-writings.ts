// written by `npm run docs:writings` from the results of `npm run bench -- gpu`
// measured ratios may look like constants
/* oxlint-disable oxc/approx-constant */

/** The adapter of those results. */
export const measuredOn = { adapter: 'google swiftshader SwiftShader driver 5.0.0', emulated: true } as const;

/** Time of the gpu.js writing over that of WGSL by kernel; null where gpu.js was not timed. */
export const gpujsTimes: Readonly<Record<string, number | null>> = {
  MatMul: 4.7,
  LinearAttention: 1.34,
  SoftmaxAttention: 3.86,
  BlockAttention: 1.82,
  LinearScan: 13.2,
  ComplexLinearScan: 14.8,
  SelectiveScan: 19.4,
  RmsNorm: 0.179,
  CausalConv1d: 0.89,
  Rotary: 0.838,
  SoftmaxCrossEntropy: 0.105,
  GatherRows: 0.75,
  ScatterAddRows: 0.724,
  TopKRows: 0.545,
  ExpertMatMul: 13.9,
  AdamWStep: 4.45,
};
