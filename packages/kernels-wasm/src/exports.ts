/** What the WebAssembly module exports; every pointer and stride is in bytes, an absent tensor is 0. */
export interface KernelExports {
  setEdge(pointer: number): void;
  packBytes(n: number, k: number): number;
  // prettier-ignore
  gemm(m: number, n: number, k: number, a: number, lda: number, transposeA: boolean, b: number, ldb: number, transposeB: boolean, c: number, ldc: number, alpha: number, accumulate: boolean, pack: number): void;
  // prettier-ignore
  batchGemm(batch: number, m: number, n: number, k: number, a: number, strideA: number, lda: number, transposeA: boolean, b: number, strideB: number, ldb: number, transposeB: boolean, c: number, strideC: number, ldc: number, pack: number): void;
  addBias(rows: number, n: number, x: number, bias: number, floor: number): void;
  linearForwardBytes(keyDim: number, valueDim: number, group: number): number;
  // prettier-ignore
  linearForward(batch: number, length: number, heads: number, group: number, keyDim: number, valueDim: number, mode: number, scale: number, query: number, key: number, value: number, decay: number, beta: number, initial: number, output: number, final: number, scratch: number): void;
  linearBackwardBytes(keyDim: number, valueDim: number, length: number, delta: boolean): number;
  // prettier-ignore
  linearBackward(batch: number, length: number, heads: number, group: number, keyDim: number, valueDim: number, mode: number, scale: number, query: number, key: number, value: number, decay: number, beta: number, initial: number, dOutput: number, dFinal: number, gQuery: number, gKey: number, gValue: number, gDecay: number, gBeta: number, gInitial: number, scratch: number): void;
  clear(pointer: number, bytes: number): void;
  attentionRule(causal: boolean, window: number, dilation: number, sinks: number, prefix: number, softCap: number): void;
  attentionForwardBytes(t: number, s: number, dim: number, valueDim: number): number;
  // prettier-ignore
  attentionForward(batch: number, t: number, s: number, heads: number, groups: number, dim: number, valueDim: number, scale: number, query: number, key: number, value: number, queryPositions: number, keyPositions: number, bias: number, biasBatch: number, biasHead: number, sinkLogits: number, slopes: number, output: number, lse: number, scratch: number): void;
  attentionBackwardBytes(t: number, s: number, dim: number, valueDim: number): number;
  // prettier-ignore
  attentionBackward(batch: number, t: number, s: number, heads: number, groups: number, dim: number, valueDim: number, scale: number, query: number, key: number, value: number, queryPositions: number, keyPositions: number, bias: number, biasBatch: number, biasHead: number, sinkLogits: number, slopes: number, output: number, lse: number, dOutput: number, dLse: number, gQuery: number, gKey: number, gValue: number, gBias: number, gSinks: number, gSlopes: number, scratch: number): void;
}
