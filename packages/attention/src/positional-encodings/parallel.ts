import * as tf from '@tensorflow/tfjs-core';
import { fail, rotary, tidy } from '@seqloom/core';
import { rotaryAngles } from './rotary-angles.ts';
import type { Positions, RotaryAngles } from './rotary-angles.ts';
import { rotaryFrequencies } from './rotary-frequencies.ts';
import type { RotaryScaling } from './rotary-frequencies.ts';

/** Options of `rotaryEmbedding`. */
export interface RotaryOptions {
  /** channels that are rotated, even; default all */
  readonly dims?: number | undefined;
  /** default 10000 */
  readonly base?: number | undefined;
  /** pairs (2r, 2r + 1) instead of (r, r + R / 2); default false */
  readonly interleaved?: boolean | undefined;
  readonly scaling?: RotaryScaling | null | undefined;
  /** xPos: keys shrink and queries grow with position, so that scores fade with distance; causal use only; default null */
  readonly xpos?: XposOptions | null | undefined;
}

/** Settings of xPos. */
export interface XposOptions {
  /** tokens over which a pair fades by its ζ, default 512 */
  readonly scaleBase?: number | undefined;
  /** position at which the factor is 1, the same for queries and keys; default 0 */
  readonly centre?: number | undefined;
}

/**
 * Rotary position embedding of queries and keys at explicit positions (RoPE, partial RoPE, PI, NTK, YaRN, xPos).
 *
 * Each pair (x, y) of channels turns by the angle position × θ_r: ⟨R_m q, R_n k⟩ depends on n - m alone.
 *
 * @param inputs query [B, T, H, D] and key [B, T, G, D] at positions [B, T], or at start and length
 * @param options frequencies, layout, scaling, xPos
 * @returns rotated query and key, owned by the caller
 * @throws SeqLoomError when positions do not fit or more channels than D are to be rotated
 * @see RoFormer (arXiv 2104.09864)
 */
export function rotaryEmbedding(
  inputs: { readonly query: tf.Tensor; readonly key: tf.Tensor; readonly positions: Positions },
  options: RotaryOptions = {},
): { query: tf.Tensor4D; key: tf.Tensor4D } {
  const { query, key, positions } = inputs;
  const { base = 10000, interleaved = false, scaling = null, xpos = null } = options;
  const width = query.shape[3]!;
  const dims = options.dims ?? width;
  if (dims > width)
    fail({
      mechanism: 'positional-encodings',
      argument: 'options.dims',
      wanted: `at most the head width ${width}`,
      given: String(dims),
      remedy: 'Leave it out to rotate every channel.',
    });
  const frequencies = rotaryFrequencies(dims, base, scaling);
  return tidy(() => {
    const angles = rotaryAngles(positions, frequencies);
    const [forQuery, forKey] = xpos ? [fade(angles, positions, dims, 1, xpos), fade(angles, positions, dims, -1, xpos)] : [angles, angles];
    return {
      query: rotary({ input: query, ...forQuery }, { interleaved }) as tf.Tensor4D,
      key: rotary({ input: key, ...forKey }, { interleaved }) as tf.Tensor4D,
    };
  });
}

/** Multiplies a pair's cos and sin by ζ_r^(± (position - centre) / scaleBase). */
function fade(
  angles: RotaryAngles,
  positions: Positions,
  dims: number,
  sign: 1 | -1,
  { scaleBase = 512, centre = 0 }: XposOptions,
): RotaryAngles {
  const logZeta = Float32Array.from({ length: dims / 2 }, (_, r) => (sign * Math.log(((2 * r) / dims + 0.4) / 1.4)) / scaleBase);
  const at =
    positions instanceof tf.Tensor
      ? tf.expandDims(tf.cast(positions, 'float32'), 2)
      : tf.reshape(tf.range(positions.start, positions.start + positions.length), [1, positions.length, 1]);
  const factor = tf.exp(tf.mul(tf.sub(at, centre), tf.tensor1d(logZeta)));
  return { cos: tf.mul(angles.cos, factor), sin: tf.mul(angles.sin, factor) };
}
