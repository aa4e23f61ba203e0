import * as tf from '@tensorflow/tfjs-core';
import { checkIndices, checkSetting, checkTensor } from './check-tensor.ts';
import { defineKernel } from './define.ts';

/** Tensors that `softmaxCrossEntropy` reads. */
export type SoftmaxCrossEntropyInputs = {
  /** float32 [N, V] */
  readonly logits: tf.Tensor;
  /** int32 [N]; a negative label means that the row is ignored */
  readonly labels: tf.Tensor;
};

/** Settings of the `SoftmaxCrossEntropy` kernel, all present. */
export type SoftmaxCrossEntropyAttributes = {
  /** e in the formulas: the share of the target spread evenly over the vocabulary */
  readonly labelSmoothing: number;
  /** z in the formulas: weight of the squared log-sum-exp */
  readonly zLoss: number;
  /** c in `c * tanh(logit / c)`, applied first; null for none */
  readonly softCap: number | null;
};

const MECHANISM = 'softmax-cross-entropy';

function capped(logits: tf.Tensor, softCap: number | null): tf.Tensor {
  return softCap === null ? logits : tf.mul(tf.tanh(tf.div(logits, softCap)), softCap);
}

// 1 for rows that count, 0 for ignored ones, and the labels with ignored ones sent to 0
function split(labels: tf.Tensor): { counts: tf.Tensor; places: tf.Tensor } {
  const [rows] = labels.shape as [number];
  const counts = tf.cast(tf.greaterEqual(labels, tf.scalar(0, 'int32')), 'float32');
  const places = tf.stack([tf.range(0, rows, 1, 'int32'), tf.maximum(labels, tf.scalar(0, 'int32'))], 1); // [N, 2]
  return { counts, places };
}

/** The kernel contract behind `softmaxCrossEntropy`. */
export const softmaxCrossEntropyKernel = defineKernel<SoftmaxCrossEntropyInputs, SoftmaxCrossEntropyAttributes, 'loss' | 'logSumExp'>({
  name: 'SoftmaxCrossEntropy',
  outputs: ['loss', 'logSumExp'],
  composed({ logits, labels }, { labelSmoothing, zLoss, softCap }) {
    if (labels.size === 0) return { loss: tf.zeros([0]), logSumExp: tf.zeros([0]) };
    const raised = capped(logits, softCap);
    const top = tf.max(raised, 1, true);
    // the loss is taken relative to the row's maximum: at logits of 1e4 the log-sum-exp itself has lost three digits
    const shifted = tf.sub(raised, top);
    const spread = tf.log(tf.sum(tf.exp(shifted), 1));
    const logSumExp = tf.add(spread, tf.reshape(top, spread.shape));
    const { counts, places } = split(labels);
    let loss = tf.sub(spread, tf.mul(tf.gatherND(shifted, places), 1 - labelSmoothing));
    if (labelSmoothing > 0) loss = tf.sub(loss, tf.mul(tf.mean(shifted, 1), labelSmoothing));
    if (zLoss > 0) loss = tf.add(loss, tf.mul(tf.mul(logSumExp, logSumExp), zLoss));
    return { loss: tf.where(tf.cast(counts, 'bool'), loss, tf.zerosLike(loss)), logSumExp };
  },
  gradient: {
    inputs: ['logits'],
    needs: ['logSumExp'],
    composed({ logits, labels }, { logSumExp }, upstream, { labelSmoothing, zLoss, softCap }) {
      const [rows, vocabulary] = logits.shape as [number, number];
      if (rows === 0) return { logits: tf.zerosLike(logits) };
      const raised = capped(logits, softCap);
      const { counts, places } = split(labels);
      const dLoss = tf.mul(upstream.loss, counts);
      // d row = p * (d logSumExp + d loss * (1 + 2 z logSumExp)) - d loss * ((1 - e) onehot + e / V)
      const onSoftmax = zLoss > 0 ? tf.mul(dLoss, tf.add(tf.mul(logSumExp, 2 * zLoss), 1)) : dLoss;
      const weight = tf.reshape(tf.add(onSoftmax, upstream.logSumExp), [rows, 1]);
      let gradient = tf.mul(tf.softmax(raised as tf.Tensor2D), weight);
      gradient = tf.sub(gradient, tf.scatterND(places, tf.mul(dLoss, 1 - labelSmoothing), [rows, vocabulary]));
      if (labelSmoothing > 0) gradient = tf.sub(gradient, tf.reshape(tf.mul(dLoss, labelSmoothing / vocabulary), [rows, 1]));
      if (softCap !== null) {
        const bent = tf.div(raised, softCap);
        gradient = tf.mul(gradient, tf.sub(1, tf.mul(bent, bent)));
      }
      return { logits: gradient };
    },
  },
});

/**
 * Cross-entropy of a softmax against class labels, row by row, with the log-sum-exp beside it.
 *
 * With l = logits (or `c * tanh(logits / c)`) and lse = log(sum(exp(l))):
 * `loss = lse - (1 - e) * l[label] - e * mean(l) + z * lse^2`, and 0 where the label is negative.
 *
 * @param inputs `logits` float32 [N, V] and `labels` int32 [N], below V; a negative label means ignored
 * @param options `labelSmoothing` e (0), `zLoss` z (0), `softCap` c (null)
 * @returns `loss` [N] in nats, not averaged, and `logSumExp` [N] of every row, ignored ones too
 * @throws SeqLoomError when a shape, dtype or setting does not fit, or (on cpu and wasm) a label is V or more
 */
export function softmaxCrossEntropy(
  inputs: SoftmaxCrossEntropyInputs,
  options: Partial<SoftmaxCrossEntropyAttributes> = {},
): { loss: tf.Tensor; logSumExp: tf.Tensor } {
  const { labelSmoothing = 0, zLoss = 0, softCap = null } = options;
  const { logits, labels } = inputs;
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'logits', logits, ['rows?', 'vocabulary'], extents);
  checkTensor(MECHANISM, 'labels', labels, ['rows?'], extents, 'int32');
  checkIndices(MECHANISM, 'labels', labels, logits.shape[1]!);
  const smooth = labelSmoothing >= 0 && labelSmoothing < 1;
  checkSetting(MECHANISM, 'labelSmoothing', smooth, 'at least 0 and below 1', labelSmoothing, 'Use 0 for none.');
  checkSetting(MECHANISM, 'zLoss', zLoss >= 0 && Number.isFinite(zLoss), 'a finite number of at least 0', zLoss, 'Use 0 for none.');
  checkSetting(MECHANISM, 'softCap', softCap === null || softCap > 0, 'null or a positive number', softCap, 'Use null for none.');
  return softmaxCrossEntropyKernel.run({ logits, labels }, { labelSmoothing, zLoss, softCap });
}
