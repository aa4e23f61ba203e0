import { softCapText } from './activation.ts';
import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { wholeNumbers } from './check.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `softmaxCrossEntropy`. */
export interface SoftmaxCrossEntropyInputs {
  /** [N, V] */
  readonly logits: GpujsArray;
  /** N labels below V; negative ones are ignored */
  readonly labels: Int32Array;
}

/** Options of `softmaxCrossEntropy`. */
export interface SoftmaxCrossEntropyOptions extends Placement {
  readonly labelSmoothing?: number;
  readonly zLoss?: number;
  readonly softCap?: number | null;
}

interface Settings {
  readonly rows: number;
  readonly vocabulary: number;
  readonly smoothing: number;
  readonly zLoss: number;
  readonly softCap: number | null;
}

/** Statements that set `value` (and `valueSlope`) to the logit at `at`, capped. */
const readLogit = (capped: boolean, at: string): string =>
  capped ? `const bare = logits[0][row][${at}];\n    ${softCapText('value', 'bare', 'cap')}` : `const value = logits[0][row][${at}];`;

const sums = variants((capped: boolean) =>
  kernelSource(
    'softmaxCrossEntropy.logSumExp',
    { logits: 'Input', vocabulary: 'Integer', cap: capped && 'Float' },
    `const row = this.thread.x;
    let top = logits[0][row][0];
    for (let i = 0; i < vocabulary; i++) { top = Math.max(top, logits[0][row][i]); }
    ${capped ? `${softCapText('topValue', 'top', 'cap')}\n    top = topValue;` : ''}
    let sum = 0;
    for (let j = 0; j < vocabulary; j++) {
      ${readLogit(capped, 'j')}
      sum += Math.exp(value - top);
    }
    return top + Math.log(sum);`,
  ),
);

const losses = variants((capped: boolean) =>
  kernelSource(
    'softmaxCrossEntropy.loss',
    {
      logits: 'Input',
      labels: 'Input',
      logSumExp: 'Input',
      vocabulary: 'Integer',
      smoothing: 'Float',
      zLoss: 'Float',
      cap: capped && 'Float',
    },
    `const row = this.thread.x;
    const label = labels[0][0][row];
    const lse = logSumExp[0][0][row];
    let loss = 0.0;
    if (label >= 0) {
      let total = 0.0;
      if (smoothing > 0) {
        for (let i = 0; i < vocabulary; i++) {
          ${readLogit(capped, 'i')}
          total += value;
        }
      }
      ${readLogit(capped, 'label').replaceAll('value', 'chosen').replaceAll('bare', 'bareChosen')}
      loss = lse - (1 - smoothing) * chosen - smoothing * total / vocabulary + zLoss * lse * lse;
    }
    return loss;`,
  ),
);

const ofLogits = variants((capped: boolean, ofLogSumExp: boolean) =>
  kernelSource(
    'softmaxCrossEntropy.ofLogits',
    {
      logits: 'Input',
      labels: 'Input',
      logSumExp: 'Input',
      cotangent: 'Input',
      logSumExpCotangent: ofLogSumExp && 'Input',
      vocabulary: 'Integer',
      smoothing: 'Float',
      zLoss: 'Float',
      cap: capped && 'Float',
    },
    `const row = this.thread.y;
    const column = this.thread.x;
    const label = labels[0][0][row];
    const lse = logSumExp[0][0][row];
    ${readLogit(capped, 'column')}
    let ofLoss = cotangent[0][0][row];
    if (label < 0) { ofLoss = 0.0; }
    let onSoftmax = ofLoss * (1 + 2 * zLoss * lse);
    ${ofLogSumExp ? 'onSoftmax = onSoftmax + logSumExpCotangent[0][0][row];' : ''}
    let slope = Math.exp(value - lse) * onSoftmax - ofLoss * smoothing / vocabulary;
    if (Math.abs(label - column) < 0.5) { slope = slope - ofLoss * (1 - smoothing); }
    ${capped ? 'slope = slope * valueSlope;' : ''}
    return slope;`,
  ),
);

const forward: Program<Settings> = function* ({ logits, labels }, { rows, vocabulary, smoothing, zLoss, softCap }) {
  const capped = softCap !== null;
  const cap = softCap ?? undefined;
  const logSumExp = yield* step(sums(capped), [rows, 1, 1], [logits, vocabulary, cap]);
  const values = [logits, labels, logSumExp, vocabulary, smoothing, zLoss, cap];
  return { loss: yield* step(losses(capped), [rows, 1, 1], values), logSumExp };
};

const backward: Program<Settings> = function* (inputs, { rows, vocabulary, smoothing, zLoss, softCap }) {
  const { logits, labels, logSumExp, cotangent, logSumExpCotangent } = inputs;
  const values = [logits, labels, logSumExp, cotangent, logSumExpCotangent, vocabulary, smoothing, zLoss, softCap ?? undefined];
  return { logits: yield* step(ofLogits(softCap !== null, logSumExpCotangent !== undefined), [vocabulary, rows, 1], values) };
};

function arrange(inputs: SoftmaxCrossEntropyInputs, options: SoftmaxCrossEntropyOptions) {
  const { logits, labels } = inputs;
  const { labelSmoothing = 0, zLoss = 0, softCap = null } = options;
  checkArray('softmaxCrossEntropy', 'logits', logits, [null, null]);
  const [rows, vocabulary] = logits.shape as [number, number];
  const numbers = wholeNumbers('softmaxCrossEntropy', 'labels', labels, { count: rows, least: -Infinity, below: vocabulary });
  return {
    views: { logits: view(logits, vocabulary, rows), labels: view(numbers, rows) },
    settings: { rows, vocabulary, smoothing: labelSmoothing, zLoss, softCap },
  };
}

/**
 * Cross entropy of labels under softmax: lse - (1 - e) l[label] - e mean(l) + z lse^2 per row, 0 where the label is negative.
 *
 * One thread per row reads the vocabulary twice: well filled only from some thousands of rows on.
 *
 * @returns loss [N] and logSumExp [N]
 * @throws SeqLoomError when the shapes do not fit or a label is not below V
 */
export async function softmaxCrossEntropy(
  gpujs: Gpujs,
  inputs: SoftmaxCrossEntropyInputs,
  options: SoftmaxCrossEntropyOptions = {},
): Promise<{ loss: GpujsArray; logSumExp: GpujsArray }> {
  const { views, settings } = arrange(inputs, options);
  const { loss, logSumExp } = await gpujs.run({ kernel: 'softmaxCrossEntropy', inputs: views, settings, program: forward }, options);
  return { loss: { shape: [settings.rows], data: loss! }, logSumExp: { shape: [settings.rows], data: logSumExp! } };
}

/** Inputs of `softmaxCrossEntropyGradient`. */
export interface SoftmaxCrossEntropyGradientInputs extends SoftmaxCrossEntropyInputs {
  /** [N], as the forward kernel gave it */
  readonly logSumExp: GpujsArray;
  /** gradient of the loss, [N] */
  readonly cotangent: GpujsArray;
  /** gradient of `logSumExp`, [N]; zeros when left out */
  readonly logSumExpCotangent?: GpujsArray | undefined;
}

/**
 * Gradient of `softmaxCrossEntropy` by the logits: p (d lse + d loss (1 + 2 z lse)) - d loss ((1 - e) onehot + e / V).
 *
 * @returns logits [N, V]
 * @throws SeqLoomError when the shapes do not fit or a label is not below V
 */
export async function softmaxCrossEntropyGradient(
  gpujs: Gpujs,
  inputs: SoftmaxCrossEntropyGradientInputs,
  options: SoftmaxCrossEntropyOptions = {},
): Promise<{ logits: GpujsArray }> {
  const { views, settings } = arrange(inputs, options);
  const { rows } = settings;
  const { logSumExp, cotangent, logSumExpCotangent } = inputs;
  const perRow = { logSumExp, cotangent, ...(logSumExpCotangent && { logSumExpCotangent }) };
  for (const [name, array] of Object.entries(perRow)) checkArray('softmaxCrossEntropyGradient', name, array, [rows]);
  const all = { ...views, ...Object.fromEntries(Object.entries(perRow).map(([name, array]) => [name, view(array, rows)])) };
  const { logits } = await gpujs.run({ kernel: 'softmaxCrossEntropyGradient', inputs: all, settings, program: backward }, options);
  return { logits: { shape: inputs.logits.shape, data: logits! } };
}
