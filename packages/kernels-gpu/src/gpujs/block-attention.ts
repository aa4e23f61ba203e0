import { fail } from '@seqloom/core/error';
import { view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { attend, unseen } from './attention-passes.ts';
import type { KeyPiece } from './attention-passes.ts';
import { attentionViews, rowKinds, rowText, rowValues, tileExtents, tilingOf } from './attention-tiles.ts';
import type { AttentionInputs, Tiling } from './attention-tiles.ts';
import { checkCount, wholeNumbers } from './check.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Values } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `blockAttention`. */
export interface BlockAttentionInputs extends AttentionInputs {
  /** key blocks that each query block reads, [B, G, ceil(T / queryBlock), K]; -1 for none, each block at most once */
  readonly blocks: Int32Array;
}

/** Options of `blockAttention`, as in the contract; the block lengths have no default. */
export interface BlockAttentionOptions extends Placement {
  /** tokens per query block */
  readonly queryBlock: number;
  /** tokens per key block */
  readonly keyBlock: number;
  /** D^-0.5 by default */
  readonly scale?: number;
  /** a query sees only keys up to its own position, i + S - T; default false */
  readonly causal?: boolean;
}

/** Everything that a plan of block attention depends on. */
export interface BlockAttentionSettings extends Tiling {
  readonly scale: number;
  readonly causal: boolean;
  readonly keyBlock: number;
  /** K, key blocks per query block */
  readonly chosen: number;
}

const chosenRows = variants((upright: boolean) =>
  kernelSource(
    'blockAttention.chosenRows',
    {
      source: 'Input',
      blocks: 'Input',
      slot: 'Integer',
      keyBlock: 'Integer',
      keys: 'Integer',
      groups: 'Integer',
      queryBlocks: 'Integer',
      width: 'Integer',
    },
    `const bg = Math.floor((this.thread.z + 0.5) / queryBlocks);
    const b = Math.floor((bg + 0.5) / groups);
    const block = blocks[bg][this.thread.z - bg * queryBlocks][slot];
    const column = block * keyBlock + ${upright ? 'this.thread.x' : 'this.thread.y'};
    let value = 0.0;
    if (block >= 0 && column < keys) { value = source[b][column][(bg - b * groups) * width + ${upright ? 'this.thread.y' : 'this.thread.x'}]; }
    return value;`,
  ),
);

const scores = variants((causal: boolean, wanted: 'score' | 'weight') =>
  kernelSource(
    'blockAttention.scores',
    {
      product: 'Input',
      blocks: 'Input',
      logSumExp: wanted === 'weight' && 'Input',
      scale: 'Float',
      slot: 'Integer',
      keyBlock: 'Integer',
      keys: 'Integer',
      time: 'Integer',
      ...rowKinds,
    },
    `${rowText('this.thread.y', 'this.thread.z')}
    const block = blocks[bg][this.thread.z - bg * queryBlocks][slot];
    const column = block * keyBlock + this.thread.x;
    let visible = 1.0;
    if (block < 0 || t >= time || column >= keys) { visible = 0.0; }
    ${causal ? 'if (column > t + keys - time) { visible = 0.0; }' : ''}
    let result = ${wanted === 'score' ? unseen : '0.0'};
    if (visible > 0.5) {
      result = scale * product[this.thread.z][this.thread.y][this.thread.x];
      ${wanted === 'weight' ? 'result = Math.exp(result - logSumExp[b][t][h]);' : ''}
    }
    return result;`,
  ),
);

/** The keys of the block that every query block has chosen in one place of its list. */
export interface ChosenBlock extends KeyPiece {
  readonly slot: number;
}

/** The chosen blocks, place by place. */
export function chosenBlocks(inputs: Values, settings: BlockAttentionSettings): ChosenBlock[] {
  const { keys, time, groups, queryBlocks, keyBlock, chosen, scale, causal } = settings;
  const { blocks } = inputs;
  const [height, tiles] = tileExtents(settings);
  const count = Math.min(keyBlock, keys);
  return Array.from({ length: chosen }, (_, slot) => ({
    slot,
    range: [0, height] as const,
    *rows(source, upright) {
      const width = source.extents[0] / groups;
      const [x, y] = upright ? [count, width] : [width, count];
      return yield* step(chosenRows(upright), [x, y, tiles], [source, blocks, slot, keyBlock, keys, groups, queryBlocks, width]);
    },
    *scores(product, logSumExp) {
      const values = [product, blocks, logSumExp, scale, slot, keyBlock, keys, time, ...rowValues(settings)];
      return yield* step(scores(causal, logSumExp ? 'weight' : 'score'), product.extents, values);
    },
  }));
}

const forward: Program<BlockAttentionSettings> = (inputs, settings) => attend(inputs, settings, chosenBlocks(inputs, settings));

/** Checks inputs and options, fills in the defaults and sees the arrays as the kernels do. */
export function arrangeBlockAttention(
  inputs: BlockAttentionInputs,
  options: BlockAttentionOptions,
): { views: Record<'query' | 'key' | 'value' | 'blocks', View>; settings: BlockAttentionSettings } {
  const { queryBlock, keyBlock, causal = false } = options;
  checkCount('blockAttention', 'options.queryBlock', queryBlock);
  checkCount('blockAttention', 'options.keyBlock', keyBlock);
  const tiling = tilingOf('blockAttention', inputs, queryBlock);
  const { batch, groups, queryBlocks, keys, width } = tiling;
  const { scale = width ** -0.5 } = options;
  if (!Number.isFinite(scale)) {
    const [wanted, given] = ['a finite number', String(scale)];
    fail({ mechanism: 'blockAttention', argument: 'options.scale', wanted, given, remedy: 'Leave it out for D^-0.5.' });
  }
  const lists = batch * groups * queryBlocks;
  const chosen = Math.max(1, Math.floor(inputs.blocks.length / lists));
  const range = { count: lists * chosen, least: -1, below: Math.ceil(keys / keyBlock) };
  const blocks = wholeNumbers('blockAttention', 'blocks', inputs.blocks, range);
  return {
    views: { ...attentionViews(inputs, tiling), blocks: view(blocks, chosen, queryBlocks, batch * groups) },
    settings: { ...tiling, scale, causal, keyBlock, chosen },
  };
}

/**
 * Softmax attention in which each block of queries reads a list of key blocks (MoBA, NSA, Quest and other block-sparse attention).
 *
 * output_i = sum_j softmax_j(scale q_i . k_j) v_j over the keys j of the blocks listed for the block of i, per key head; with `causal` only keys
 * up to position i + S - T. Place by place of the lists, with a running maximum and sum: memory is of the order B H T keyBlock.
 *
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H]; a query without keys gives 0 and -Infinity
 * @throws SeqLoomError when a shape, an option or a block index does not fit
 */
export async function blockAttention(
  gpujs: Gpujs,
  inputs: BlockAttentionInputs,
  options: BlockAttentionOptions,
): Promise<{ output: GpujsArray; logSumExp: GpujsArray }> {
  const { views, settings } = arrangeBlockAttention(inputs, options);
  const results = await gpujs.run({ kernel: 'blockAttention', inputs: views, settings, program: forward }, options);
  const { batch, time, heads, valueWidth } = settings;
  return {
    output: { shape: [batch, time, heads, valueWidth], data: results.output! },
    logSumExp: { shape: [batch, time, heads], data: results.logSumExp! },
  };
}
