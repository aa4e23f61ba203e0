import * as kernels from '@seqloom/kernels-gpu/gpujs';

/** An array of given shape with reproducible numbers in [low, high). */
function numbers(seed, low, high, ...shape) {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return {
    shape,
    data: Float32Array.from(
      { length: size },
      (_, index) => low + (high - low) * ((Math.sin(index * 12.9898 + seed) * 43758.5453) % 1) ** 2,
    ),
  };
}

// blocks and chunks below leave a shorter last one
const attention = { query: numbers(1, -1, 1, 1, 7, 4, 3), key: numbers(2, -0.5, 0.5, 1, 7, 2, 3), value: numbers(3, -1, 1, 1, 7, 2, 5) };
const memory = {
  ...attention,
  logDecay: numbers(4, -1, 0, 1, 7, 2),
  beta: numbers(5, 0, 1, 1, 7, 2),
  state: numbers(6, -1, 1, 1, 2, 3, 5),
};
const blocks = Int32Array.of(0, 1, 2, 0, 0, -1, 1, 2);
const blockLengths = { queryBlock: 4, keyBlock: 3, causal: true };
const bias = numbers(6, -1, 1, 1, 4, 7, 7);
bias.data[3] = -Infinity;
const optioned = {
  ...attention,
  bias,
  queryPositions: { shape: [1, 7], data: Float32Array.of(0, 1, 2, 3, 4, 6, 9) },
  keyPositions: { shape: [1, 7], data: Float32Array.of(0, -1, 2, 3, 4, 6, 9) },
  sinkLogits: numbers(7, -1, 1, 4),
  slopes: numbers(8, 0, 0.3, 4),
};
const norm = { input: numbers(1, -1, 1, 5, 6), weight: numbers(2, 0, 1, 6), gate: numbers(3, -2, 2, 5, 6) };
const scan = { decay: numbers(1, 0, 1, 2, 7, 3), input: numbers(2, -1, 1, 2, 7, 3), state: numbers(3, -1, 1, 2, 3) };
const complexScan = {
  decayReal: numbers(1, -0.7, 0.7, 2, 5, 3),
  decayImaginary: numbers(2, -0.7, 0.7, 2, 5, 3),
  inputReal: numbers(3, -1, 1, 2, 5, 3),
  inputImaginary: numbers(4, -1, 1, 2, 5, 3),
  stateReal: numbers(5, -1, 1, 2, 3),
  stateImaginary: numbers(6, -1, 1, 2, 3),
};
const selective = {
  input: numbers(1, -1, 1, 2, 5, 3),
  delta: numbers(2, 0, 1, 2, 5, 3),
  transition: numbers(3, -2, -0.1, 3, 4),
  inputMatrix: numbers(4, -1, 1, 2, 5, 4),
  outputMatrix: numbers(5, -1, 1, 2, 5, 4),
  skip: numbers(6, -1, 1, 3),
  state: numbers(7, -1, 1, 2, 3, 4),
};
const turn = { cos: numbers(2, -1, 1, 1, 5, 2), sin: numbers(3, -1, 1, 1, 5, 2) };
const convolution = {
  input: numbers(1, -1, 1, 2, 7, 3),
  weight: numbers(2, -1, 1, 3, 4),
  bias: numbers(4, -1, 1, 3),
  state: numbers(3, -1, 1, 2, 3, 3),
  lengths: { shape: [2], data: Float32Array.of(7, 2) },
};
const entropy = { logits: numbers(1, -5, 5, 4, 9), labels: Int32Array.of(8, -1, 0, 3) };
const indices = Int32Array.of(4, 0, 0, 2);
const mixture = { input: numbers(1, -1, 1, 5, 3), experts: Int32Array.of(1, -1, 0, 1, 3), weight: numbers(2, -1, 1, 4, 3, 6) };

/** What runs, by name; a kernel of several forms has several calls. */
export const calls = {
  matmul: (gpujs) => kernels.matmul(gpujs, { left: numbers(1, -1, 1, 2, 9, 5), right: numbers(2, -1, 1, 2, 5, 7) }),
  matmulGradient: (gpujs) => {
    const [left, right, cotangent] = [numbers(1, -1, 1, 2, 5, 9), numbers(2, -1, 1, 2, 7, 5), numbers(3, -1, 1, 2, 9, 7)];
    return kernels.matmulGradient(gpujs, { left, right, cotangent }, { transposeLeft: true, transposeRight: true });
  },
  rmsNorm: (gpujs) => kernels.rmsNorm(gpujs, norm),
  rmsNormGradient: (gpujs) => kernels.rmsNormGradient(gpujs, { ...norm, cotangent: numbers(4, -1, 1, 5, 6) }, { groups: 2 }),
  linearScan: (gpujs) => kernels.linearScan(gpujs, scan),
  linearScanGradient: async (gpujs) => {
    const { hidden } = await kernels.linearScan(gpujs, scan, { reverse: true });
    const [cotangent, stateCotangent] = [numbers(4, -1, 1, 2, 7, 3), numbers(5, -1, 1, 2, 3)];
    return kernels.linearScanGradient(gpujs, { ...scan, hidden, cotangent, stateCotangent }, { reverse: true });
  },
  complexLinearScan: (gpujs) => kernels.complexLinearScan(gpujs, complexScan),
  complexLinearScanGradient: async (gpujs) => {
    const { hiddenReal, hiddenImaginary } = await kernels.complexLinearScan(gpujs, complexScan);
    const [cotangentReal, cotangentImaginary] = [numbers(7, -1, 1, 2, 5, 3), numbers(8, -1, 1, 2, 5, 3)];
    return kernels.complexLinearScanGradient(gpujs, { ...complexScan, hiddenReal, hiddenImaginary, cotangentReal, cotangentImaginary });
  },
  rotary: (gpujs) => kernels.rotary(gpujs, { input: numbers(1, -1, 1, 2, 5, 2, 6), ...turn }),
  rotaryGradient: (gpujs) => kernels.rotaryGradient(gpujs, { ...turn, cotangent: numbers(1, -1, 1, 2, 5, 2, 6) }, { interleaved: true }),
  causalConv1d: (gpujs) => kernels.causalConv1d(gpujs, convolution, { activation: 'silu' }),
  causalConv1dGradient: (gpujs) => {
    const [cotangent, stateCotangent] = [numbers(5, -1, 1, 2, 7, 3), numbers(6, -1, 1, 2, 3, 3)];
    return kernels.causalConv1dGradient(gpujs, { ...convolution, cotangent, stateCotangent }, { activation: 'silu' });
  },
  selectiveScan: (gpujs) => kernels.selectiveScan(gpujs, selective, { chunkSize: 4 }),
  selectiveScanGradient: (gpujs) => {
    const [cotangent, stateCotangent] = [numbers(8, -1, 1, 2, 5, 3), numbers(9, -1, 1, 2, 3, 4)];
    return kernels.selectiveScanGradient(gpujs, { ...selective, cotangent, stateCotangent }, { chunkSize: 4 });
  },
  softmaxCrossEntropy: (gpujs) => kernels.softmaxCrossEntropy(gpujs, entropy, { softCap: 4, zLoss: 0.01 }),
  softmaxCrossEntropyGradient: async (gpujs) => {
    const options = { softCap: 4, zLoss: 0.01, labelSmoothing: 0.1 };
    const { logSumExp } = await kernels.softmaxCrossEntropy(gpujs, entropy, options);
    return kernels.softmaxCrossEntropyGradient(
      gpujs,
      { ...entropy, logSumExp, cotangent: numbers(2, -1, 1, 4), logSumExpCotangent: numbers(3, -1, 1, 4) },
      options,
    );
  },
  gatherRows: (gpujs) => kernels.gatherRows(gpujs, { table: numbers(1, -1, 1, 5, 3), indices }),
  gatherRowsGradient: (gpujs) => kernels.gatherRowsGradient(gpujs, { cotangent: numbers(1, -1, 1, 4, 3), indices }, { rowCount: 5 }),
  scatterAddRows: (gpujs) => kernels.scatterAddRows(gpujs, { rows: numbers(1, -1, 1, 4, 3), indices }, { rowCount: 6 }),
  scatterAddRowsGradient: (gpujs) => kernels.scatterAddRowsGradient(gpujs, { cotangent: numbers(1, -1, 1, 6, 3), indices }),
  topKRows: (gpujs) => kernels.topKRows(gpujs, { input: numbers(1, -1, 1, 3, 17) }, { k: 5 }),
  'topKRows by ranks': (gpujs) => kernels.topKRows(gpujs, { input: numbers(1, -1, 1, 3, 17) }, { k: 9 }),
  topKRowsGradient: (gpujs) => {
    const places = { shape: [2, 3], data: Float32Array.of(4, 0, 2, 1, 3, 4) };
    return kernels.topKRowsGradient(gpujs, { indices: places, cotangent: numbers(2, -1, 1, 2, 3) }, { width: 5 });
  },
  expertMatMul: (gpujs) => kernels.expertMatMul(gpujs, mixture),
  expertMatMulGradient: (gpujs) => kernels.expertMatMulGradient(gpujs, { ...mixture, cotangent: numbers(3, -1, 1, 5, 6) }),
  adamWStep: (gpujs) => {
    const [parameter, gradient] = [numbers(1, -1, 1, 5, 7), numbers(2, -1, 1, 5, 7)];
    const [firstMoment, secondMoment] = [numbers(3, -1, 1, 5, 7), numbers(4, 0, 1, 5, 7)];
    const options = { learningRate: 0.1, step: 3, weightDecay: 0.1 };
    return kernels.adamWStep(gpujs, { parameter, gradient, firstMoment, secondMoment }, options);
  },
  softmaxAttention: (gpujs) => kernels.softmaxAttention(gpujs, optioned, { causal: true, softCap: 2, blockSize: 4 }),
  softmaxAttentionGradient: async (gpujs) => {
    const options = { causal: true, softCap: 2, blockSize: 4 };
    const forward = await kernels.softmaxAttention(gpujs, optioned, options);
    const [cotangent, logSumExpCotangent] = [numbers(4, -1, 1, 1, 7, 4, 5), numbers(5, -1, 1, 1, 7, 4)];
    return kernels.softmaxAttentionGradient(gpujs, { ...optioned, ...forward, cotangent, logSumExpCotangent }, options);
  },
  blockAttention: (gpujs) => kernels.blockAttention(gpujs, { ...attention, blocks }, blockLengths),
  blockAttentionGradient: async (gpujs) => {
    const forward = await kernels.blockAttention(gpujs, { ...attention, blocks }, blockLengths);
    const [cotangent, logSumExpCotangent] = [numbers(4, -1, 1, 1, 7, 4, 5), numbers(5, -1, 1, 1, 7, 4)];
    return kernels.blockAttentionGradient(gpujs, { ...attention, ...forward, blocks, cotangent, logSumExpCotangent }, blockLengths);
  },
  linearAttention: (gpujs) => kernels.linearAttention(gpujs, memory, { updateRule: 'gated_delta', chunkSize: 4 }),
  linearAttentionGradient: (gpujs) => {
    const [cotangent, stateCotangent] = [numbers(7, -1, 1, 1, 7, 4, 5), numbers(8, -1, 1, 1, 2, 3, 5)];
    const options = { updateRule: 'gated_delta', chunkSize: 4 };
    return kernels.linearAttentionGradient(gpujs, { ...memory, cotangent, stateCotangent }, options);
  },
};

/** Functions of the entry that are no kernels. */
const others = ['createGpujs', 'free', 'fromTensor', 'toTensor'];

/** Kernels of the entry that no call runs. */
export const missing = Object.keys(kernels).filter(
  (name) => typeof kernels[name] === 'function' && !others.includes(name) && !(name in calls),
);
