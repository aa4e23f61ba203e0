/**
 * How a checkpoint's tensors become a model's, and back: moves of numbers, never arithmetic, so that every transform is exactly invertible.
 *
 * Transforms run on shapes alone as well (`data: null`), so that a checkpoint is checked before a byte of its weights is read.
 */

/** A tensor on the host, or only its shape. */
export interface LaidTensor {
  readonly shape: readonly number[];
  /** row-major; null when only the shape is asked for */
  readonly data: Float32Array | null;
}

/** Turns a group of checkpoint tensors into a group of model tensors (`forward`) and back (`backward`). */
export interface Transform {
  forward(tensors: readonly LaidTensor[]): readonly LaidTensor[];
  backward(tensors: readonly LaidTensor[]): readonly LaidTensor[];
}

/** Leaves tensors as they are. */
export const identity: Transform = { forward: (tensors) => tensors, backward: (tensors) => tensors };

/** Transforms one after another. */
export function chain(...steps: readonly Transform[]): Transform {
  return {
    forward: (tensors) => steps.reduce((now, step) => step.forward(now), tensors),
    backward: (tensors) => steps.toReversed().reduce((now, step) => step.backward(now), tensors),
  };
}

/** Reorders the axes of every tensor of the group, as `numpy.transpose` does. */
export function permute(...axes: readonly number[]): Transform {
  const inverse = axes.map((_, axis) => axes.indexOf(axis));
  return {
    forward: (tensors) => tensors.map((tensor) => permuteAxes(tensor, axes)),
    backward: (tensors) => tensors.map((tensor) => permuteAxes(tensor, inverse)),
  };
}

/** [out, in] of a PyTorch linear layer to [in, out] of ours. */
export const transpose: Transform = permute(1, 0);

/** Removes an axis of size 1, as of a depthwise convolution's [channels, 1, taps]. */
export function squeeze(axis: number): Transform {
  return {
    forward: (tensors) => tensors.map(({ shape, data }) => ({ shape: shape.toSpliced(axis, 1), data })),
    backward: (tensors) => tensors.map(({ shape, data }) => ({ shape: shape.toSpliced(axis, 0, 1), data })),
  };
}

/** Gives every tensor of the group a new shape of as many elements. */
export function reshape(from: readonly number[], to: readonly number[]): Transform {
  return {
    forward: (tensors) => tensors.map(({ data }) => ({ shape: to, data })),
    backward: (tensors) => tensors.map(({ data }) => ({ shape: from, data })),
  };
}

/** Cuts the group's one tensor along an axis into parts of these sizes. */
export function split(sizes: readonly number[], axis = 0): Transform {
  return {
    forward: ([tensor]) => cut(tensor!, sizes, axis),
    backward: (tensors) => [join(tensors, axis)],
  };
}

/** Joins the group's tensors, of these sizes, along an axis. */
export function concat(sizes: readonly number[], axis = 0): Transform {
  return inverse(split(sizes, axis));
}

/** Puts the group's `count` tensors of one shape on top of each other, along a new first axis, as for stacked experts. */
export function stack(count: number): Transform {
  return {
    forward: (tensors) => [
      join(
        tensors.map(({ shape, data }) => ({ shape: [1, ...shape], data })),
        0,
      ),
    ],
    backward: ([tensor]) =>
      cut(
        tensor!,
        Array.from({ length: count }, () => 1),
        0,
      ).map(({ shape, data }) => ({ shape: shape.slice(1), data })),
  };
}

/** The same group in another order: `order[k]` is the place where the k-th tensor was. */
export function arrange(...order: readonly number[]): Transform {
  return {
    forward: (tensors) => order.map((place) => tensors[place]!),
    backward: (tensors) => order.map((_, place) => tensors[order.indexOf(place)]!),
  };
}

/** One transform for each of several runs of the group: `[count, transform]` takes the next `count` checkpoint tensors and gives `made`. */
export function each(...parts: readonly { readonly take: number; readonly make: number; readonly transform: Transform }[]): Transform {
  const run = (tensors: readonly LaidTensor[], counts: readonly number[], way: 'forward' | 'backward'): readonly LaidTensor[] => {
    let at = 0;
    return parts.flatMap(({ transform }, index) => transform[way](tensors.slice(at, (at += counts[index]!))));
  };
  return {
    forward: (tensors) =>
      run(
        tensors,
        parts.map(({ take }) => take),
        'forward',
      ),
    backward: (tensors) =>
      run(
        tensors,
        parts.map(({ make }) => make),
        'backward',
      ),
  };
}

/**
 * Cuts a matrix [groups * sum(sizes), in] whose rows are grouped, each group holding `sizes` rows of the parts in turn, into one matrix
 * [groups * size, in] per part: un-interleaves fused projections that are stored head by head.
 */
export function unGroup(groups: number, sizes: readonly number[], columns: number): Transform {
  const rows = sizes.reduce((sum, size) => sum + size, 0);
  return chain(
    reshape([groups * rows, columns], [groups, rows, columns]),
    split(sizes, 1),
    each(...sizes.map((size) => ({ take: 1, make: 1, transform: reshape([groups, size, columns], [groups * size, columns]) }))),
  );
}

/** The same transform the other way round. */
export function inverse(transform: Transform): Transform {
  return { forward: (tensors) => transform.backward(tensors), backward: (tensors) => transform.forward(tensors) };
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function permuteAxes({ shape, data }: LaidTensor, axes: readonly number[]): LaidTensor {
  const target = axes.map((axis) => shape[axis]!);
  if (data === null) return { shape: target, data };
  const strides = shape.map((_, axis) => elements(shape.slice(axis + 1)));
  const steps = axes.map((axis) => strides[axis]!);
  const out = new Float32Array(data.length);
  if (shape.length === 2 && axes[0] === 1) {
    turn(data, out, shape[0]!, shape[1]!);
    return { shape: target, data: out };
  }
  const index = target.map(() => 0);
  let from = 0;
  for (let to = 0; to < out.length; to++) {
    out[to] = data[from]!;
    for (let axis = target.length - 1; axis >= 0; axis--) {
      from += steps[axis]!;
      if (++index[axis]! < target[axis]!) break;
      from -= steps[axis]! * target[axis]!;
      index[axis] = 0;
    }
  }
  return { shape: target, data: out };
}

// square by square: rows of one side are columns of the other, and a cache line holds sixteen numbers of either
function turn(data: Float32Array, out: Float32Array, rows: number, columns: number): void {
  const side = 32;
  for (let top = 0; top < rows; top += side) {
    for (let left = 0; left < columns; left += side) {
      for (let i = top; i < Math.min(top + side, rows); i++) {
        for (let j = left; j < Math.min(left + side, columns); j++) out[j * rows + i] = data[i * columns + j]!;
      }
    }
  }
}

function cut({ shape, data }: LaidTensor, sizes: readonly number[], axis: number): LaidTensor[] {
  const [outer, width, inner] = [elements(shape.slice(0, axis)), shape[axis]!, elements(shape.slice(axis + 1))];
  let start = 0;
  return sizes.map((size) => {
    const part = data === null ? null : new Float32Array(outer * size * inner);
    for (let row = 0; row < outer && part; row++) {
      const from = (row * width + start) * inner;
      part.set(data!.subarray(from, from + size * inner), row * size * inner);
    }
    start += size;
    return { shape: shape.with(axis, size), data: part };
  });
}

function join(tensors: readonly LaidTensor[], axis: number): LaidTensor {
  const first = tensors[0]!;
  const width = tensors.reduce((sum, { shape }) => sum + shape[axis]!, 0);
  const shape = first.shape.with(axis, width);
  if (tensors.some(({ data }) => data === null)) return { shape, data: null };
  const [outer, inner] = [elements(shape.slice(0, axis)), elements(shape.slice(axis + 1))];
  const out = new Float32Array(outer * width * inner);
  let start = 0;
  for (const { shape: own, data } of tensors) {
    const run = own[axis]! * inner;
    for (let row = 0; row < outer; row++) out.set(data!.subarray(row * run, (row + 1) * run), (row * width + start) * inner);
    start += own[axis]!;
  }
  return { shape, data: out };
}
