import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { checkDivides } from './check.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Steps, Value } from './program.ts';

/** Inputs that all attention has. */
export interface AttentionInputs {
  /** [B, T, H, D] */
  readonly query: GpujsArray;
  /** [B, S, G, D]; G divides H, query head h reads key head floor(h G / H) */
  readonly key: GpujsArray;
  /** [B, S, G, Dv] */
  readonly value: GpujsArray;
}

/**
 * How the rows of an attention call are cut into tiles.
 *
 * Tile z = (b G + g) queryBlocks + q holds the query block q of the heads that share key head g: row y = i share + r is token
 * q queryBlock + i of head g share + r. So every product is one of whole tiles, summing over heads comes by itself, and all indices in loops are
 * whole numbers, which in WebAssembly take half the time of those computed in float32.
 */
export interface Tiling {
  readonly batch: number;
  readonly time: number;
  readonly keys: number;
  readonly heads: number;
  readonly groups: number;
  /** heads per key head */
  readonly share: number;
  readonly width: number;
  readonly valueWidth: number;
  /** tokens per query block; all of them in softmax attention */
  readonly queryBlock: number;
  readonly queryBlocks: number;
}

/** Checks query, key and value and works out the tiling. */
export function tilingOf(mechanism: string, { query, key, value }: AttentionInputs, queryBlock?: number): Tiling {
  checkArray(mechanism, 'query', query, [null, null, null, null]);
  const [batch, time, heads, width] = query.shape as [number, number, number, number];
  checkArray(mechanism, 'key', key, [batch, null, null, width]);
  const [, keys, groups] = key.shape as [number, number, number, number];
  checkArray(mechanism, 'value', value, [batch, keys, groups, null]);
  checkDivides(mechanism, 'heads of key', groups, heads);
  const block = queryBlock ?? time;
  const sizes = { batch, time, keys, heads, groups, width, valueWidth: value.shape[3]! };
  return { ...sizes, share: heads / groups, queryBlock: block, queryBlocks: Math.ceil(time / block) };
}

/** The views of query, key and value. */
export function attentionViews({ query, key, value }: AttentionInputs, tiling: Tiling): Record<'query' | 'key' | 'value', View> {
  const { batch, time, keys, heads, groups, width, valueWidth } = tiling;
  return {
    query: view(query, heads * width, time, batch),
    key: view(key, groups * width, keys, batch),
    value: view(value, groups * valueWidth, keys, batch),
  };
}

/** Rows of a tile, and tiles. */
export function tileExtents({ batch, groups, share, queryBlock, queryBlocks }: Tiling): readonly [rows: number, tiles: number] {
  return [share * queryBlock, batch * groups * queryBlocks];
}

/** Kinds of the numbers that `rowText` reads, and their values. */
export const rowKinds = { queryBlock: 'Integer', queryBlocks: 'Integer', groups: 'Integer', share: 'Integer' } as const;

/** The values of `rowKinds`. */
export function rowValues({ queryBlock, queryBlocks, groups, share }: Tiling): number[] {
  return [queryBlock, queryBlocks, groups, share];
}

/** Statements that find the token `t`, the batch row `b`, the key head `g` and the head `h` of a tile's row. */
export function rowText(row: string, tile: string): string {
  return `const bg = Math.floor((${tile} + 0.5) / queryBlocks);
    const inBlock = Math.floor((${row} + 0.5) / share);
    const t = (${tile} - bg * queryBlocks) * queryBlock + inBlock;
    const b = Math.floor((bg + 0.5) / groups);
    const g = bg - b * groups;
    const h = g * share + ${row} - inBlock * share;`;
}

const rows = variants((upright: boolean) =>
  kernelSource(
    'attention.tileRows',
    { source: 'Input', time: 'Integer', width: 'Integer', ...rowKinds },
    `const channel = ${upright ? 'this.thread.y' : 'this.thread.x'};
    ${rowText(upright ? 'this.thread.x' : 'this.thread.y', 'this.thread.z')}
    let value = 0.0;
    if (t < time) { value = source[b][t][h * width + channel]; }
    return value;`,
  ),
);

/**
 * Queries, or what has their layout, in tiles.
 *
 * @param source [H W, T, B]
 * @returns [W, rows, tiles], or with `upright` [rows, W, tiles]; 0 past the last token
 */
export function* tileRows(source: Value, tiling: Tiling, upright = false): Steps<Value> {
  const width = source.extents[0] / tiling.heads;
  const [height, tiles] = tileExtents(tiling);
  const extents = upright ? ([height, width, tiles] as const) : ([width, height, tiles] as const);
  return yield* step(rows(upright), extents, [source, tiling.time, width, ...rowValues(tiling)]);
}

const queryTokens = variants((shared: boolean) =>
  kernelSource(
    'attention.queryTokens',
    { tile: 'Input', weight: shared && 'Input', width: 'Integer', factor: 'Float', ...rowKinds },
    `const h = Math.floor((this.thread.x + 0.5) / width);
    const g = Math.floor((h + 0.5) / share);
    const q = Math.floor((this.thread.y + 0.5) / queryBlock);
    const z = (this.thread.z * groups + g) * queryBlocks + q;
    const row = (this.thread.y - q * queryBlock) * share + h - g * share;
    return factor * tile[z][row][this.thread.x - h * width]${shared ? ' * weight[0][z][row]' : ''};`,
  ),
);

/**
 * The inverse of `tileRows`, times a factor, and a weight per row where one is given.
 *
 * @param tile [W, rows, tiles]
 * @param weight [rows, tiles, 1]
 * @returns [H W, T, B]
 */
export function* fromTileRows(tile: Value, tiling: Tiling, factor: number, weight?: Value): Steps<Value> {
  const width = tile.extents[0];
  const values = [tile, weight, width, factor, ...rowValues(tiling)];
  return yield* step(queryTokens(weight !== undefined), [tiling.heads * width, tiling.time, tiling.batch], values);
}

const keyTokens = kernelSource(
  'attention.keyTokens',
  { tile: 'Input', groups: 'Integer', width: 'Integer', factor: 'Float' },
  `const g = Math.floor((this.thread.x + 0.5) / width);
  return factor * tile[this.thread.z * groups + g][this.thread.y][this.thread.x - g * width];`,
);

/** From [W, S, B G] to [G W, S, B], times a factor. */
export function* fromKeyRows(tile: Value, { groups, keys, batch }: Tiling, factor: number): Steps<Value> {
  const width = tile.extents[0];
  return yield* step(keyTokens, [groups * width, keys, batch], [tile, groups, width, factor]);
}

/**
 * Statements that add up left times right over `fours` (a multiple of four) and `rest` more places into `sum`.
 *
 * The factor that differs from lane to lane stands first, in a statement of its own: WebAssembly then needs fewer registers, and a quarter less
 * time than with sums of four products.
 */
export function productText(left: (place: string) => string, right: (place: string) => string): string {
  const term = (place: string): string => `sum += ${right(place)} * ${left(place)};`;
  return `for (let i = 0; i < fours; i += 4) { ${['i', 'i + 1', 'i + 2', 'i + 3'].map(term).join(' ')} }
    for (let j = 0; j < rest; j++) { ${term('fours + j')} }`;
}

const products = variants((base: 'none' | 'sum' | 'faded', upright: boolean, later: boolean) =>
  kernelSource(
    'attention.product',
    {
      left: 'Input',
      right: 'Input',
      base: base !== 'none' && 'Input',
      oldTop: base === 'faded' && 'Input',
      top: base === 'faded' && 'Input',
      first: (!upright || later) && 'Integer',
      end: !upright && 'Integer',
      fours: 'Integer',
      rest: 'Integer',
    },
    `const x = this.thread.x;
    const y = this.thread.y;
    const z = this.thread.z;
    let sum = ${{ none: '0.0', sum: 'base[z][y][x]', faded: 'base[z][y][x] * Math.exp(oldTop[0][z][y] - top[0][z][y])' }[base]};
    ${
      upright
        ? productText(
            (place) => `left[z][${later ? 'first + ' : ''}${place}][y]`,
            (place) => `right[z][x][${later ? 'first + ' : ''}${place}]`,
          )
        : `if (y >= first && y < end) {
      ${productText(
        (place) => `left[z][y][${place}]`,
        (place) => `right[z][x][${place}]`,
      )}
    }`
    }
    return sum;`,
  ),
);

/** The first row that takes part, and the one after the last: the others of a tile are left out, as they see no key of the piece. */
export type RowRange = readonly [first: number, end: number];

/** What a product is added to: a value, and what it fades by while the maximum of its row grows. */
export interface ProductBase {
  readonly sum?: Value | undefined;
  readonly oldTop?: Value | undefined;
  readonly top?: Value | undefined;
}

/**
 * Products of the rows of two tiles, summed over their inner axis: result[z, y, x] = sum_i left[z, y, i] right[z, x, i].
 *
 * @param left [N, Y, Z]
 * @param right [N, X, Z]
 * @param range rows y that are computed; the others keep their base
 * @returns [X, Y, Z]
 */
export function* rowProducts(left: Value, right: Value, [first, end]: RowRange, { sum, oldTop, top }: ProductBase = {}): Steps<Value> {
  const [inner, x, z] = right.extents;
  const base = sum ? (oldTop ? 'faded' : 'sum') : 'none';
  const values = [left, right, sum, sum && oldTop, sum && oldTop && top, first, end, inner - (inner % 4), inner % 4];
  return yield* step(products(base, false, false), [x, left.extents[1], z], values);
}

/**
 * Products of two tiles, summed over their rows: result[z, y, x] = sum_i left[z, i, y] right[z, x, i].
 *
 * @param left [Y, N, Z]
 * @param right [N, X, Z]
 * @param range rows i that are summed over
 * @returns [X, Y, Z]
 */
export function* uprightProducts(left: Value, right: Value, [first, end]: RowRange): Steps<Value> {
  const [, x, z] = right.extents;
  const count = Math.max(0, end - first);
  const later = first > 0 && count > 0;
  const values = [left, right, later ? first : undefined, count - (count % 4), count % 4];
  return yield* step(products('none', true, later), [x, left.extents[0], z], values);
}
