export { addBias } from './epilogue';
// the tiles and packers are exported so that they stay functions of their own: V8 optimises a function when it has been called often
export { setEdge, strip, stripColumns, stripRows, tileOne } from './tile';
export { batchGemm, dot, gemm, gemmPacked, gemmPackedTransposed, packBytes, packRows, packTransposed, vectorTimesRows } from './gemm';
export { chunkDecays, packKeyHat, prepareKeys, prepareQueries } from './linear-chunk';
export { addPiece, invertPiece, lowerPiece, readPiece } from './linear-pieces';
export { copyScaled, scaleByColumn, scaleByRow, sumProducts, transposePiece, writeRows as writeTensorRows } from './linear-rows';
export { addColumnsTimesRows, lowerProduct, pairStrip, rowsAndLowerTimes, rowsTimes } from './linear-tile';
export { linearForward, linearForwardBytes } from './linear-forward';
export { linearStep } from './linear-step';
export { linearKeptBytes } from './linear-kept';
export { touch, touchRows } from './memory';
export { linearBackward, linearBackwardBytes } from './linear-backward';
export { solveBackward, writeDecayGradient, writeKeyGradient, writeQueryGradient } from './linear-backward-products';
export {
  addBiases,
  attentionRule,
  capScores,
  copyRows,
  hideScores,
  onlineSoftmax,
  packPanels,
  writeRows,
} from './attention-tiles';
export { fewScores } from './attention-few';
export { attentionForward, attentionForwardBytes } from './attention-forward';
export { addBiasGradient, attentionBackward, attentionBackwardBytes, capBackward, clear, softmaxBackward } from './attention-backward';
export { rmsBackward, rmsForward } from './norm';
export { addRow, convolutionBackward, convolutionBytes, convolutionForward } from './convolution';
export { rotary } from './rotary';
export { crossEntropyBackward, crossEntropyForward, raise, sumExponentials } from './cross-entropy';
export { gatherRows, scatterAddRows } from './rows';
export { adamStep } from './optimiser';
export {
  complexScanBackward,
  complexScanForward,
  complexScanRow,
  complexScanRowBackward,
  scanBackward,
  scanForward,
  scanRow,
  scanRowBackward,
} from './scan';
export { copyRuns, transposeMatrices, transposeMatrix } from './copy';
export {
  addArrays,
  addWhole,
  divideArrays,
  largerOfArrays,
  multiplyArrays,
  multiplyWhole,
  smallerOfArrays,
  subtractArrays,
  subtractWhole,
} from './arithmetic';
export { chooseWords, combineBytes, compareArrays } from './comparison';
export {
  cosines,
  errorFunctions,
  exponentials,
  hyperbolicTangents,
  inverseRoots,
  logarithms,
  logarithms1p,
  negatives,
  sines,
  softplusses,
  squares,
} from './functions';
export { addManyRows, runningSums, sumMiddle, sumRows, sumRuns } from './reduction';
export { segmentSum } from './rows';
export { padRows, selectiveBackward, selectiveForward, selectiveKeep, selectiveMove, selectiveScanBytes, selectiveStep, selectiveStepBackward } from './selective-scan';
export { spreadRows, topRows } from './top-k';
export { blockForward, blockForwardBytes, readBlockScattered } from './block-attention';
export { blockBackward, blockBackwardBytes, readBlockBackward, readBlockScatteredBackward } from './block-attention-backward';
export { expertBackward, expertBytes, expertForward, gatherSorted, scatterSorted, sortByExpert } from './experts';
