import * as tf from '@tensorflow/tfjs-core';

/**
 * Causal convolution along time, `y_t = sum over j <= t of k_{t-j} u_j` per channel, by a discrete Fourier transform made of matrix products.
 *
 * The padded length is n = n1 n2 with n1 and n2 near its root. Writing time as t = t1 n2 + t2 and frequency as f = f1 + n1 f2, the transform is a
 * product with an n1 x n1 matrix, a turn of each element by w^(f1 t2), and a product with an n2 x n2 matrix; frequencies stay in that
 * order, which the pointwise product does not mind. So it runs wherever there are matrix products, at O(T^1.5) operations per channel.
 *
 * @param input u, [T, L], L lanes
 * @param kernel k, [T, K]; L is a multiple of K, and lane l is convolved with kernel l modulo K
 * @returns [T, L]
 */
export function fourierConvolution(input: tf.Tensor, kernel: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const [length, lanes] = input.shape as [number, number];
    const channels = kernel.shape[1]!;
    const first = Math.ceil(Math.sqrt(2 * length));
    const second = Math.ceil((2 * length) / first);
    const plan = planOf(first, second);
    const given = transform(input, plan); // two of [n2, n1, L]
    const wanted = transform(kernel, plan);
    const apart = given.map((part) => tf.reshape(part, [first * second, lanes / channels, channels])) as [tf.Tensor, tf.Tensor];
    const other = wanted.map((part) => tf.reshape(part, [first * second, 1, channels])) as [tf.Tensor, tf.Tensor];
    const real = tf.sub(tf.mul(apart[0], other[0]), tf.mul(apart[1], other[1]));
    const imaginary = tf.add(tf.mul(apart[0], other[1]), tf.mul(apart[1], other[0]));
    const shape = [second, first * lanes];
    const whole = inverse(tf.reshape(real, shape), tf.reshape(imaginary, shape), lanes, plan);
    return tf.slice(whole, [0, 0], [length, lanes]);
  });
}

interface Plan {
  readonly first: number;
  readonly second: number;
  /** cosines and sines of the n1 x n1 matrix, one above the other, [2 n1, n1] */
  readonly firstMatrix: tf.Tensor2D;
  /** the n2 x n2 matrix on real parts above imaginary ones, [2 n2, 2 n2] */
  readonly secondMatrix: tf.Tensor2D;
  /** cos and sin of the turn, [n1, n2, 1] */
  readonly turn: readonly [tf.Tensor, tf.Tensor];
}

function planOf(first: number, second: number): Plan {
  const angle = (product: number, size: number): number => (-2 * Math.PI * (product % size)) / size;
  const table = (rows: number, columns: number, size: number, wave: (x: number) => number): Float32Array =>
    Float32Array.from({ length: rows * columns }, (_, place) => wave(angle(Math.floor(place / columns) * (place % columns), size)));
  const matrix = (size: number, wave: (x: number) => number): tf.Tensor2D => tf.tensor2d(table(size, size, size, wave), [size, size]);
  const [cos, sin] = [matrix(second, Math.cos), matrix(second, Math.sin)];
  const turn = (wave: (x: number) => number): tf.Tensor => tf.tensor3d(table(first, second, first * second, wave), [first, second, 1]);
  return {
    first,
    second,
    firstMatrix: tf.concat([matrix(first, Math.cos), matrix(first, Math.sin)], 0),
    secondMatrix: tf.concat([tf.concat([cos, tf.neg(sin)], 1), tf.concat([sin, cos], 1)], 0) as tf.Tensor2D,
    turn: [turn(Math.cos), turn(Math.sin)],
  };
}

// [T, L] padded with zeros to its spectrum, two of [n2, n1 L]
function transform(rows: tf.Tensor, { first, second, firstMatrix, secondMatrix, turn }: Plan): [tf.Tensor, tf.Tensor] {
  const [length, lanes] = rows.shape as [number, number];
  const padded = tf.concat([rows, tf.zeros([first * second - length, lanes])], 0);
  const once = tf.matMul(firstMatrix, tf.reshape(padded, [first, second * lanes])); // [2 n1, n2 L]
  const [re, im] = tf.split(tf.reshape(once, [2 * first, second, lanes]), 2, 0) as [tf.Tensor, tf.Tensor];
  const turned = [tf.sub(tf.mul(re, turn[0]), tf.mul(im, turn[1])), tf.add(tf.mul(re, turn[1]), tf.mul(im, turn[0]))];
  const columns = turned.map((part) => tf.reshape(tf.transpose(part, [1, 0, 2]), [second, first * lanes]));
  const twice = tf.matMul(secondMatrix, tf.concat(columns, 0)); // [2 n2, n1 L]
  return tf.split(twice, 2, 0) as [tf.Tensor, tf.Tensor];
}

// the way back, with every angle turned round: two of [n2, n1 L] to [n1 n2, L]
function inverse(re: tf.Tensor, im: tf.Tensor, lanes: number, { first, second, firstMatrix, secondMatrix, turn }: Plan): tf.Tensor {
  // both matrices are symmetric, so the transpose of the stacked one is the stacked conjugate
  const once = tf.matMul(tf.transpose(secondMatrix), tf.concat([re, im], 0));
  const [a, b] = tf.split(tf.reshape(once, [2 * second, first, lanes]), 2, 0).map((part) => tf.transpose(part, [1, 0, 2])) as [
    tf.Tensor,
    tf.Tensor,
  ]; // [n1, n2, L]
  const real = tf.add(tf.mul(a, turn[0]), tf.mul(b, turn[1]));
  const imaginary = tf.sub(tf.mul(b, turn[0]), tf.mul(a, turn[1]));
  const columns = tf.concat([real, imaginary], 0);
  // the real part alone: cos * real + sin * imaginary
  const whole = tf.matMul(tf.transpose(firstMatrix), tf.reshape(columns, [2 * first, second * lanes]));
  return tf.div(tf.reshape(whole, [first * second, lanes]), first * second);
}
