import * as tf from '@tensorflow/tfjs-core';
import { zeroGradient } from './broadcast.ts';

const product = (sizes: number[]): number => sizes.reduce((total, size) => total * size, 1);

/** Row numbers of per-group indices in a table of all groups: index + group · stride, for indices `[groups, count]`. */
function groupedRows(indices: tf.Tensor, groups: number, stride: number): tf.Tensor {
  const local = tf.reshape(tf.cast(indices, 'int32'), [groups, -1]);
  const rows =
    groups === 1
      ? local
      : tf.add(
          local,
          tf.tensor2d(
            Int32Array.from({ length: groups }, (_, g) => g * stride),
            [groups, 1],
          ),
        );
  return tf.reshape(rows, [-1, 1]);
}

/**
 * Adjoint of a gather along an axis: rows of dy are added into zeros at their indices, repeated indices summing.
 * Axes are grouped as x `[batch, outer, size, inner]`, indices `[batch, count]`, dy `[batch, outer, count, inner]`;
 * the scatter runs on rows `[batch · size, outer · inner]`, by scatterND since the wasm backend has no UnsortedSegmentSum.
 */
function gatherBackward(dy: tf.Tensor, shape: number[], indices: tf.Tensor, axis: number, batchDims: number): tf.Tensor {
  const batch = product(shape.slice(0, batchDims));
  const outer = product(shape.slice(batchDims, axis));
  const inner = product(shape.slice(axis + 1));
  const size = shape[axis];
  const count = indices.size / batch;
  const byRow = outer === 1 ? dy : tf.transpose(tf.reshape(dy, [batch, outer, count, inner]), [0, 2, 1, 3]);
  const updates = tf.reshape(byRow, [batch * count, outer * inner]);
  const table = tf.scatterND(groupedRows(indices, batch, size), updates, [batch * size, outer * inner]);
  if (outer === 1) return tf.reshape(table, shape);
  return tf.reshape(tf.transpose(tf.reshape(table, [batch, size, outer, inner]), [0, 2, 1, 3]), shape);
}

const gatherGradient: tf.GradConfig['gradFunc'] = (dy, [x, indices], attrs) => {
  const [axis] = tf.util.parseAxisParam(attrs.axis as number, x.shape);
  const batchDims = attrs.batchDims as number;
  return {
    x: () => gatherBackward(dy as tf.Tensor, x.shape, indices, axis, batchDims < 0 ? batchDims + indices.rank : batchDims),
    indices: () => tf.zeros(indices.shape),
  };
};

/** Adjoint of the top-k values: each goes back to the place that it came from; the indices carry no gradient. */
const topKGradient: tf.GradConfig['gradFunc'] = (dys, [x, indices]) => ({
  x: () => {
    const [dy] = dys as tf.Tensor[];
    if (dy.size === 0) return tf.zeros(x.shape);
    const width = x.shape[x.rank - 1];
    const places = groupedRows(indices, x.size / width, width);
    return tf.reshape(tf.scatterND(places, tf.reshape(dy, [-1]), [x.size]), x.shape);
  },
});

/**
 * Gradients of the kernels that read or write at indices: gather, gatherND, scatterND, tensorScatterUpdate, topk, oneHot.
 *
 * Indices have no gradient (zero). Repeated indices sum in the adjoint of a gather; `tensorScatterUpdate` needs distinct ones.
 *
 * @returns configurations for `tf.registerGradient`.
 */
export function gatherGradients(): tf.GradConfig[] {
  return [
    { kernelName: tf.GatherV2, inputsToSave: ['x', 'indices'], gradFunc: gatherGradient },
    {
      kernelName: tf.GatherNd,
      inputsToSave: ['params', 'indices'],
      gradFunc: (dy, [params, indices]) => ({
        params: () => tf.scatterND(indices as tf.Tensor<tf.Rank>, dy as tf.Tensor, params.shape),
        indices: () => tf.zeros(indices.shape),
      }),
    },
    {
      kernelName: tf.ScatterNd,
      inputsToSave: ['indices'],
      gradFunc: (dy, [indices]) => ({ updates: () => tf.gatherND(dy as tf.Tensor, indices), indices: () => tf.zeros(indices.shape) }),
    },
    {
      kernelName: tf.TensorScatterUpdate,
      inputsToSave: ['indices', 'updates'],
      gradFunc: (dy, [indices, updates]) => ({
        // a mask and not a scatter of zeros: the cpu kernel writes into the tensor that it is given
        tensor: () => {
          const { shape } = dy as tf.Tensor;
          const written = tf.scatterND(indices as tf.Tensor<tf.Rank>, tf.onesLike(updates), shape);
          return tf.mul(dy as tf.Tensor, tf.equal(written, 0));
        },
        updates: () => tf.gatherND(dy as tf.Tensor, indices),
        indices: () => tf.zeros(indices.shape),
      }),
    },
    { kernelName: tf.TopK, inputsToSave: ['x'], outputsToSave: [false, true], gradFunc: topKGradient },
    zeroGradient(tf.OneHot, ['indices']),
  ];
}
