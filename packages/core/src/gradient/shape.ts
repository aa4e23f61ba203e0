import * as tf from '@tensorflow/tfjs-core';

type Pads = [number, number][];

const list = (dys: tf.Tensor | tf.Tensor[]): tf.Tensor[] => (Array.isArray(dys) ? dys : [dys]);

const normalAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** Part of a tensor along one axis. */
function part(tensor: tf.Tensor, axis: number, begin: number, size: number): tf.Tensor {
  const from = tensor.shape.map((_, i) => (i === axis ? begin : 0));
  return tf.slice(
    tensor,
    from,
    tensor.shape.map((n, i) => (i === axis ? size : n)),
  );
}

/** Zeros before and after a tensor along one axis. */
function padAxis(tensor: tf.Tensor, axis: number, before: number, after: number): tf.Tensor {
  return tf.pad(
    tensor,
    tensor.shape.map((_, i): [number, number] => (i === axis ? [before, after] : [0, 0])),
  );
}

/** Adjoint of a slice with a step along one axis: element i of the gradient goes to place begin + i·stride, zeros elsewhere. */
function dilate(gradient: tf.Tensor, axis: number, size: number, begin: number, stride: number): tf.Tensor {
  const count = gradient.shape[axis];
  const step = Math.abs(stride);
  const first = stride > 0 ? begin : begin + (count - 1) * stride;
  let spread = stride > 0 ? gradient : tf.reverse(gradient, axis);
  if (step > 1 && count > 1) {
    const head = spread.shape.slice(0, axis);
    const tail = spread.shape.slice(axis + 1);
    const gaps = padAxis(tf.reshape(spread, [...head, count, 1, ...tail]), axis + 1, 0, step - 1);
    spread = part(tf.reshape(gaps, [...head, count * step, ...tail]), axis, 0, (count - 1) * step + 1);
  }
  return padAxis(spread, axis, first, size - first - spread.shape[axis]);
}

const stridedSliceGradient: tf.GradConfig['gradFunc'] = (dy, [x], attrs) => ({
  x: () => {
    const { begin, end, strides, beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask } = attrs as Record<string, number> &
      Record<'begin' | 'end' | 'strides', number[]>;
    const info = tf.slice_util.sliceInfo(x.shape, begin, end, strides, beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask);
    const counts = x.shape.map((_, i) => Math.max(0, Math.ceil((info.end[i] - info.begin[i]) / info.strides[i])));
    if (counts.includes(0)) return tf.zeros(x.shape);
    return counts.reduce<tf.Tensor>(
      (gradient, _, axis) => dilate(gradient, axis, x.shape[axis], info.begin[axis], info.strides[axis]),
      tf.reshape(dy as tf.Tensor, counts),
    );
  },
});

/** Adjoint of tiling: the sum over the copies. */
function tileBackward(dy: tf.Tensor, reps: number[]): tf.Tensor {
  const split: number[] = [];
  const copies: number[] = [];
  reps.forEach((count, i) => {
    if (count > 1) copies.push(split.push(count) - 1);
    split.push(dy.shape[i] / count);
  });
  return copies.length > 0 ? tf.sum(tf.reshape(dy, split), copies) : tf.clone(dy);
}

/** Adjoint of mirror padding: the margins fold back onto the elements that they mirror, axis by axis. */
function mirrorPadBackward(dy: tf.Tensor, paddings: Pads, mode: string): tf.Tensor {
  const offset = mode === 'reflect' ? 1 : 0;
  return paddings.reduce<tf.Tensor>((gradient, [before, after], axis) => {
    const size = gradient.shape[axis] - before - after;
    const centre = part(gradient, axis, before, size);
    const left = tf.reverse(part(gradient, axis, 0, before), axis);
    const right = tf.reverse(part(gradient, axis, before + size, after), axis);
    let folded = centre;
    if (before > 0) folded = tf.add(folded, padAxis(left, axis, offset, size - offset - before));
    if (after > 0) folded = tf.add(folded, padAxis(right, axis, size - offset - after, offset));
    return folded;
  }, dy);
}

const concatGradient: tf.GradConfig['gradFunc'] = (dy, saved, attrs) => {
  const axis = normalAxis(attrs.axis as number, saved[0].rank);
  let offset = 0;
  return Object.fromEntries(
    saved.map((input, i) => {
      const begin = offset;
      offset += input.shape[axis];
      return [String(i), () => part(dy as tf.Tensor, axis, begin, input.shape[axis])];
    }),
  );
};

const packGradient: tf.GradConfig['gradFunc'] = (dys, _saved, attrs) => {
  const dy = dys as tf.Tensor;
  const axis = normalAxis(attrs.axis as number, dy.rank);
  const shape = dy.shape.toSpliced(axis, 1);
  return Object.fromEntries(Array.from({ length: dy.shape[axis] }, (_, i) => [String(i), () => tf.reshape(part(dy, axis, i, 1), shape)]));
};

/**
 * Gradients of the kernels that only move elements: reshaping, slicing, joining, tiling, padding, reversing.
 *
 * @returns configurations for `tf.registerGradient`.
 */
export function shapeGradients(): tf.GradConfig[] {
  return [
    {
      kernelName: tf.Reshape,
      inputsToSave: ['x'],
      gradFunc: (dy, [x]) => ({ x: () => tf.reshape(dy as tf.Tensor, x.shape) }),
    },
    {
      kernelName: tf.ExpandDims,
      inputsToSave: ['input'],
      gradFunc: (dy, [input]) => ({ input: () => tf.reshape(dy as tf.Tensor, input.shape) }),
    },
    {
      kernelName: tf.Transpose,
      gradFunc: (dy, _saved, attrs) => {
        const perm = attrs.perm as number[];
        const inverse = perm.map((_, i) => perm.indexOf(i));
        return { x: () => tf.transpose(dy as tf.Tensor, inverse) };
      },
    },
    {
      kernelName: tf.Slice,
      inputsToSave: ['x'],
      gradFunc: (dy, [x], attrs) => ({
        x: () => {
          const [begin, size] = tf.slice_util.parseSliceParams(x, attrs.begin as number[], attrs.size as number[]);
          return tf.pad(
            dy as tf.Tensor,
            x.shape.map((n, i): [number, number] => [begin[i], n - begin[i] - size[i]]),
          );
        },
      }),
    },
    { kernelName: tf.StridedSlice, inputsToSave: ['x'], gradFunc: stridedSliceGradient },
    { kernelName: tf.Concat, saveAllInputs: true, gradFunc: concatGradient },
    {
      kernelName: tf.SplitV,
      gradFunc: (dys, _saved, attrs) => ({ x: () => tf.concat(list(dys), attrs.axis as number) }),
    },
    { kernelName: tf.Pack, gradFunc: packGradient },
    {
      kernelName: tf.Unpack,
      gradFunc: (dys, _saved, attrs) => ({
        value: () => tf.stack(list(dys), normalAxis(attrs.axis as number, list(dys)[0].rank + 1)),
      }),
    },
    {
      kernelName: tf.Tile,
      gradFunc: (dy, _saved, attrs) => ({ x: () => tileBackward(dy as tf.Tensor, attrs.reps as number[]) }),
    },
    {
      kernelName: tf.PadV2,
      gradFunc: (dy, _saved, attrs) => {
        const pads = attrs.paddings as Pads;
        const { shape } = dy as tf.Tensor;
        const begin = pads.map(([before]) => before);
        const size = shape.map((n, i) => n - pads[i][0] - pads[i][1]);
        return { x: () => tf.slice(dy as tf.Tensor, begin, size) };
      },
    },
    {
      kernelName: tf.MirrorPad,
      gradFunc: (dy, _saved, attrs) => ({
        x: () => mirrorPadBackward(dy as tf.Tensor, attrs.paddings as Pads, attrs.mode as string),
      }),
    },
    {
      kernelName: tf.Reverse,
      gradFunc: (dy, _saved, attrs) => ({ x: () => tf.reverse(dy as tf.Tensor, attrs.dims as number[]) }),
    },
  ];
}
