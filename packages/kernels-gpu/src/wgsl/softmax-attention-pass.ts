import type { TileNumbers } from './tuning.ts';

/** What one pass over attention tiles makes. */
export type TilePassKind = 'forward' | 'dQuery' | 'dKey' | 'dValue' | 'dBias' | 'dSlope';

/** One variant of the tile shader; every variant is a pipeline. */
export interface TilePass {
  readonly kind: TilePassKind;
  /** own rows of a workgroup over 8: 1, 2 or 4 */
  readonly tall: number;
  /** rows of the other tile over 8: 2, 4 or 8 */
  readonly wide: number;
  /** how keys and values lie in workgroup memory; all else are 32-bit floats */
  readonly numbers: TileNumbers;
  /** 32-channel columns of the result that a workgroup keeps in registers, 1 to 4; 0 for the kinds that keep none */
  readonly columns: number;
  /** optional tensors that are bound */
  readonly bound: { readonly [name in 'queryPositions' | 'keyPositions' | 'bias' | 'sinkLogits' | 'slopes']?: boolean };
  /** whether key blocks are listed per query block */
  readonly listed: boolean;
}

/** Invocations of a workgroup: 8 x 8, each with `tall` x `wide` scores. */
export const TILE_LANES = 64;
/** Numbers per query row in the statistics of the gradient: logSumExp, delta, position, slope. */
export const STATISTICS = 4;

/** Text for each of a count. */
export const each = (count: number, text: (index: number) => string, between = '\n'): string =>
  Array.from({ length: count }, (_, index) => text(index)).join(between);

/** Whether the workgroup's own tile are keys, and the other tiles, over which it walks, query rows. */
export function ownsKeys(kind: TilePassKind): boolean {
  return kind === 'dKey' || kind === 'dValue';
}

/** Which tensor the weights are multiplied with, its rows, and the extent of those. */
export const MULTIPLIED = {
  forward: ['value', 'keyRow', 'valueDim'],
  dQuery: ['key', 'keyRow', 'keyDim'],
  dKey: ['query', 'queryRow', 'keyDim'],
  dValue: ['dOutput', 'queryRow', 'valueDim'],
} as const;
