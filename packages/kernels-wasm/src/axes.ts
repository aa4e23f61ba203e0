/** One axis of a loop over several arrays: how many steps, and each array's stride (0: it stays where it is). */
export interface Axis {
  readonly extent: number;
  readonly strides: readonly number[];
}

/** Row-major strides, in elements. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1]! * shape[axis + 1]!;
  return strides;
}

/** Strides of `shape` within the shape `to` that it is broadcast to: 0 along the axes where it repeats. */
export function broadcastStrides(shape: readonly number[], to: readonly number[]): number[] {
  const own = stridesOf(shape);
  const missing = to.length - shape.length;
  return to.map((_, axis) => (axis < missing || shape[axis - missing] === 1 ? 0 : own[axis - missing]!));
}

/** Drops axes of extent 1 and joins neighbours that all arrays walk through as one. */
export function mergeAxes(axes: readonly Axis[]): Axis[] {
  const merged: Axis[] = [];
  for (const axis of axes) {
    if (axis.extent === 1) continue;
    const before = merged.at(-1);
    if (before && before.strides.every((stride, array) => stride === axis.strides[array]! * axis.extent)) {
      merged[merged.length - 1] = { extent: before.extent * axis.extent, strides: axis.strides };
    } else merged.push(axis);
  }
  return merged;
}

/** Calls `visit` with every array's offset at each place of the axes. */
export function visitPlaces(axes: readonly Axis[], arrays: number, visit: (offsets: readonly number[]) => void): void {
  const walk = (depth: number, offsets: readonly number[]): void => {
    const axis = axes[depth];
    if (!axis) return visit(offsets);
    for (let place = 0; place < axis.extent; place++)
      walk(
        depth + 1,
        offsets.map((offset, array) => offset + place * axis.strides[array]!),
      );
  };
  walk(
    0,
    Array.from({ length: arrays }, () => 0),
  );
}

const still = (arrays: number): Axis => ({ extent: 1, strides: Array.from({ length: arrays }, () => 0) });

/** The two innermost of the axes, filled up with axes of extent 1, and the rest. */
export function innerTwo(axes: readonly Axis[], arrays: number): { readonly rest: Axis[]; readonly outer: Axis; readonly inner: Axis } {
  return { rest: axes.slice(0, -2), outer: axes.at(-2) ?? still(arrays), inner: axes.at(-1) ?? still(arrays) };
}
