import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor } from './check-tensor.ts';
import { defineKernel } from './define.ts';

/** Tensors that `rotary` reads. */
export type RotaryInputs = {
  /** float32 [B, T, H, D] */
  readonly input: tf.Tensor;
  /** cosine of the angle of each pair at each position, [1 or B, T, R / 2] */
  readonly cos: tf.Tensor;
  /** sine of the same angles */
  readonly sin: tf.Tensor;
};

/** Settings of the `Rotary` kernel, all present. */
export type RotaryAttributes = {
  /** true: pairs (2r, 2r + 1); false: pairs (r, r + R / 2) */
  readonly interleaved: boolean;
};

// the matrix that turns every pair a quarter: (x, y) -> (-y, x) for sign 1; channels beyond R vanish
function quarterTurn(width: number, pairs: number, interleaved: boolean, sign: number): tf.Tensor2D {
  const matrix = new Float32Array(width * width);
  for (let pair = 0; pair < pairs; pair++) {
    const [first, second] = interleaved ? [2 * pair, 2 * pair + 1] : [pair, pair + pairs];
    matrix[second * width + first] = -sign;
    matrix[first * width + second] = sign;
  }
  return tf.tensor2d(matrix, [width, width]);
}

// per pair to per channel: [., T, R / 2] -> [., T, 1, D], `beyond` in the channels that are not rotated
function perChannel(pairs: tf.Tensor, width: number, interleaved: boolean, beyond: number): tf.Tensor {
  const [batch, time, count] = pairs.shape as [number, number, number];
  const doubled = interleaved ? tf.reshape(tf.stack([pairs, pairs], 3), [batch, time, 2 * count]) : tf.concat([pairs, pairs], 2);
  const full =
    2 * count === width
      ? doubled
      : tf.pad(
          doubled,
          [
            [0, 0],
            [0, 0],
            [0, width - 2 * count],
          ],
          beyond,
        );
  return tf.reshape(full, [batch, time, 1, width]);
}

function rotate({ input, cos, sin }: RotaryInputs, interleaved: boolean, sign: number): tf.Tensor {
  const width = input.shape[3]!;
  // an unbatched product is several times faster on wasm than taking the halves apart and joining them again
  const turned = tf.matMul(tf.reshape(input, [-1, width]), quarterTurn(width, cos.shape[2]!, interleaved, sign));
  return tf.add(
    tf.mul(input, perChannel(cos, width, interleaved, 1)),
    tf.mul(tf.reshape(turned, input.shape), perChannel(sin, width, interleaved, 0)),
  );
}

/** The kernel contract behind `rotary`. */
export const rotaryKernel = defineKernel<RotaryInputs, RotaryAttributes, 'output'>({
  name: 'Rotary',
  outputs: ['output'],
  composed: (inputs, { interleaved }) => ({ output: rotate(inputs, interleaved, 1) }),
  gradient: {
    inputs: ['input'],
    needs: [],
    // the inverse of a rotation is the rotation by the opposite angle, and its transpose
    composed: ({ cos, sin }, _saved, { output }, { interleaved }) => ({ input: rotate({ input: output, cos, sin }, interleaved, -1) }),
  },
});

/**
 * Rotary position embedding (Su et al. 2021): turns each pair of channels by an angle.
 *
 * `(x, y) -> (x cos - y sin, y cos + x sin)` for each of the R / 2 pairs; channels from R on stay as they are.
 *
 * @param inputs `input` [B, T, H, D], and `cos` and `sin` [1 or B, T, R / 2] with even R up to D; angles receive no gradient
 * @param options `interleaved` (false): pairs (2r, 2r + 1) instead of (r, r + R / 2)
 * @returns a new tensor [B, T, H, D]
 * @throws SeqLoomError when a rank, shape or dtype does not fit
 */
export function rotary(inputs: RotaryInputs, options: Partial<RotaryAttributes> = {}): tf.Tensor {
  const { interleaved = false } = options;
  const { input, cos, sin } = inputs;
  const extents = new Map<string, number>();
  checkTensor('rotary', 'input', input, ['batch', 'time', 'heads', 'channels'], extents);
  const batch = cos instanceof tf.Tensor && cos.shape[0] === 1 ? 1 : 'batch';
  checkTensor('rotary', 'cos', cos, [batch, 'time', 'pairs'], extents);
  checkTensor('rotary', 'sin', sin, cos.shape, extents);
  const [pairs, width] = [cos.shape[2]!, input.shape[3]!];
  checkSetting('rotary', 'cos', 2 * pairs <= width, `at most ${width / 2} pairs wide`, pairs, 'Give one angle per pair of channels.');
  return rotaryKernel.run({ input, cos, sin }, { interleaved }).output;
}
