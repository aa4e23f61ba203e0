import * as tf from '@tensorflow/tfjs-core';

/**
 * `exp(x) - 1` for x at most 0, to rounding also where x is close to 0; GPUs have neither `expm1` nor a `tanh` that is.
 *
 * Near 0 it is `tanh(x / 2) (exp(x) + 1)` with the Padé approximant `y (15 + y^2) / (15 + 6 y^2)` of tanh, off by less than 6e-8.
 */
export function expMinusOne(x: tf.Tensor): tf.Tensor {
  return tf.tidy(() =>
    tf.customGrad((given, save) => {
      const exponent = given as tf.Tensor;
      const power = tf.exp(exponent);
      const y = tf.div(exponent, 2);
      const square = tf.square(y);
      const tanh = tf.div(tf.mul(y, tf.add(square, 15)), tf.add(tf.mul(square, 6), 15));
      const value = tf.where(tf.greater(exponent, -0.5), tf.mul(tanh, tf.add(power, 1)), tf.sub(power, 1));
      // saved last: what is saved stays when the computation throws
      (save as tf.GradSaveFunc)([power]);
      return { value, gradFunc: (upstream: tf.Tensor, saved: tf.Tensor[]) => tf.mul(upstream, saved[0]!) };
    })(x),
  );
}

/** `sin(x)` to rounding on every backend: WebGPU promises no more than three digits. */
export function sine(x: tf.Tensor): tf.Tensor {
  return tf.tidy(() =>
    tf.customGrad((given, save) => {
      const angle = given as tf.Tensor;
      const value = tf.getBackend() === 'webgpu' ? sinePolynomial(angle) : tf.sin(angle);
      (save as tf.GradSaveFunc)([angle]);
      return { value, gradFunc: (upstream: tf.Tensor, saved: tf.Tensor[]) => tf.mul(upstream, cosine(saved[0]!)) };
    })(x),
  );
}

/** `cos(x)` to rounding on every backend. */
export function cosine(x: tf.Tensor): tf.Tensor {
  return tf.tidy(() =>
    tf.customGrad((given, save) => {
      const angle = given as tf.Tensor;
      const value = tf.getBackend() === 'webgpu' ? cosinePolynomial(angle) : tf.cos(angle);
      (save as tf.GradSaveFunc)([angle]);
      return { value, gradFunc: (upstream: tf.Tensor, saved: tf.Tensor[]) => tf.neg(tf.mul(upstream, sine(saved[0]!))) };
    })(x),
  );
}

/** Sine as a polynomial, from multiplications and additions alone. */
export function sinePolynomial(x: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const angle = withinOneTurn(x);
    const size = tf.abs(angle);
    return tf.mul(tf.sign(angle), quarterSine(tf.minimum(size, tf.sub(Math.PI, size))));
  });
}

/** Cosine as a polynomial, from multiplications and additions alone. */
export function cosinePolynomial(x: tf.Tensor): tf.Tensor {
  return tf.tidy(() => quarterSine(tf.sub(Math.PI / 2, tf.abs(withinOneTurn(x)))));
}

/** The angle of (x, y), `atan2(y, x)`, with a step of Newton's that makes up for backends that have few digits of it. */
export function angleOf(y: tf.Tensor, x: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const angle = tf.atan2(y, x);
    const length = tf.sqrt(tf.add(tf.square(x), tf.square(y)));
    return tf.add(angle, tf.div(tf.sub(tf.mul(y, cosine(angle)), tf.mul(x, sine(angle))), length));
  });
}

// to [-pi, pi]; 2 pi in two parts, of which the first is exact times any whole number below 2^16
function withinOneTurn(x: tf.Tensor): tf.Tensor {
  const turns = tf.round(tf.mul(x, 1 / (2 * Math.PI)));
  return tf.sub(tf.sub(x, tf.mul(turns, 6.28125)), tf.mul(turns, 2 * Math.PI - 6.28125));
}

// the Taylor series up to x^13, for x in [-pi / 2, pi / 2]
function quarterSine(x: tf.Tensor): tf.Tensor {
  const square = tf.square(x);
  const coefficients = [-1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1];
  const series = coefficients.reduce<tf.Tensor>(
    (sum, coefficient) => tf.add(tf.mul(sum, square), coefficient),
    tf.fill(x.shape, 1 / 6227020800),
  );
  return tf.mul(x, series);
}
