/**
 * Diagonal state spaces S4D and S5, the specification in double precision.
 *
 * Glossary (Gu et al. 2022, section 2; Smith et al. 2022, section 3; all of A, B, C and x complex, one of each conjugate pair stored)
 *   pole      A_n       [H, N] in S4D (N poles of each channel), [P] in S5 (P poles for all channels)
 *   step      Delta     exp(logStep): one per channel in S4D, one per pole in S5
 *   zoh       Abar      exp(Delta A), Bbar = (exp(Delta A) - 1) / A * B
 *   bilinear  Abar      (1 + Delta A / 2) / (1 - Delta A / 2), Bbar = Delta / (1 - Delta A / 2) * B
 *   hidden    x_t       Abar x_{t-1} + Bbar u_t; B = 1 in S4D, [P, H] in S5
 *   output    y_t       2 Re(C x_t) + D u_t; C is [H, N] in S4D, [H, P] in S5
 */
import type { Array64 } from '@seqloom/core';
import { zeros64 } from '../array64.ts';

/** Inputs of `naiveS4d`. */
export interface NaiveS4dInputs {
  /** [B, T, H] */
  readonly input: Array64;
  readonly poleReal: Array64;
  readonly poleImaginary: Array64;
  /** [H] */
  readonly logStep: Array64;
  readonly outputReal: Array64;
  readonly outputImaginary: Array64;
  /** D, [H] */
  readonly skip?: Array64;
  /** [B, H, N] */
  readonly hidden?: Array64;
  readonly hiddenImaginary?: Array64;
  /** [B], valid tokens per row, the rest being padding on the right */
  readonly lengths?: Array64;
}

/** Inputs of `naiveS5`. */
export interface NaiveS5Inputs {
  /** [B, T, H] */
  readonly input: Array64;
  /** [P] */
  readonly poleReal: Array64;
  readonly poleImaginary: Array64;
  readonly logStep: Array64;
  /** [P, H] */
  readonly inputReal: Array64;
  readonly inputImaginary: Array64;
  /** [H, P] */
  readonly outputReal: Array64;
  readonly outputImaginary: Array64;
  readonly skip?: Array64;
  /** [B, T], time since the token before as a multiple of the step */
  readonly interval?: Array64;
  /** [B, P] */
  readonly hidden?: Array64;
  readonly hiddenImaginary?: Array64;
  /** [B, T], 1 for tokens */
  readonly mask?: Array64;
}

/** How the continuous system becomes a recurrence. */
export type Discretisation = 'zoh' | 'bilinear';

/** Output [B, T, H] and state after the last valid token. */
export type NaiveDiagonalResult = { output: Array64; hidden: Array64; hiddenImaginary: Array64 };

type Complex = readonly [number, number];

const times = (a: Complex, b: Complex): Complex => [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]];
const over = (a: Complex, b: Complex): Complex => {
  const size = b[0] * b[0] + b[1] * b[1];
  const [re, im] = times(a, [b[0], -b[1]]);
  return [re / size, im / size];
};

/** Abar, and the factor that makes Bbar of B. */
export function naiveDiscretise(pole: Complex, step: number, method: Discretisation): { decay: Complex; factor: Complex } {
  const z: Complex = [step * pole[0], step * pole[1]];
  if (method === 'zoh') {
    const size = Math.exp(z[0]);
    const decay: Complex = [size * Math.cos(z[1]), size * Math.sin(z[1])];
    return { decay, factor: over([decay[0] - 1, decay[1]], pole) };
  }
  const below: Complex = [1 - z[0] / 2, -z[1] / 2];
  return { decay: over([1 + z[0] / 2, z[1] / 2], below), factor: over([step, 0], below) };
}

/** S4D: every channel has N poles of its own. */
export function naiveS4d(inputs: NaiveS4dInputs, { discretisation }: { readonly discretisation: Discretisation }): NaiveDiagonalResult {
  const { input, poleReal, poleImaginary, logStep, outputReal, outputImaginary, skip, lengths } = inputs;
  const [batch, length, channels] = input.shape as [number, number, number];
  const states = poleReal.shape[1]!;
  const output = zeros64(input.shape);
  const [re, im] = startOf(inputs, [batch, channels, states]);
  for (let h = 0; h < channels; h++) {
    for (let n = 0; n < states; n++) {
      const at = h * states + n;
      const pole: Complex = [poleReal.data[at]!, poleImaginary.data[at]!];
      const { decay, factor } = naiveDiscretise(pole, Math.exp(logStep.data[h]!), discretisation);
      for (let b = 0; b < batch; b++) {
        const lane = (b * channels + h) * states + n;
        for (let t = 0; t < (lengths ? lengths.data[b]! : length); t++) {
          const token = (b * length + t) * channels + h;
          const u = input.data[token]!;
          const kept = times(decay, [re.data[lane]!, im.data[lane]!]);
          [re.data[lane], im.data[lane]] = [kept[0] + factor[0] * u, kept[1] + factor[1] * u];
          output.data[token]! += 2 * (outputReal.data[at]! * re.data[lane]! - outputImaginary.data[at]! * im.data[lane]!);
        }
      }
    }
  }
  addSkip(output, input, skip, (b, t) => t < (lengths ? lengths.data[b]! : length));
  return { output, hidden: re, hiddenImaginary: im };
}

/** S5: all channels write into and read from P poles. */
export function naiveS5(inputs: NaiveS5Inputs, { discretisation }: { readonly discretisation: Discretisation }): NaiveDiagonalResult {
  const { input, poleReal, poleImaginary, logStep, inputReal, inputImaginary, outputReal, outputImaginary, skip, interval, mask } = inputs;
  const [batch, length, channels] = input.shape as [number, number, number];
  const poles = poleReal.shape[0]!;
  const output = zeros64(input.shape);
  const [re, im] = startOf(inputs, [batch, poles]);
  for (let b = 0; b < batch; b++) {
    for (let p = 0; p < poles; p++) {
      const lane = b * poles + p;
      for (let t = 0; t < length; t++) {
        const token = b * length + t;
        const time = Math.exp(logStep.data[p]!) * (interval ? interval.data[token]! : 1);
        const { decay, factor } = naiveDiscretise([poleReal.data[p]!, poleImaginary.data[p]!], time, discretisation);
        if (!mask || mask.data[token] !== 0) {
          let drive: Complex = [0, 0];
          for (let h = 0; h < channels; h++) {
            const u = input.data[token * channels + h]!;
            drive = [drive[0] + inputReal.data[p * channels + h]! * u, drive[1] + inputImaginary.data[p * channels + h]! * u];
          }
          const [kept, added] = [times(decay, [re.data[lane]!, im.data[lane]!]), times(factor, drive)];
          [re.data[lane], im.data[lane]] = [kept[0] + added[0], kept[1] + added[1]];
        }
        for (let h = 0; h < channels; h++) {
          const at = h * poles + p;
          const read = outputReal.data[at]! * re.data[lane]! - outputImaginary.data[at]! * im.data[lane]!;
          output.data[token * channels + h]! += 2 * read;
        }
      }
    }
  }
  addSkip(output, input, skip, () => true);
  return { output, hidden: re, hiddenImaginary: im };
}

function startOf(inputs: { readonly hidden?: Array64; readonly hiddenImaginary?: Array64 }, shape: readonly number[]): [Array64, Array64] {
  const [re, im] = [zeros64(shape), zeros64(shape)];
  if (inputs.hidden) re.data.set(inputs.hidden.data);
  if (inputs.hiddenImaginary) im.data.set(inputs.hiddenImaginary.data);
  return [re, im];
}

function addSkip(output: Array64, input: Array64, skip: Array64 | undefined, live: (row: number, token: number) => boolean): void {
  if (!skip) return;
  const [, length, channels] = input.shape as [number, number, number];
  output.data.forEach((_, at) => {
    const token = Math.floor(at / channels);
    if (live(Math.floor(token / length), token % length)) output.data[at]! += skip.data[at % channels]! * input.data[at]!;
  });
}
