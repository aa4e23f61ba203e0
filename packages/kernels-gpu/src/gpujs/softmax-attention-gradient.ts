import { softCapText } from './activation.ts';
import type { GpujsArray } from './array.ts';
import { attendBackwards, cotangentViews } from './attention-passes.ts';
import type { AttentionCotangents, GradientRows, PieceGradients } from './attention-passes.ts';
import { fromKeyRows, rowKinds, uprightProducts, rowText, rowValues, tileExtents } from './attention-tiles.ts';
import type { Tiling } from './attention-tiles.ts';
import { joinSteps } from './concat.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Steps, Value } from './program.ts';
import type { Gpujs } from './run.ts';
import { arrangeSoftmaxAttention } from './softmax-attention.ts';
import type { SoftmaxAttentionInputs, SoftmaxAttentionOptions } from './softmax-attention.ts';
import { keyBlocks, placeKinds, placeText, placeValues } from './softmax-attention-scores.ts';
import type { AttentionSettings, KeyBlock } from './softmax-attention-scores.ts';

const ofProducts = kernelSource(
  'softmaxAttention.ofProducts',
  { ofScore: 'Input', product: 'Input', scale: 'Float', cap: 'Float' },
  `const bare = scale * product[this.thread.z][this.thread.y][this.thread.x];
  ${softCapText('limited', 'bare', 'cap')}
  return limitedSlope * ofScore[this.thread.z][this.thread.y][this.thread.x];`,
);

const ofBias = variants((first: boolean) =>
  kernelSource(
    'softmaxAttention.ofBias',
    {
      ofScore: 'Input',
      gradient: !first && 'Input',
      start: 'Integer',
      count: 'Integer',
      groups: 'Integer',
      share: 'Integer',
      biasHeads: 'Integer',
      batchSum: 'Integer',
      headSum: 'Integer',
    },
    `const bb = Math.floor((this.thread.z + 0.5) / biasHeads);
    const bh = this.thread.z - bb * biasHeads;
    const column = this.thread.x - start;
    let sum = ${first ? '0.0' : 'gradient[this.thread.z][this.thread.y][this.thread.x]'};
    if (column >= 0 && column < count) {
      for (let i = 0; i < batchSum; i++) {
        for (let j = 0; j < headSum; j++) {
          const h = bh + j;
          const g = Math.floor((h + 0.5) / share);
          sum += ofScore[(bb + i) * groups + g][this.thread.y * share + h - g * share][column];
        }
      }
    }
    return sum;`,
  ),
);

const ofSlopeRows = variants((first: boolean, queryPositions: boolean, keyPositions: boolean) =>
  kernelSource(
    'softmaxAttention.ofSlopeRows',
    {
      ofScore: 'Input',
      sums: !first && 'Input',
      start: 'Integer',
      count: 'Integer',
      ...placeKinds({ queryPositions, keyPositions }),
      ...rowKinds,
    },
    `${rowText('this.thread.x', 'this.thread.y')}
    let sum = ${first ? '0.0' : 'sums[0][this.thread.y][this.thread.x]'};
    for (let i = 0; i < count; i++) {
      const column = start + i;
      ${placeText({ queryPositions, keyPositions })}
      sum -= gap * ofScore[this.thread.y][this.thread.x][i];
    }
    return sum;`,
  ),
);

/** Sums of something per row over time, [H, B, 1]; of the sink logits' gradients themselves where these are given. */
const headSums = variants((sink: boolean) =>
  kernelSource(
    'softmaxAttention.headSums',
    { rows: 'Input', sinkLogits: sink && 'Input', logSumExp: sink && 'Input', time: 'Integer', groups: 'Integer', share: 'Integer' },
    `const h = this.thread.x;
    const b = this.thread.y;
    const g = Math.floor((h + 0.5) / share);
    let sum = 0.0;
    for (let i = 0; i < time; i++) {
      ${
        sink
          ? `let top = logSumExp[b][i][h];
      if (top < -1e29) { top = -1e29; }
      sum -= Math.exp(sinkLogits[0][0][h] - top) * rows[0][b * groups + g][i * share + h - g * share];`
          : 'sum += rows[0][b * groups + g][i * share + h - g * share];'
      }
    }
    return sum;`,
  ),
);

const batchSums = kernelSource(
  'softmaxAttention.batchSums',
  { perBatch: 'Input', batch: 'Integer' },
  `let sum = 0.0;
  for (let i = 0; i < batch; i++) { sum += perBatch[0][i][this.thread.x]; }
  return sum;`,
);

function* sumPerHead(
  rows: Value,
  { batch, heads, groups, share, time }: Tiling,
  sinks: readonly [] | readonly [sinkLogits: Value, logSumExp: Value],
): Steps<Value> {
  const perBatch = yield* step(headSums(sinks.length > 0), [heads, batch, 1], [rows, ...sinks, time, groups, share]);
  return yield* step(batchSums, [heads, 1, 1], [perBatch, batch]);
}

const backward: Program<AttentionSettings> = function* (inputs, settings) {
  const { batch, time, keys, heads, groups, share, scale, softCap, biasBatch, biasHeads } = settings;
  const { bias, slopes, sinkLogits, logSumExp, queryPositions, keyPositions } = inputs;
  const [height, tiles] = tileExtents(settings);
  const pieces = { key: [] as Value[], value: [] as Value[] };
  const sums: { bias?: Value; slopeRows?: Value } = {};
  const slope =
    softCap === null
      ? null
      : (ofScore: Value, product: Value): Steps<Value> => step(ofProducts, product.extents, [ofScore, product, scale, softCap]);
  const collect = function* ({ start, count, range }: KeyBlock, found: PieceGradients, sources: GradientRows): Steps<void> {
    pieces.key.push(yield* uprightProducts(found.ofProduct, sources.query, range));
    pieces.value.push(yield* uprightProducts(found.weight, sources.cotangent, range));
    if (bias) {
      const shared = [biasBatch === 1 ? batch : 1, biasHeads === 1 ? heads : 1];
      const values = [found.ofScore, sums.bias, start, count, groups, share, biasHeads, ...shared];
      sums.bias = yield* step(ofBias(!sums.bias), [keys, time, biasBatch * biasHeads], values);
    }
    if (slopes) {
      const source = ofSlopeRows(!sums.slopeRows, queryPositions !== undefined, keyPositions !== undefined);
      const values = [found.ofScore, sums.slopeRows, start, count, ...placeValues(inputs, settings), ...rowValues(settings)];
      sums.slopeRows = yield* step(source, [height, tiles, 1], values);
    }
  };
  const { query, agreement } = yield* attendBackwards(inputs, settings, keyBlocks(inputs, settings), scale, slope, collect);
  return {
    query,
    key: yield* fromKeyRows(yield* joinSteps(pieces.key), settings, scale),
    value: yield* fromKeyRows(yield* joinSteps(pieces.value), settings, 1),
    ...(sums.bias && { bias: sums.bias }),
    ...(sinkLogits && { sinkLogits: yield* sumPerHead(agreement, settings, [sinkLogits, logSumExp!]) }),
    ...(sums.slopeRows && { slopes: yield* sumPerHead(sums.slopeRows, settings, []) }),
  };
};

/** Inputs of `softmaxAttentionGradient`. */
export interface SoftmaxAttentionGradientInputs extends SoftmaxAttentionInputs, AttentionCotangents {}

/**
 * Gradients of `softmaxAttention`: the weights are computed again from the log-sum-exp, block of keys by block of keys.
 *
 * Only the gradient of a bias is as large as the bias, T times S.
 *
 * @returns query, key and value, and bias, sinkLogits and slopes where they are given, in the shapes of the inputs
 * @throws SeqLoomError when a shape or an option does not fit
 */
export async function softmaxAttentionGradient(
  gpujs: Gpujs,
  inputs: SoftmaxAttentionGradientInputs,
  options: SoftmaxAttentionOptions = {},
): Promise<Record<'query' | 'key' | 'value', GpujsArray> & Partial<Record<'bias' | 'sinkLogits' | 'slopes', GpujsArray>>> {
  const { views, settings } = arrangeSoftmaxAttention(inputs, options);
  const all = { ...views, ...cotangentViews('softmaxAttentionGradient', inputs, settings) };
  const gradients = await gpujs.run({ kernel: 'softmaxAttentionGradient', inputs: all, settings, program: backward }, options);
  const { query, key, value, bias, sinkLogits, slopes } = inputs;
  return {
    query: { shape: query.shape, data: gradients.query! },
    key: { shape: key.shape, data: gradients.key! },
    value: { shape: value.shape, data: gradients.value! },
    ...(bias && { bias: { shape: bias.shape, data: gradients.bias! } }),
    ...(sinkLogits && { sinkLogits: { shape: sinkLogits.shape, data: gradients.sinkLogits! } }),
    ...(slopes && { slopes: { shape: slopes.shape, data: gradients.slopes! } }),
  };
}
