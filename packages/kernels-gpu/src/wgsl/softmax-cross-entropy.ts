import { softmaxCrossEntropyKernel } from '@seqloom/core';
import type { SoftmaxCrossEntropyAttributes } from '@seqloom/core';
import { nanTest, workgroupMax, workgroupSum } from './functions.ts';
import { runWgsl } from './run.ts';
import { withSubgroups } from './source-cache.ts';

const LANES = 256;

const shared = (subgroups: boolean): string => `
${nanTest}
${workgroupSum(LANES, subgroups)}
${workgroupMax(LANES, subgroups)}
fn raised(place: u32) -> f32 {
  let value = logits[place];
  if (!hasCap || isNan(value)) { return value; }
  // tanh of large numbers overflows on some GPUs
  return uniforms.softCap * tanh(clamp(value / uniforms.softCap, -20.0, 20.0));
}
fn topOf(start: u32, lane: u32) -> f32 {
  var top = -3.4028234e38;
  for (var v = lane; v < uniforms.vocabulary; v += ${LANES}u) { top = max(top, raised(start + v)); }
  return workgroupMax(top, lane);
}
`;

const forwardSource = (subgroups: boolean): string => `
${shared(subgroups)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let start = group.x * uniforms.vocabulary;
  let top = topOf(start, lane);
  var weights = 0.0;
  var shifts = 0.0;
  for (var v = lane; v < uniforms.vocabulary; v += ${LANES}u) {
    let shifted = raised(start + v) - top;
    weights += exp(shifted);
    shifts += shifted;
  }
  let spread = log(workgroupSum(weights, lane));
  let total = workgroupSum(shifts, lane);
  if (lane > 0u) { return; }
  let lse = top + spread;
  // exp and max lose NaN on some devices, sums keep it
  logSumExp[group.x] = select(lse, total, isNan(total));
  let label = labels[group.x];
  if (label < 0) {
    loss[group.x] = 0.0;
    return;
  }
  // relative to the maximum: at logits of 1e4 the log-sum-exp itself has lost three digits
  let own = raised(start + min(u32(label), uniforms.vocabulary - 1u)) - top;
  var result = spread - (1.0 - uniforms.smoothing) * own + uniforms.zLoss * lse * lse;
  // a logit of minus infinity must not count where nothing is smoothed
  if (isSmooth) { result -= uniforms.smoothing * total / f32(uniforms.vocabulary); }
  loss[group.x] = select(result, total, isNan(total));
}
`;

const backwardSource = (subgroups: boolean): string => `
${shared(subgroups)}
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let row = group.x;
  let start = row * uniforms.vocabulary;
  // not from the log-sum-exp, for its lost digits
  let top = topOf(start, lane);
  var weights = 0.0;
  for (var v = lane; v < uniforms.vocabulary; v += ${LANES}u) { weights += exp(raised(start + v) - top); }
  let whole = workgroupSum(weights, lane);
  let label = labels[row];
  let lse = logSumExp[row];
  let dLoss = select(upstreamLoss[row], 0.0, label < 0);
  // d row = p * (d logSumExp + d loss * (1 + 2 z logSumExp)) - d loss * ((1 - e) onehot + e / V)
  let onSoftmax = (upstreamSum[row] + dLoss * (1.0 + 2.0 * uniforms.zLoss * lse)) / whole;
  for (var v = lane; v < uniforms.vocabulary; v += ${LANES}u) {
    let value = raised(start + v);
    var gradient = exp(value - top) * onSoftmax - dLoss * uniforms.smoothing / f32(uniforms.vocabulary);
    if (label >= 0 && u32(label) == v) { gradient -= dLoss * (1.0 - uniforms.smoothing); }
    if (hasCap) {
      let bent = value / uniforms.softCap;
      gradient *= 1.0 - bent * bent;
    }
    dLogits[start + v] = select(gradient, lse, isNan(lse));
  }
}
`;

const settingsOf = ({ labelSmoothing, zLoss, softCap }: SoftmaxCrossEntropyAttributes) => ({
  floats: { smoothing: labelSmoothing, zLoss, softCap: softCap ?? 1 },
  constants: { hasCap: softCap !== null, isSmooth: labelSmoothing > 0 },
});

/**
 * Installs the fused `SoftmaxCrossEntropy`; returns the way back.
 *
 * Forward: one dispatch, a workgroup of 256 per row: 2 V loads (the second from cache), V exponentials, 2 KiB of workgroup memory. Gradient: one
 * dispatch in the same manner: 3 V loads, 2 V exponentials. No buffer of the size of the logits but the gradient itself.
 * With subgroup operations a quarter of that memory, and two barriers per sum or maximum rather than ten.
 */
export function implementSoftmaxCrossEntropy(label: string): () => void {
  return softmaxCrossEntropyKernel.implement({
    backend: 'webgpu',
    label,
    forward({ inputs, attributes, backend }) {
      const [rows, vocabulary] = inputs.logits.shape as [number, number];
      return runWgsl(backend, {
        name: 'SoftmaxCrossEntropy',
        ...withSubgroups('SoftmaxCrossEntropy', backend, forwardSource),
        workgroupSize: [LANES],
        workgroups: [rows],
        inputs: { logits: inputs.logits, labels: inputs.labels },
        outputs: { loss: { shape: [rows] }, logSumExp: { shape: [rows] } },
        integers: { vocabulary },
        ...settingsOf(attributes),
      });
    },
    gradient({ inputs, saved, upstream, attributes, backend }) {
      const [rows, vocabulary] = inputs.logits.shape as [number, number];
      const { dLogits } = runWgsl(backend, {
        name: 'SoftmaxCrossEntropyGrad',
        ...withSubgroups('SoftmaxCrossEntropyGrad', backend, backwardSource),
        workgroupSize: [LANES],
        workgroups: [rows],
        inputs: {
          logits: inputs.logits,
          labels: inputs.labels,
          logSumExp: saved.logSumExp,
          upstreamLoss: upstream.loss,
          upstreamSum: upstream.logSumExp,
        },
        outputs: { dLogits: { shape: inputs.logits.shape } },
        integers: { vocabulary },
        ...settingsOf(attributes),
      });
      return { logits: dLogits };
    },
  });
}
