import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** loss = lse - (1 - e) l[label] - e mean(l) + z lse^2 (0 where the label is negative) and lse per row, in double precision. */
export function naiveSoftmaxCrossEntropy(
  inputs: { logits: Array64; labels: Array64 },
  settings: { labelSmoothing?: number; zLoss?: number; softCap?: number | null } = {},
): { loss: Array64; logSumExp: Array64 } {
  const { labelSmoothing = 0, zLoss = 0, softCap = null } = settings;
  const [rows, vocabulary] = inputs.logits.shape as [number, number];
  const loss = array64([rows]);
  const logSumExp = array64([rows]);
  for (let row = 0; row < rows; row++) {
    const logits = inputs.logits.data
      .slice(row * vocabulary, (row + 1) * vocabulary)
      .map((logit) => (softCap === null ? logit : softCap * Math.tanh(logit / softCap)));
    const top = Math.max(...logits);
    const lse = top + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - top), 0));
    logSumExp.data[row] = lse;
    const label = inputs.labels.data[row]!;
    if (label < 0) continue;
    const mean = logits.reduce((sum, logit) => sum + logit, 0) / vocabulary;
    loss.data[row] = lse - (1 - labelSmoothing) * logits[label]! - labelSmoothing * mean + zLoss * lse * lse;
  }
  return { loss, logSumExp };
}
