// written by `npm run docs:writings` from the results of `npm run bench -- gpu`
// measured ratios may look like constants
/* oxlint-disable oxc/approx-constant */

/** The adapter of those results. */
export const measuredOn = { adapter: 'google swiftshader SwiftShader driver 5.0.0', emulated: true } as const;

/** Time of the gpu.js writing over that of WGSL by kernel; null where gpu.js was not timed. */
export const gpujsTimes: Readonly<Record<string, number | null>> = {
  MatMul: 7.17,
  LinearAttention: 0.707,
  SoftmaxAttention: 2.82,
  BlockAttention: 3.9,
  LinearScan: 51,
  ComplexLinearScan: 21.8,
  SelectiveScan: 26,
  RmsNorm: 0.222,
  CausalConv1d: 1.37,
  Rotary: 1.02,
  SoftmaxCrossEntropy: 0.0257,
  GatherRows: 0.641,
  ScatterAddRows: 0.685,
  TopKRows: 0.565,
  ExpertMatMul: 1.47,
  AdamWStep: 2.35,
};
