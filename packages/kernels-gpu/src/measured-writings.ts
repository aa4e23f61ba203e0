// written by `npm run docs:writings` from the results of `npm run bench -- gpu`

/** The adapter of those results. */
export const measuredOn = { adapter: 'google swiftshader SwiftShader driver 5.0.0', emulated: true } as const;

/** Time of the gpu.js writing over that of WGSL by kernel; null where gpu.js was not timed. */
export const gpujsTimes: Readonly<Record<string, number | null>> = {
  MatMul: 5.22,
  LinearAttention: 2.22,
  SoftmaxAttention: 10.3,
  BlockAttention: 3.54,
  LinearScan: 35.3,
  ComplexLinearScan: 32.8,
  SelectiveScan: 27.9,
  RmsNorm: 0.108,
  CausalConv1d: 0.699,
  Rotary: 1.61,
  SoftmaxCrossEntropy: 0.0399,
  GatherRows: 0.903,
  ScatterAddRows: 0.406,
  TopKRows: 0.374,
  ExpertMatMul: 0.923,
  AdamWStep: 2.24,
};
