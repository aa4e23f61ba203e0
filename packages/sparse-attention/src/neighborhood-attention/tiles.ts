import { axisRange } from './axes.ts';
import type { NeighborhoodAxis } from './axes.ts';

/** Tiles of neighbouring queries, each with the box of keys that at least one of them sees. */
export interface TilePlan {
  /** tokens in all, N */
  readonly size: number;
  readonly tiles: number;
  /** queries per tile, t */
  readonly queries: number;
  /** keys per tile, S */
  readonly keys: number;
  /** token of each query slot [tiles * t]; a slot too many repeats another token */
  readonly queryRows: Int32Array;
  /** token of each key slot [tiles * S] */
  readonly keyRows: Int32Array;
  /** 1 where the query of a slot sees the key of a slot [tiles * t * S] */
  readonly seen: Uint8Array;
}

/**
 * Cuts a grid into tiles: per axis and residue class runs of queries, over all axes their products.
 *
 * A tile of t queries along an axis needs t + w - 1 keys, so what is computed in vain stays a small factor whatever the length.
 *
 * @param shape extents of the grid
 * @param axes what a query sees along each
 */
export function tilePlan(shape: readonly number[], axes: readonly NeighborhoodAxis[]): TilePlan {
  // few queries per tile waste fewer keys, many use wider products; tiles of two and three axes are products of short ones
  const least = [16, 4, 2][shape.length - 1]!;
  return shape.map((length, axis) => axisTiles(length, axes[axis]!, least)).reduce(product);
}

function axisTiles(length: number, axis: NeighborhoodAxis, least: number): TilePlan {
  const { window, dilation, stride } = axis;
  const wanted = Math.max(Math.ceil(window / 2), least);
  // a whole number of stride groups per tile shares their windows
  const queries = Math.min(Math.ceil(wanted / stride) * stride, Math.ceil(length / dilation));
  const runs: number[][] = [];
  for (let residue = 0; residue < Math.min(dilation, length); residue++) {
    const members = Math.ceil((length - residue) / dilation);
    for (let from = 0; from < members; from += queries) {
      runs.push(Array.from({ length: queries }, (_, i) => residue + dilation * Math.min(from + i, members - 1)));
    }
  }
  const ranges = runs.map((run) => run.map((token) => axisRange(axis, length, token)));
  const first = ranges.map((tile) => Math.min(...tile.map(({ start }) => start)));
  const keys = Math.max(...ranges.map((tile, at) => Math.max(...tile.map(({ end }) => end)) - first[at]!));
  const keyRows = new Int32Array(runs.length * keys);
  const seen = new Uint8Array(runs.length * queries * keys);
  ranges.forEach((tile, at) => {
    const { residue } = tile[0]!;
    const last = Math.ceil((length - residue) / dilation) - 1;
    for (let k = 0; k < keys; k++) keyRows[at * keys + k] = residue + dilation * Math.min(first[at]! + k, last);
    tile.forEach(({ start, end }, i) =>
      seen.fill(1, (at * queries + i) * keys + start - first[at]!, (at * queries + i) * keys + end - first[at]!),
    );
  });
  return { size: length, tiles: runs.length, queries, keys, queryRows: Int32Array.from(runs.flat()), keyRows, seen };
}

/** The tiles of a grid from those of its outer axes and of its innermost one. */
function product(outer: TilePlan, inner: TilePlan): TilePlan {
  const [tiles, queries, keys] = [outer.tiles * inner.tiles, outer.queries * inner.queries, outer.keys * inner.keys];
  const rows = (a: Int32Array, b: Int32Array, perA: number, perB: number): Int32Array => {
    const joined = new Int32Array(tiles * perA * perB);
    let at = 0;
    for (let i = 0; i < outer.tiles; i++)
      for (let j = 0; j < inner.tiles; j++)
        for (let p = 0; p < perA; p++) for (let r = 0; r < perB; r++) joined[at++] = a[i * perA + p]! * inner.size + b[j * perB + r]!;
    return joined;
  };
  const seen = new Uint8Array(tiles * queries * keys);
  let at = 0;
  for (let i = 0; i < outer.tiles; i++)
    for (let j = 0; j < inner.tiles; j++)
      for (let p = 0; p < outer.queries; p++)
        for (let r = 0; r < inner.queries; r++)
          for (let k = 0; k < outer.keys; k++) {
            const row = (j * inner.queries + r) * inner.keys;
            if (outer.seen[(i * outer.queries + p) * outer.keys + k]) seen.set(inner.seen.subarray(row, row + inner.keys), at);
            at += inner.keys;
          }
  return {
    size: outer.size * inner.size,
    tiles,
    queries,
    keys,
    queryRows: rows(outer.queryRows, inner.queryRows, outer.queries, inner.queries),
    keyRows: rows(outer.keyRows, inner.keyRows, outer.keys, inner.keys),
    seen,
  };
}
