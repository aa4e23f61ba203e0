import { fail } from '@seqloom/core/error';
import { softmaxAttentionAttributes } from '@seqloom/core/softmax-attention';
import type { SoftmaxAttentionOptions as ContractOptions } from '@seqloom/core/softmax-attention';
import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { attend } from './attention-passes.ts';
import { attentionViews, tilingOf } from './attention-tiles.ts';
import type { AttentionInputs } from './attention-tiles.ts';
import type { Program } from './program.ts';
import type { Gpujs, Placement } from './run.ts';
import { keyBlocks } from './softmax-attention-scores.ts';
import type { AttentionSettings } from './softmax-attention-scores.ts';

/** Inputs of `softmaxAttention`. */
export interface SoftmaxAttentionInputs extends AttentionInputs {
  /** [B, T] whole numbers; i + S - T when left out */
  readonly queryPositions?: GpujsArray | undefined;
  /** [B, S] whole numbers, -1 where a key does not exist; j when left out */
  readonly keyPositions?: GpujsArray | undefined;
  /** [1 or B, 1 or H, T, S], added after scale and soft cap; -Infinity hides a key */
  readonly bias?: GpujsArray | undefined;
  /** [H], one more logit in the denominator that carries no value */
  readonly sinkLogits?: GpujsArray | undefined;
  /** [H], ALiBi: adds -slope |query position - key position| */
  readonly slopes?: GpujsArray | undefined;
}

/** Options of `softmaxAttention`: those of the contract. `blockSize` is 128 when left out, and counts keys only; memory is of the order B H T blockSize. */
export interface SoftmaxAttentionOptions extends ContractOptions, Placement {}

const forward: Program<AttentionSettings> = (inputs, settings) => attend(inputs, settings, keyBlocks(inputs, settings));

/** Checks inputs and options, fills in the defaults and sees the arrays as the kernels do. */
export function arrangeSoftmaxAttention(
  inputs: SoftmaxAttentionInputs,
  options: SoftmaxAttentionOptions,
): { views: Record<string, View | undefined>; settings: AttentionSettings } {
  const tiling = tilingOf('softmaxAttention', inputs);
  const { batch, time, keys, heads, width } = tiling;
  const { queryPositions, keyPositions, bias, sinkLogits, slopes } = inputs;
  const check = (argument: keyof SoftmaxAttentionInputs, wanted: readonly (number | null)[]): void => {
    const array = inputs[argument];
    if (array) checkArray('softmaxAttention', argument, array, wanted);
  };
  check('queryPositions', [batch, time]);
  check('keyPositions', [batch, keys]);
  check('bias', [null, null, time, keys]);
  check('sinkLogits', [heads]);
  check('slopes', [heads]);
  const [biasBatch, biasHeads] = (bias?.shape ?? [1, 1]) as [number, number];
  if ((biasBatch !== 1 && biasBatch !== batch) || (biasHeads !== 1 && biasHeads !== heads)) {
    const [wanted, given] = [`[1 or ${batch}, 1 or ${heads}, ${time}, ${keys}]`, `[${bias!.shape.join(', ')}]`];
    fail({ mechanism: 'softmaxAttention', argument: 'bias', wanted, given, remedy: 'Give the bias per row and head, or once for all.' });
  }
  const attributes = softmaxAttentionAttributes(options, {
    headDim: width,
    queryPositions: queryPositions !== undefined,
    blockSize: 128,
  });
  return {
    views: {
      ...attentionViews(inputs, tiling),
      queryPositions: queryPositions && view(queryPositions, time, batch),
      keyPositions: keyPositions && view(keyPositions, keys, batch),
      bias: bias && view(bias, keys, time, biasBatch * biasHeads),
      sinkLogits: sinkLogits && view(sinkLogits, heads),
      slopes: slopes && view(slopes, heads),
    },
    settings: { ...tiling, ...attributes, biasBatch, biasHeads },
  };
}

/**
 * Softmax attention, online over blocks of keys in one plan: no buffer of T times S numbers.
 *
 * s_ij = cap(scale q_i k_j) - slope |p_i - p_j| + bias_ij over the visible keys; output_i = sum_j e^(s_ij - logSumExp_i) v_j,
 * logSumExp_i = ln(sum_j e^(s_ij) + e^sink). As in the contract, with all of its options.
 *
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H]; a row that sees no key gives 0 and -Infinity (or its sink logit)
 * @throws SeqLoomError when a shape or an option does not fit
 */
export async function softmaxAttention(
  gpujs: Gpujs,
  inputs: SoftmaxAttentionInputs,
  options: SoftmaxAttentionOptions = {},
): Promise<{ output: GpujsArray; logSumExp: GpujsArray }> {
  const { views, settings } = arrangeSoftmaxAttention(inputs, options);
  const results = await gpujs.run({ kernel: 'softmaxAttention', inputs: views, settings, program: forward }, options);
  const { batch, time, heads, valueWidth } = settings;
  return {
    output: { shape: [batch, time, heads, valueWidth], data: results.output! },
    logSumExp: { shape: [batch, time, heads], data: results.logSumExp! },
  };
}
