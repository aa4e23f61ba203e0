// written by `npm run docs:writings` from the results of `npm run bench -- gpu`

/** The adapter of those results. */
export const measuredOn = { adapter: 'google swiftshader SwiftShader driver 5.0.0', emulated: true } as const;

/** Time of the gpu.js writing over that of WGSL by kernel; null where gpu.js was not timed. */
export const gpujsTimes: Readonly<Record<string, number | null>> = {
  MatMul: 4.86,
  LinearAttention: 3.35,
  SoftmaxAttention: 3.21,
  BlockAttention: 1.44,
  LinearScan: 108,
  ComplexLinearScan: 21.2,
  SelectiveScan: 25.5,
  RmsNorm: 0.129,
  CausalConv1d: 1.47,
  Rotary: 0.85,
  SoftmaxCrossEntropy: 0.0236,
  GatherRows: 1.51,
  ScatterAddRows: 0.549,
  TopKRows: 0.119,
  ExpertMatMul: 1.11,
  AdamWStep: 3.91,
};
