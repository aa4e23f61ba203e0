import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.ts';
import { shareData } from './tfjs-copy.ts';
import type { Replacement } from './tfjs-kernels.ts';

interface Group {
  extent: number;
  readonly reduced: boolean;
}

/** The shape as groups of axes that are all summed over or all kept. */
function groupAxes(shape: readonly number[], axes: readonly number[]): Group[] {
  const groups: Group[] = [];
  shape.forEach((extent, axis) => {
    if (extent === 1) return;
    const reduced = axes.includes(axis);
    const before = groups.at(-1);
    if (before && before.reduced === reduced) before.extent *= extent;
    else groups.push({ extent, reduced });
  });
  return groups;
}

/** Sums over the last reduced group first, through scratch while more than one is left. */
function reduce(heap: Heap, groups: readonly Group[], from: number, factor: number, to: number): void {
  const last = groups.findLastIndex((group) => group.reduced);
  const before = groups.slice(0, last);
  const outer = before.reduce((product, { extent }) => product * extent, 1);
  const rows = groups[last]!.extent;
  const inner = groups[last + 1]?.extent ?? 1;
  const step = (scale: number, target: number): void => {
    if (inner === 1) heap.kernels.sumRuns(outer, rows, from, scale, target);
    else heap.kernels.sumMiddle(outer, rows, inner, from, scale, target);
  };
  if (before.every(({ reduced }) => !reduced)) return step(factor, to);
  heap.scratch(4 * outer * inner, (scratch) => {
    step(1, scratch);
    const left = before.map((group) => ({ ...group }));
    // what was before and behind the group are neighbours now
    if (inner > 1 && left.at(-1)!.reduced) left.push({ extent: inner, reduced: false });
    else left.at(-1)!.extent *= inner;
    reduce(heap, left, scratch, factor, to);
  });
}

/** The sum or mean of a float32 tensor over axes, in the shape given. */
export function reduceAxes(heap: Heap, x: tf.TensorInfo, axes: readonly number[], shape: readonly number[], mean: boolean): tf.TensorInfo {
  const groups = groupAxes(x.shape, axes);
  if (groups.every(({ reduced }) => !reduced)) return shareData(heap.backend, x, shape);
  const count = groups.reduce((product, { extent, reduced }) => (reduced ? product * extent : product), 1);
  const output = heap.output(shape);
  reduce(heap, groups, heap.pointer(x), mean ? 1 / count : 1, heap.pointer(output));
  return output;
}

/** A sum, or with `mean` the mean, over any axes of a float32 array. */
function reduction(mean: boolean): Replacement {
  return (call, heap, original) => {
    const x = call.inputs['x']!;
    const { axis, keepDims } = call.attrs as { axis: number | number[]; keepDims: boolean };
    if (x.dtype !== 'float32' || x.shape.some((extent) => extent === 0)) return original(call);
    const axes = tf.util.parseAxisParam(axis, x.shape);
    const shape = keepDims
      ? x.shape.map((extent, index) => (axes.includes(index) ? 1 : extent))
      : x.shape.filter((_, index) => !axes.includes(index));
    return reduceAxes(heap, x, axes, shape, mean);
  };
}

/** Running sums; tfjs-wasm reads out of bounds at a negative axis. */
const cumulativeSum: Replacement = (call, heap, original) => {
  const x = call.inputs['x']!;
  const { axis, exclusive, reverse } = call.attrs as { axis: number; exclusive: boolean; reverse: boolean };
  const along = tf.util.parseAxisParam(axis, x.shape)[0]!;
  if (x.dtype !== 'float32' || x.shape.some((extent) => extent === 0)) return original({ ...call, attrs: { ...call.attrs, axis: along } });
  const extent = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
  const output = heap.output(x.shape);
  const sizes = [extent(x.shape.slice(0, along)), x.shape[along] ?? 1, extent(x.shape.slice(along + 1))] as const;
  heap.kernels.runningSums(...sizes, exclusive, reverse, heap.pointer(x), heap.pointer(output));
  return output;
};

/** tfjs-wasm's own, which is wrong at a negative axis. */
const cumulativeProduct: Replacement = (call, _heap, original) =>
  original({ ...call, attrs: { ...call.attrs, axis: tf.util.parseAxisParam(call.attrs['axis'] as number, call.inputs['x']!.shape)[0]! } });

/** Sums over axes of float32 arrays; other dtypes stay with tfjs. */
export const reductionReplacements: Readonly<Record<string, Replacement>> = {
  Sum: reduction(false),
  Mean: reduction(true),
  Cumsum: cumulativeSum,
  Cumprod: cumulativeProduct,
};
