import { view } from './array.ts';
import type { GpujsArray, HostArray } from './array.ts';
import { attendBackwards, cotangentViews } from './attention-passes.ts';
import type { AttentionCotangents, GradientRows, PieceGradients } from './attention-passes.ts';
import { fromKeyRows, productText, tileExtents } from './attention-tiles.ts';
import { arrangeBlockAttention, chosenBlocks } from './block-attention.ts';
import type { BlockAttentionInputs, BlockAttentionOptions, BlockAttentionSettings, ChosenBlock } from './block-attention.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Steps, Value } from './program.ts';
import type { Gpujs } from './run.ts';

/** Sums over the rows of the query blocks that chose a key's block in one place of their lists. */
const ofChosen = variants((first: boolean) =>
  kernelSource(
    'blockAttention.ofChosen',
    {
      weight: 'Input',
      source: 'Input',
      order: 'Input',
      starts: 'Input',
      gradient: !first && 'Input',
      slot: 'Integer',
      keyBlock: 'Integer',
      queryBlocks: 'Integer',
      fours: 'Integer',
      rest: 'Integer',
    },
    `const bg = this.thread.z;
    const block = Math.floor((this.thread.y + 0.5) / keyBlock);
    const place = this.thread.y - block * keyBlock;
    const start = starts[bg][slot][block];
    const count = starts[bg][slot][block + 1] - start;
    let sum = ${first ? '0.0' : 'gradient[bg][this.thread.y][this.thread.x]'};
    for (let n = 0; n < count; n++) {
      const tile = bg * queryBlocks + order[bg][slot][start + n];
      ${productText(
        (row) => `weight[tile][${row}][place]`,
        (row) => `source[tile][this.thread.x][${row}]`,
      )}
    }
    return sum;`,
  ),
);

const backward: Program<BlockAttentionSettings> = function* (inputs, settings) {
  const { batch, groups, keys, width, valueWidth, keyBlock, queryBlocks, scale } = settings;
  const { order, starts } = inputs;
  const [height] = tileExtents(settings);
  const sums: { key?: Value; value?: Value } = {};
  const collect = function* ({ slot }: ChosenBlock, found: PieceGradients, sources: GradientRows): Steps<void> {
    const numbers = [slot, keyBlock, queryBlocks, height - (height % 4), height % 4];
    const ofKey = [found.ofProduct, sources.query, order, starts, sums.key, ...numbers];
    sums.key = yield* step(ofChosen(!sums.key), [width, keys, batch * groups], ofKey);
    const ofValue = [found.weight, sources.cotangent, order, starts, sums.value, ...numbers];
    sums.value = yield* step(ofChosen(!sums.value), [valueWidth, keys, batch * groups], ofValue);
  };
  const { query } = yield* attendBackwards(inputs, settings, chosenBlocks(inputs, settings), scale, null, collect);
  return {
    query,
    key: yield* fromKeyRows(sums.key!, settings, scale),
    value: yield* fromKeyRows(sums.value!, settings, 1),
  };
};

/**
 * The lists the other way round: per place of the lists, the query blocks in the order of the key blocks that they chose there, and where the
 * query blocks of each key block start.
 *
 * @param blocks [B G, queryBlocks, K]
 * @returns order [B G, K, queryBlocks] and starts [B G, K, key blocks + 1]
 */
function choosers(blocks: Int32Array, { batch, groups, queryBlocks, chosen, keys, keyBlock }: BlockAttentionSettings) {
  const keyBlocks = Math.ceil(keys / keyBlock);
  const rows = batch * groups;
  const order = new Float32Array(rows * chosen * queryBlocks);
  const starts = new Float32Array(rows * chosen * (keyBlocks + 1));
  for (let row = 0; row < rows; row++) {
    for (let slot = 0; slot < chosen; slot++) {
      const block = (query: number): number => blocks[(row * queryBlocks + query) * chosen + slot]!;
      const [list, from] = [row * chosen + slot, (row * chosen + slot) * (keyBlocks + 1)];
      const next = new Int32Array(keyBlocks + 1);
      for (let query = 0; query < queryBlocks; query++) if (block(query) >= 0) next[block(query) + 1]!++;
      for (let key = 1; key <= keyBlocks; key++) next[key]! += next[key - 1]!;
      starts.set(next, from);
      for (let query = 0; query < queryBlocks; query++) {
        if (block(query) >= 0) order[list * queryBlocks + next[block(query)]!++] = query;
      }
    }
  }
  const host = (data: Float32Array): HostArray => ({ shape: [data.length], data });
  return {
    order: view(host(order), queryBlocks, chosen, rows),
    starts: view(host(starts), keyBlocks + 1, chosen, rows),
  };
}

/** Inputs of `blockAttentionGradient`. */
export interface BlockAttentionGradientInputs extends BlockAttentionInputs, AttentionCotangents {}

/**
 * Gradients of `blockAttention`: the weights are computed again from the log-sum-exp, place by place of the lists.
 *
 * A key's gradient is a sum over the query blocks that chose its block, found from the lists beforehand, so nothing is scattered.
 *
 * @returns query, key and value, in the shapes of the inputs
 * @throws SeqLoomError when a shape, an option or a block index does not fit
 */
export async function blockAttentionGradient(
  gpujs: Gpujs,
  inputs: BlockAttentionGradientInputs,
  options: BlockAttentionOptions,
): Promise<{ query: GpujsArray; key: GpujsArray; value: GpujsArray }> {
  const { views, settings } = arrangeBlockAttention(inputs, options);
  const all = { ...views, ...choosers(inputs.blocks, settings), ...cotangentViews('blockAttentionGradient', inputs, settings) };
  const gradients = await gpujs.run({ kernel: 'blockAttentionGradient', inputs: all, settings, program: backward }, options);
  const { query, key, value } = inputs;
  return {
    query: { shape: query.shape, data: gradients.query! },
    key: { shape: key.shape, data: gradients.key! },
    value: { shape: value.shape, data: gradients.value! },
  };
}
