/** What the WebAssembly module exports; every pointer and stride is in bytes, an absent tensor is 0. */
export interface KernelExports {
  setEdge(pointer: number): void;
  packBytes(n: number, k: number): number;
  // prettier-ignore
  gemm(m: number, n: number, k: number, a: number, lda: number, transposeA: boolean, b: number, ldb: number, transposeB: boolean, c: number, ldc: number, alpha: number, accumulate: boolean, pack: number): void;
  // prettier-ignore
  batchGemm(batch: number, m: number, n: number, k: number, a: number, strideA: number, lda: number, transposeA: boolean, b: number, strideB: number, ldb: number, transposeB: boolean, c: number, strideC: number, ldc: number, pack: number): void;
  addBias(rows: number, n: number, x: number, bias: number, floor: number): void;
  linearForwardBytes(heads: number, keyDim: number, valueDim: number): number;
  // prettier-ignore
  linearForward(batch: number, length: number, heads: number, group: number, keyDim: number, valueDim: number, mode: number, scale: number, query: number, key: number, value: number, decay: number, beta: number, initial: number, output: number, final: number, kept: number, scratch: number): void;
  linearKeptBytes(batch: number, heads: number, keyDim: number, valueDim: number, length: number, delta: boolean): number;
  linearBackwardBytes(
    heads: number,
    group: number,
    keyDim: number,
    valueDim: number,
    delta: boolean,
    length: number,
    withKept: boolean,
  ): number;
  // prettier-ignore
  linearBackward(batch: number, length: number, heads: number, group: number, keyDim: number, valueDim: number, mode: number, scale: number, query: number, key: number, value: number, decay: number, beta: number, initial: number, dOutput: number, dFinal: number, gQuery: number, gKey: number, gValue: number, gDecay: number, gBeta: number, gInitial: number, kept: number, scratch: number): void;
  clear(pointer: number, bytes: number): void;
  attentionRule(causal: boolean, window: number, dilation: number, sinks: number, prefix: number, softCap: number): void;
  attentionForwardBytes(t: number, s: number, heads: number, groups: number, dim: number, valueDim: number): number;
  // prettier-ignore
  attentionForward(batch: number, t: number, s: number, heads: number, groups: number, dim: number, valueDim: number, scale: number, query: number, key: number, value: number, queryPositions: number, keyPositions: number, bias: number, biasBatch: number, biasHead: number, sinkLogits: number, slopes: number, output: number, lse: number, scratch: number): void;
  attentionBackwardBytes(t: number, s: number, dim: number, valueDim: number): number;
  // prettier-ignore
  attentionBackward(batch: number, t: number, s: number, heads: number, groups: number, dim: number, valueDim: number, scale: number, query: number, key: number, value: number, queryPositions: number, keyPositions: number, bias: number, biasBatch: number, biasHead: number, sinkLogits: number, slopes: number, output: number, lse: number, dOutput: number, dLse: number, gQuery: number, gKey: number, gValue: number, gBias: number, gSinks: number, gSlopes: number, scratch: number): void;
  // prettier-ignore
  rmsForward(rows: number, groups: number, width: number, x: number, weight: number, gate: number, out: number, epsilon: number, kind: number, normFirst: boolean): void;
  // prettier-ignore
  rmsBackward(rows: number, groups: number, width: number, x: number, weight: number, gate: number, dOut: number, gX: number, gWeight: number, gGate: number, epsilon: number, kind: number, normFirst: boolean): void;
  convolutionBytes(channels: number, count: number): number;
  // prettier-ignore
  convolutionForward(batch: number, time: number, channels: number, count: number, silu: boolean, input: number, weight: number, bias: number, state: number, lengths: number, whole: boolean, out: number, final: number, scratch: number): void;
  // prettier-ignore
  convolutionBackward(batch: number, time: number, channels: number, count: number, silu: boolean, input: number, weight: number, bias: number, state: number, lengths: number, whole: boolean, dOut: number, dFinal: number, gInput: number, gWeight: number, gBias: number, gState: number, scratch: number): void;
  // prettier-ignore
  rotary(batch: number, time: number, heads: number, width: number, pairs: number, interleaved: boolean, sign: number, input: number, cos: number, sin: number, angleBatch: number, out: number): void;
  // prettier-ignore
  crossEntropyForward(rows: number, count: number, logits: number, labels: number, smoothing: number, zLoss: number, cap: number, loss: number, lse: number, line: number): void;
  // prettier-ignore
  crossEntropyBackward(rows: number, count: number, logits: number, labels: number, smoothing: number, zLoss: number, cap: number, lse: number, dLoss: number, dLse: number, out: number, line: number): void;
  // prettier-ignore
  gatherRows(count: number, width: number, table: number, indices: number, out: number): void;
  // prettier-ignore
  scatterAddRows(count: number, width: number, rows: number, indices: number, table: number): void;
  // prettier-ignore
  adamStep(count: number, parameter: number, gradient: number, first: number, second: number, toParameter: number, toFirst: number, toSecond: number, gradientScale: number, oneMinusBeta1: number, oneMinusBeta2: number, rate: number, epsilon: number, kept: number): void;
  // prettier-ignore
  scanForward(batch: number, time: number, channels: number, reverse: boolean, decay: number, input: number, state: number, hidden: number, final: number): void;
  // prettier-ignore
  scanBackward(batch: number, time: number, channels: number, reverse: boolean, decay: number, state: number, hidden: number, dHidden: number, dFinal: number, gDecay: number, gInput: number, gState: number): void;
  // prettier-ignore
  complexScanForward(batch: number, time: number, channels: number, reverse: boolean, ar: number, ai: number, br: number, bi: number, sr: number, si: number, hr: number, hi: number, fr: number, fi: number): void;
  // prettier-ignore
  complexScanBackward(batch: number, time: number, channels: number, reverse: boolean, ar: number, ai: number, sr: number, si: number, hr: number, hi: number, dhr: number, dhi: number, dfr: number, dfi: number, gar: number, gai: number, gbr: number, gbi: number, gsr: number, gsi: number): void;
  // prettier-ignore
  copyRuns(n0: number, n1: number, bytes: number, from: number, from0: number, from1: number, to: number, to0: number, to1: number): void;
  // prettier-ignore
  transposeMatrices(n0: number, n1: number, rows: number, columns: number, from: number, from0: number, from1: number, row: number, to: number, to0: number, to1: number, toRow: number): void;
  addArrays: CombineArrays;
  subtractArrays: CombineArrays;
  multiplyArrays: CombineArrays;
  divideArrays: CombineArrays;
  largerOfArrays: CombineArrays;
  smallerOfArrays: CombineArrays;
  addWhole: CombineArrays;
  subtractWhole: CombineArrays;
  multiplyWhole: CombineArrays;
  compareArrays(op: number, ...rest: Parameters<CombineArrays>): void;
  combineBytes(either: boolean, n: number, a: number, b: number, to: number): void;
  chooseWords(n: number, bytes: number, x: number, y: number, to: number): void;
  runningSums(outer: number, rows: number, n: number, exclusive: boolean, reverse: boolean, x: number, to: number): void;
  exponentials: MapArray;
  hyperbolicTangents: MapArray;
  softplusses: MapArray;
  logarithms1p: MapArray;
  logarithms: MapArray;
  inverseRoots: MapArray;
  negatives: MapArray;
  squares: MapArray;
  errorFunctions: MapArray;
  sines: MapArray;
  cosines: MapArray;
  // prettier-ignore
  segmentSum(count: number, width: number, rows: number, ids: number, segments: number, sums: number): void;
  selectiveScanBytes(time: number, channels: number, states: number, backward: boolean): number;
  // prettier-ignore
  selectiveForward(batch: number, time: number, channels: number, states: number, u: number, delta: number, transition: number, b: number, c: number, skip: number, state: number, y: number, final: number, scratch: number): void;
  // prettier-ignore
  selectiveBackward(batch: number, time: number, channels: number, states: number, u: number, delta: number, transition: number, b: number, c: number, skip: number, state: number, dy: number, dFinal: number, gu: number, gDelta: number, gTransition: number, gb: number, gc: number, gSkip: number, gState: number, scratch: number): void;
  // prettier-ignore
  topRows(rows: number, width: number, k: number, input: number, values: number, indices: number): void;
  // prettier-ignore
  spreadRows(rows: number, width: number, k: number, upstream: number, indices: number, to: number): void;
  // prettier-ignore
  blockForwardBytes(t: number, s: number, dim: number, valueDim: number, keyBlock: number, share: number, queryBlock: number, entries: number): number;
  blockBackwardBytes(
    t: number,
    s: number,
    dim: number,
    valueDim: number,
    keyBlock: number,
    share: number,
    queryBlock: number,
    entries: number,
  ): number;
  // prettier-ignore
  blockForward(batch: number, t: number, s: number, heads: number, groups: number, dim: number, valueDim: number, queryBlock: number, keyBlock: number, chosen: number, scale: number, query: number, key: number, value: number, blocks: number, output: number, lse: number, scratch: number): void;
  // prettier-ignore
  blockBackward(batch: number, t: number, s: number, heads: number, groups: number, dim: number, valueDim: number, queryBlock: number, keyBlock: number, chosen: number, scale: number, query: number, key: number, value: number, blocks: number, output: number, lse: number, dOutput: number, dLse: number, gQuery: number, gKey: number, gValue: number, scratch: number): void;
  expertBytes(rows: number, experts: number, inner: number, outer: number): number;
  // prettier-ignore
  expertForward(rows: number, experts: number, inner: number, outer: number, input: number, ids: number, weight: number, output: number, scratch: number): void;
  // prettier-ignore
  expertBackward(rows: number, experts: number, inner: number, outer: number, input: number, ids: number, weight: number, dOutput: number, gInput: number, gWeight: number, scratch: number): void;
  sumRuns(rows: number, n: number, x: number, factor: number, to: number): void;
  sumMiddle(outer: number, rows: number, n: number, x: number, factor: number, to: number): void;
}

/** [n0][n1][n] results of a and b; `single` says which of them is one number for a run: 0 neither, 1 b, 2 a. */
// prettier-ignore
export type CombineArrays = (single: number, n0: number, n1: number, n: number, a: number, a0: number, a1: number, b: number, b0: number, b1: number, to: number) => void;

/** A function of each of n numbers. */
export type MapArray = (n: number, x: number, to: number) => void;
