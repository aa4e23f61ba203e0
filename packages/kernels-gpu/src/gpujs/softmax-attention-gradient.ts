import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { joinSteps } from './concat.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Value } from './program.ts';
import type { Gpujs } from './run.ts';
import { arrangeAttention, blockStarts, placeText, scoreSteps } from './softmax-attention.ts';
import type { AttentionSettings, SoftmaxAttentionInputs, SoftmaxAttentionOptions } from './softmax-attention.ts';

const agreements = kernelSource(
  'softmaxAttention.agreements',
  { output: 'Input', cotangent: 'Input', heads: 'Integer', valueWidth: 'Integer' },
  `const b = Math.floor((this.thread.y + 0.5) / heads);
  const start = (this.thread.y - b * heads) * valueWidth;
  let sum = 0.0;
  for (let i = 0; i < valueWidth; i++) {
    sum += output[b][this.thread.x][start + i] * cotangent[b][this.thread.x][start + i];
  }
  return sum;`,
);

const probabilities = kernelSource(
  'softmaxAttention.probabilities',
  { score: 'Input', logSumExp: 'Input', heads: 'Integer' },
  `const b = Math.floor((this.thread.z + 0.5) / heads);
  const value = score[this.thread.z][this.thread.y][this.thread.x];
  let weight = Math.exp(value - logSumExp[b][this.thread.y][this.thread.z - b * heads]);
  if (value < -1e29) { weight = 0.0; }
  return weight;`,
);

const ofScores = variants((capped: boolean) =>
  kernelSource(
    'softmaxAttention.ofScores',
    {
      weight: 'Input',
      value: 'Input',
      cotangent: 'Input',
      agreement: 'Input',
      slope: capped && 'Input',
      start: 'Integer',
      heads: 'Integer',
      groups: 'Integer',
      valueWidth: 'Integer',
      scale: 'Float',
    },
    `${placeText}
    const z = this.thread.z;
    let sum = -agreement[0][z][row];
    for (let i = 0; i < valueWidth; i++) {
      sum += cotangent[b][row][head * valueWidth + i] * value[b][start + this.thread.x][group * valueWidth + i];
    }
    return scale * weight[z][row][this.thread.x] * sum${capped ? ' * slope[z][row][this.thread.x]' : ''};`,
  ),
);

const ofQuery = variants((first: boolean) =>
  kernelSource(
    'softmaxAttention.ofQuery',
    {
      ofScore: 'Input',
      key: 'Input',
      gradient: !first && 'Input',
      start: 'Integer',
      count: 'Integer',
      heads: 'Integer',
      groups: 'Integer',
      width: 'Integer',
    },
    `const head = Math.floor((this.thread.x + 0.5) / width);
    const group = Math.floor((head * groups + 0.5) / heads);
    const channel = this.thread.x - head * width + group * width;
    const b = this.thread.z;
    const z = b * heads + head;
    let sum = ${first ? '0.0' : 'gradient[b][this.thread.y][this.thread.x]'};
    for (let i = 0; i < count; i++) { sum += ofScore[z][this.thread.y][i] * key[b][start + i][channel]; }
    return sum;`,
  ),
);

/** Sums over the queries and over the heads that share a key: dk from dscore and q, dv from the weights and the cotangent. */
const ofKeyOrValue = kernelSource(
  'softmaxAttention.ofKeyOrValue',
  { weight: 'Input', source: 'Input', time: 'Integer', heads: 'Integer', shared: 'Integer', width: 'Integer' },
  `const b = this.thread.z;
  const group = Math.floor((this.thread.x + 0.5) / width);
  const channel = this.thread.x - group * width;
  let sum = 0.0;
  for (let i = 0; i < shared; i++) {
    const head = group * shared + i;
    for (let j = 0; j < time; j++) {
      sum += weight[b * heads + head][j][this.thread.y] * source[b][j][head * width + channel];
    }
  }
  return sum;`,
);

const backward: Program<AttentionSettings> = function* (inputs, settings) {
  const { batch, time, keys, heads, groups, width, valueWidth, scale, softCap, blockSize } = settings;
  const { query, key, value, output, logSumExp, cotangent } = inputs;
  const capped = softCap > 0;
  const agreement = yield* step(agreements, [time, batch * heads, 1], [output, cotangent, heads, valueWidth]);
  const keyPieces: Value[] = [];
  const valuePieces: Value[] = [];
  let gradient: Value | undefined;
  for (const start of blockStarts(settings)) {
    const count = Math.min(blockSize, keys - start);
    const score = yield* scoreSteps(inputs, settings, start);
    const weight = yield* step(probabilities, score.extents, [score, logSumExp, heads]);
    const slope = capped ? yield* scoreSteps(inputs, settings, start, 'slope') : undefined;
    const values = [weight, value, cotangent, agreement, slope, start, heads, groups, valueWidth, scale];
    const ofScore = yield* step(ofScores(capped), score.extents, values);
    const queryValues = [ofScore, key, gradient, start, count, heads, groups, width];
    gradient = yield* step(ofQuery(start === 0), [heads * width, time, batch], queryValues);
    const shared = heads / groups;
    keyPieces.push(yield* step(ofKeyOrValue, [groups * width, count, batch], [ofScore, query, time, heads, shared, width]));
    valuePieces.push(yield* step(ofKeyOrValue, [groups * valueWidth, count, batch], [weight, cotangent, time, heads, shared, valueWidth]));
  }
  return { query: gradient!, key: yield* joinSteps(keyPieces), value: yield* joinSteps(valuePieces) };
};

/** Inputs of `softmaxAttentionGradient`. */
export interface SoftmaxAttentionGradientInputs extends SoftmaxAttentionInputs {
  /** [B, T, H, Dv], as `softmaxAttention` gave it */
  readonly output: GpujsArray;
  /** [B, T, H], as `softmaxAttention` gave it */
  readonly logSumExp: GpujsArray;
  /** gradient of the output [B, T, H, Dv] */
  readonly cotangent: GpujsArray;
}

/**
 * Gradients of `softmaxAttention`: the weights are computed again from the log-sum-exp, block of keys by block of keys.
 *
 * A gradient of the log-sum-exp itself is not taken into account.
 *
 * @returns query, key and value, in the shapes of the inputs
 */
export async function softmaxAttentionGradient(
  gpujs: Gpujs,
  inputs: SoftmaxAttentionGradientInputs,
  options: SoftmaxAttentionOptions = {},
): Promise<{ query: GpujsArray; key: GpujsArray; value: GpujsArray }> {
  const { views, settings } = arrangeAttention(inputs, options);
  const { batch, time, heads, valueWidth } = settings;
  const { query, key, value, output, logSumExp, cotangent } = inputs;
  checkArray('softmaxAttentionGradient', 'output', output, [batch, time, heads, valueWidth]);
  checkArray('softmaxAttentionGradient', 'logSumExp', logSumExp, [batch, time, heads]);
  checkArray('softmaxAttentionGradient', 'cotangent', cotangent, output.shape);
  const all = {
    ...views,
    output: view(output, heads * valueWidth, time, batch),
    logSumExp: view(logSumExp, heads, time, batch),
    cotangent: view(cotangent, heads * valueWidth, time, batch),
  };
  const gradients = await gpujs.run({ kernel: 'softmaxAttentionGradient', inputs: all, settings, program: backward }, options);
  return {
    query: { shape: query.shape, data: gradients.query! },
    key: { shape: key.shape, data: gradients.key! },
    value: { shape: value.shape, data: gradients.value! },
  };
}
