import * as tf from '@tensorflow/tfjs-core';
import { asFloat, reduceToShape } from './broadcast.ts';

/** All axes but the last as one: [..., M, K] becomes [... · M, K]. */
function flatten(tensor: tf.Tensor): tf.Tensor {
  return tf.reshape(tensor, [-1, tensor.shape[tensor.rank - 1]]);
}

/** Product of which single matrices are transposed beforehand: tfjs-wasm is ten times slower with its transpose flags. */
function multiply(a: tf.Tensor, b: tf.Tensor, transposeA: boolean, transposeB: boolean): tf.Tensor {
  if (a.rank > 2 || b.rank > 2) return tf.matMul(a, b, transposeA, transposeB);
  return tf.matMul(transposeA ? tf.transpose(a) : a, transposeB ? tf.transpose(b) : b);
}

/** Gradient for the first operand: dy bᵀ, transposed where a was. */
function leftBackward(dy: tf.Tensor, b: tf.Tensor, transposeA: boolean, transposeB: boolean): tf.Tensor {
  return transposeA ? multiply(b, dy, transposeB, true) : multiply(dy, b, false, !transposeB);
}

/** Gradient for the second operand: aᵀ dy, transposed where b was. */
function rightBackward(dy: tf.Tensor, a: tf.Tensor, transposeA: boolean, transposeB: boolean): tf.Tensor {
  return transposeB ? multiply(dy, a, true, transposeA) : multiply(a, dy, !transposeA, false);
}

const batchMatMulGradient: tf.GradConfig['gradFunc'] = (dys, saved, attrs) => {
  const dy = dys as tf.Tensor;
  const [a, b] = saved.map(asFloat);
  const { transposeA, transposeB } = attrs as { transposeA: boolean; transposeB: boolean };
  // one weight for a whole batch of rows: a single large product instead of a batch of small ones and a sum
  const shared = !transposeA && a.rank > 2 && b.size === b.shape[b.rank - 1] * b.shape[b.rank - 2] && dy.rank === a.rank;
  if (shared) {
    const weight = tf.reshape(b, b.shape.slice(-2));
    return {
      a: () => tf.reshape(leftBackward(flatten(dy), weight, false, transposeB), a.shape),
      b: () => tf.reshape(rightBackward(flatten(dy), flatten(a), false, transposeB), b.shape),
    };
  }
  return {
    a: () => reduceToShape(leftBackward(dy, b, transposeA, transposeB), a.shape),
    b: () => reduceToShape(rightBackward(dy, a, transposeA, transposeB), b.shape),
  };
};

/**
 * Gradient of one operand of an einsum: contract dy with the other operand onto the labels they share with it;
 * labels that occur in this operand alone were summed, so the gradient is the same along them.
 */
function einsumBackward(dy: tf.Tensor, output: string, terms: string[], inputs: tf.Tensor[], index: number): tf.Tensor {
  const others = terms.filter((_, i) => i !== index);
  const present = terms[index].split('').filter((label) => [output, ...others].some((term) => term.includes(label)));
  const contracted = tf.einsum(`${[output, ...others].join(',')}->${present.join('')}`, dy, ...inputs.filter((_, i) => i !== index));
  const shape = inputs[index].shape;
  const kept = tf.reshape(
    contracted,
    shape.map((size, i) => (present.includes(terms[index][i]) ? size : 1)),
  );
  return present.length === shape.length ? kept : tf.add(tf.zeros(shape), kept);
}

/**
 * Gradients of products of matrices: `matMul` in all transposes with batch broadcasting, `einsum` of one or two operands.
 *
 * @returns configurations for `tf.registerGradient`.
 */
export function matmulGradients(): tf.GradConfig[] {
  return [
    { kernelName: tf.BatchMatMul, inputsToSave: ['a', 'b'], gradFunc: batchMatMulGradient },
    {
      kernelName: tf.Einsum,
      saveAllInputs: true,
      gradFunc: (dy, saved, attrs) => {
        const [inputs, output] = (attrs.equation as string).replace(/\s/g, '').split('->');
        const terms = inputs.split(',');
        const operands = saved.map(asFloat);
        return Object.fromEntries(terms.map((_, i) => [String(i), () => einsumBackward(dy as tf.Tensor, output, terms, operands, i)]));
      },
    },
  ];
}
