import * as tf from '@tensorflow/tfjs-core';
import { asFloat, outputOf, reduceToShape, zeroGradient } from './broadcast.ts';

type UnaryRule = (dy: tf.Tensor, saved: tf.Tensor, attrs: Record<string, unknown>) => tf.Tensor;
type BinaryRule = (dy: tf.Tensor, a: tf.Tensor, b: tf.Tensor) => tf.Tensor;

const SELU_SCALE = 1.0507009873554805;
const SELU_SCALE_ALPHA = 1.7580993408473766;

/** Gradient of y = f(x) from the saved input x. */
function fromInput(kernelName: string, rule: UnaryRule): tf.GradConfig {
  return { kernelName, inputsToSave: ['x'], gradFunc: (dy, [x], attrs) => ({ x: () => rule(dy as tf.Tensor, asFloat(x), attrs) }) };
}

/** Gradient of y = f(x) from the saved output y alone, for derivatives that are constant in pieces. */
function fromSign(kernelName: string, rule: UnaryRule): tf.GradConfig {
  return { kernelName, outputsToSave: [true], gradFunc: (dy, [y], attrs) => ({ x: () => rule(dy as tf.Tensor, asFloat(y), attrs) }) };
}

/** Gradient of y = f(x) from the output y, which spares computing f once more. */
function fromOutput(kernelName: string, op: (x: tf.Tensor) => tf.Tensor, rule: UnaryRule): tf.GradConfig {
  return {
    kernelName,
    inputsToSave: ['x'],
    outputsToSave: [true],
    gradFunc: (dy, [x, y], attrs) => ({ x: () => rule(dy as tf.Tensor, outputOf(op, asFloat(x), y), attrs) }),
  };
}

/** Gradient of y = f(x) that needs neither x nor y. */
function fromGradient(kernelName: string, rule: (dy: tf.Tensor) => tf.Tensor): tf.GradConfig {
  return { kernelName, gradFunc: (dy) => ({ x: () => rule(dy as tf.Tensor) }) };
}

/** Gradient of y = f(a, b) with broadcasting. */
function binary(kernelName: string, ruleA: BinaryRule, ruleB: BinaryRule): tf.GradConfig {
  return {
    kernelName,
    inputsToSave: ['a', 'b'],
    gradFunc: (dy, [a, b]) => ({
      a: () => reduceToShape(ruleA(dy as tf.Tensor, asFloat(a), asFloat(b)), a.shape),
      b: () => reduceToShape(ruleB(dy as tf.Tensor, asFloat(a), asFloat(b)), b.shape),
    }),
  };
}

const mask = (condition: tf.Tensor): tf.Tensor => tf.cast(condition, 'float32');

/** 1 - x² and 1 + x², factored where that keeps digits near |x| = 1. */
const oneMinusSquare = (x: tf.Tensor): tf.Tensor => tf.mul(tf.sub(1, x), tf.add(1, x));
const onePlusSquare = (x: tf.Tensor): tf.Tensor => tf.add(1, tf.square(x));

function unaryGradients(): tf.GradConfig[] {
  return [
    fromGradient(tf.Neg, (dy) => tf.neg(dy)),
    // a gradient must be a tensor of its own: the tape disposes of the ones it accumulates
    fromGradient(tf.Identity, (dy) => tf.clone(dy)),
    fromGradient(tf.Cast, (dy) => tf.clone(dy)),
    ...[tf.Sign, tf.Step, tf.Ceil, tf.Floor, tf.Round, tf.ZerosLike, tf.OnesLike, tf.IsNan, tf.IsInf, tf.IsFinite, tf.LogicalNot].map(
      (name) => fromGradient(name, (dy) => tf.zerosLike(dy)),
    ),
    fromInput(tf.Abs, (dy, x) => tf.mul(dy, tf.sign(x))),
    fromInput(tf.Square, (dy, x) => tf.mul(dy, tf.mul(2, x))),
    fromInput(tf.Log, (dy, x) => tf.div(dy, x)),
    fromInput(tf.Log1p, (dy, x) => tf.div(dy, tf.add(1, x))),
    fromOutput(tf.Exp, tf.exp, (dy, y) => tf.mul(dy, y)),
    fromOutput(tf.Expm1, tf.expm1, (dy, y) => tf.mul(dy, tf.add(1, y))),
    fromOutput(tf.Sqrt, tf.sqrt, (dy, y) => tf.div(dy, tf.mul(2, y))),
    fromOutput(tf.Rsqrt, tf.rsqrt, (dy, y) => tf.mul(dy, tf.mul(-0.5, tf.mul(y, tf.square(y))))),
    fromOutput(tf.Reciprocal, tf.reciprocal, (dy, y) => tf.neg(tf.mul(dy, tf.square(y)))),
    fromOutput(tf.Sigmoid, tf.sigmoid, (dy, y) => tf.mul(dy, tf.mul(y, tf.sub(1, y)))),
    fromOutput(tf.Tanh, tf.tanh, (dy, y) => tf.mul(dy, oneMinusSquare(y))),
    fromInput(tf.Softplus, (dy, x) => tf.mul(dy, tf.sigmoid(x))),
    fromInput(tf.Sinh, (dy, x) => tf.mul(dy, tf.cosh(x))),
    fromInput(tf.Cosh, (dy, x) => tf.mul(dy, tf.sinh(x))),
    fromInput(tf.Sin, (dy, x) => tf.mul(dy, tf.cos(x))),
    fromInput(tf.Cos, (dy, x) => tf.neg(tf.mul(dy, tf.sin(x)))),
    fromOutput(tf.Tan, tf.tan, (dy, y) => tf.mul(dy, onePlusSquare(y))),
    fromInput(tf.Asin, (dy, x) => tf.div(dy, tf.sqrt(oneMinusSquare(x)))),
    fromInput(tf.Acos, (dy, x) => tf.neg(tf.div(dy, tf.sqrt(oneMinusSquare(x))))),
    fromInput(tf.Atan, (dy, x) => tf.div(dy, onePlusSquare(x))),
    fromInput(tf.Asinh, (dy, x) => tf.div(dy, tf.sqrt(onePlusSquare(x)))),
    fromInput(tf.Acosh, (dy, x) => tf.div(dy, tf.sqrt(tf.mul(tf.sub(x, 1), tf.add(x, 1))))),
    fromInput(tf.Atanh, (dy, x) => tf.div(dy, oneMinusSquare(x))),
    fromInput(tf.Erf, (dy, x) => tf.mul(dy, tf.mul(2 / Math.sqrt(Math.PI), tf.exp(tf.neg(tf.square(x)))))),
    fromSign(tf.Relu, (dy, y) => tf.mul(dy, tf.step(y))),
    fromSign(tf.Relu6, (dy, y) => tf.mul(dy, tf.mul(tf.step(y), tf.step(tf.sub(6, y))))),
    fromInput(tf.LeakyRelu, (dy, x, attrs) => tf.mul(dy, tf.step(x, attrs.alpha as number))),
    // below zero the derivative is y + 1 (elu) and y + scale·alpha (selu), with y clamped to its negative part
    fromOutput(tf.Elu, tf.elu, (dy, y) => tf.mul(dy, tf.add(1, tf.minimum(y, 0)))),
    fromOutput(tf.Selu, tf.selu, (dy, y) => {
      const above = tf.mul(SELU_SCALE - SELU_SCALE_ALPHA, tf.step(y));
      return tf.mul(dy, tf.add(tf.add(tf.minimum(y, 0), SELU_SCALE_ALPHA), above));
    }),
    fromInput(tf.ClipByValue, (dy, x, attrs) => {
      const { clipValueMin, clipValueMax } = attrs as { clipValueMin: number; clipValueMax: number };
      return tf.mul(dy, mask(tf.logicalAnd(tf.greaterEqual(x, clipValueMin), tf.lessEqual(x, clipValueMax))));
    }),
  ];
}

function binaryGradients(): tf.GradConfig[] {
  const comparisons = [tf.Equal, tf.NotEqual, tf.Greater, tf.GreaterEqual, tf.Less, tf.LessEqual, tf.LogicalAnd, tf.LogicalOr];
  const quotient = [(dy, _a, b) => tf.div(dy, b), (dy, a, b) => tf.neg(tf.div(tf.mul(dy, tf.div(a, b)), b))] satisfies BinaryRule[];
  return [
    binary(
      tf.Add,
      (dy) => tf.clone(dy),
      (dy) => tf.clone(dy),
    ),
    binary(
      tf.Sub,
      (dy) => tf.clone(dy),
      (dy) => tf.neg(dy),
    ),
    binary(
      tf.Multiply,
      (dy, _a, b) => tf.mul(dy, b),
      (dy, a) => tf.mul(dy, a),
    ),
    binary(tf.RealDiv, quotient[0], quotient[1]),
    // the floor passes the gradient of a / b straight through, as tfjs has it
    binary(tf.FloorDiv, quotient[0], quotient[1]),
    binary(
      tf.Mod,
      (dy) => tf.clone(dy),
      (dy, a, b) => tf.neg(tf.mul(dy, tf.floor(tf.div(a, b)))),
    ),
    binary(
      tf.SquaredDifference,
      (dy, a, b) => tf.mul(dy, tf.mul(2, tf.sub(a, b))),
      (dy, a, b) => tf.mul(dy, tf.mul(2, tf.sub(b, a))),
    ),
    binary(
      tf.Maximum,
      (dy, a, b) => tf.mul(dy, mask(tf.greaterEqual(a, b))),
      (dy, a, b) => tf.mul(dy, mask(tf.less(a, b))),
    ),
    binary(
      tf.Minimum,
      (dy, a, b) => tf.mul(dy, mask(tf.lessEqual(a, b))),
      (dy, a, b) => tf.mul(dy, mask(tf.greater(a, b))),
    ),
    binary(
      tf.Pow,
      // b·a^(b-1); where b is zero the factor a^(b-1) may be infinite, so its exponent is set to zero
      (dy, a, b) => tf.mul(dy, tf.mul(b, tf.pow(a, tf.sub(b, mask(tf.notEqual(b, 0)))))),
      // a^b·log a, and zero where the logarithm does not exist
      (dy, a, b) => {
        const positive = mask(tf.greater(a, 0));
        const base = tf.add(tf.mul(a, positive), tf.sub(1, positive));
        return tf.mul(dy, tf.mul(tf.pow(base, b), tf.log(base)));
      },
    ),
    binary(
      tf.Atan2,
      (dy, a, b) => tf.mul(dy, tf.div(b, tf.add(tf.square(a), tf.square(b)))),
      (dy, a, b) => tf.neg(tf.mul(dy, tf.div(a, tf.add(tf.square(a), tf.square(b))))),
    ),
    ...comparisons.map((name) => zeroGradient(name, ['a', 'b'])),
  ];
}

/**
 * Gradients of the elementwise kernels: arithmetic, functions of one variable, activations, comparisons, selection.
 *
 * Binary gradients are summed over broadcast axes. Where a derivative does not exist the value is: `abs`, `relu` 0 at 0;
 * `maximum`, `minimum` all to the first operand on a tie; `clipByValue` 1 at the bounds; comparisons 0.
 *
 * @returns configurations for `tf.registerGradient`.
 */
export function elementwiseGradients(): tf.GradConfig[] {
  return [
    ...unaryGradients(),
    ...binaryGradients(),
    {
      kernelName: tf.AddN,
      saveAllInputs: true,
      gradFunc: (dy, saved) => Object.fromEntries(saved.map((_, i) => [String(i), () => tf.clone(dy as tf.Tensor)])),
    },
    {
      kernelName: tf.Prelu,
      inputsToSave: ['x', 'alpha'],
      gradFunc: (dy, [x, alpha]) => ({
        x: () => {
          const above = tf.step(x);
          return reduceToShape(tf.mul(dy as tf.Tensor, tf.add(above, tf.mul(alpha, tf.sub(1, above)))), x.shape);
        },
        alpha: () => reduceToShape(tf.mul(dy as tf.Tensor, tf.minimum(x, 0)), alpha.shape),
      }),
    },
    {
      kernelName: tf.Select,
      inputsToSave: ['condition'],
      // a selection and not a product with the mask: a NaN in the branch not taken must not come back
      gradFunc: (dy, [condition]) => ({
        condition: () => tf.zeros(condition.shape),
        t: () => tf.where(condition, dy as tf.Tensor, tf.zerosLike(dy as tf.Tensor)),
        e: () => tf.where(condition, tf.zerosLike(dy as tf.Tensor), dy as tf.Tensor),
      }),
    },
  ];
}
