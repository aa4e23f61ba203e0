import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, circlePoint, keepValid, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import { parallelForm } from './parallel.ts';
import type { Parts } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

const MECHANISM = 'hgrn';

/** Tensors that `hgrn` reads, all float32. */
export interface HgrnTensors {
  /** [B, T, E] */
  readonly input: tf.Tensor;
  /** log of the forget gate, at most 0, [B, T, E] */
  readonly logDecay: tf.Tensor;
}

/** Tensors that `hgrnComplex` reads, all float32. */
export interface HgrnComplexTensors extends HgrnTensors {
  /** imaginary part of the input, [B, T, E] */
  readonly inputImaginary: tf.Tensor;
  /** turn per token in radians, [E] */
  readonly angle: tf.Tensor;
}

/** What HGRN carries from piece to piece. */
export interface HgrnState {
  readonly [name: string]: tf.Tensor;
  /** h after the last token, [B, E] */
  readonly memory: tf.Tensor;
}

/** What complex HGRN carries from piece to piece. */
export interface HgrnComplexState extends HgrnState {
  /** [B, E] */
  readonly memoryImaginary: tf.Tensor;
}

/** Options of the HGRN ops; everything has a default. */
export interface HgrnOptions<State extends HgrnState = HgrnState> {
  /** default causal-self; noncausal-self adds the two directions */
  readonly pattern?: 'causal-self' | 'noncausal-self';
  /** default recurrent, which is the faster one; both give the same */
  readonly form?: 'parallel' | 'recurrent';
  /** state of an earlier call, for causal-self */
  readonly state?: State;
  /** [B, T], 1 for tokens and 0 for padding, which changes no state; what stands there must be finite */
  readonly mask?: tf.Tensor;
}

/**
 * The elementwise gated recurrence of HGRN: `h_t = f_t h_{t-1} + u_t`.
 *
 * @param tensors input u [B, T, E] (in HGRN (1 - f) silu(x W_i)) and logDecay, log f [B, T, E]
 * @param options pattern, form, state, mask
 * @returns output, all h [B, T, E], and the state after the last token (of the forward direction); the caller owns both
 * @throws SeqLoomError on a wrong rank, shape, dtype or option
 * @see Qin et al. 2023, arXiv 2311.04823
 */
export function hgrn({ input, logDecay }: HgrnTensors, options: HgrnOptions = {}): { output: tf.Tensor3D; state: HgrnState } {
  const extents = check({ input, logDecay }, options);
  if (options.state) checkTensor(MECHANISM, 'state.memory', options.state.memory, ['B', 'E'], extents);
  return tidy(() => {
    const mask = options.mask ?? null;
    const decay = tf.exp(keepValid(logDecay, mask));
    const { hidden, last } = run([decay], [keepValid(input, mask)], options.state && [options.state.memory], options);
    return { output: hidden[0] as tf.Tensor3D, state: { memory: last[0]! } };
  });
}

/**
 * The complex recurrence of the HGRN paper: `h_t = f_t exp(i theta) h_{t-1} + u_t`, with a turn theta that no token changes.
 *
 * @param tensors input and inputImaginary [B, T, E], logDecay [B, T, E], angle [E]
 * @param options pattern, form, state, mask
 * @returns output and outputImaginary [B, T, E], and the state after the last token (of the forward direction); the caller owns them
 * @throws SeqLoomError on a wrong rank, shape, dtype or option
 * @see Qin et al. 2023, section 3.2, arXiv 2311.04823
 */
export function hgrnComplex(
  { input, inputImaginary, logDecay, angle }: HgrnComplexTensors,
  options: HgrnOptions<HgrnComplexState> = {},
): { output: tf.Tensor3D; outputImaginary: tf.Tensor3D; state: HgrnComplexState } {
  const extents = check({ input, logDecay, inputImaginary }, options);
  checkTensor(MECHANISM, 'angle', angle, ['E'], extents);
  const { state, mask = null } = options;
  if (state) {
    checkTensor(MECHANISM, 'state.memory', state.memory, ['B', 'E'], extents);
    checkTensor(MECHANISM, 'state.memoryImaginary', state.memoryImaginary, ['B', 'E'], extents);
  }
  return tidy(() => {
    const size = tf.exp(logDecay);
    const { cos, sin } = circlePoint(tf.reshape(tf.mul(angle, 1 / (2 * Math.PI)), [1, 1, angle.size]));
    const [real, imaginary] = [tf.mul(size, cos), keepValid(tf.mul(size, sin), mask)];
    // padding turns nothing, and keeps all
    const decay = [mask ? tf.add(keepValid(real, mask), absent(mask)) : real, imaginary];
    const inputs = [keepValid(input, mask), keepValid(inputImaginary, mask)];
    const { hidden, last } = run(decay, inputs, state && [state.memory, state.memoryImaginary], options);
    const [output, outputImaginary] = hidden as [tf.Tensor3D, tf.Tensor3D];
    return { output, outputImaginary, state: { memory: last[0]!, memoryImaginary: last[1]! } };
  });
}

// [B, T, 1], 1 at padding
function absent(mask: tf.Tensor): tf.Tensor {
  return tf.reshape(tf.sub(1, tf.cast(mask, 'float32')), [...mask.shape, 1]);
}

function run(
  decay: Parts,
  input: Parts,
  state: Parts | undefined,
  { form, pattern }: Pick<HgrnOptions, 'form' | 'pattern'>,
): { hidden: tf.Tensor[]; last: tf.Tensor[] } {
  const scan = form === 'parallel' ? parallelForm : recurrentForm;
  const [batch, length, width] = input[0]!.shape as [number, number, number];
  const forward = scan({ decay, input, state });
  const last = forward.map((part) => tf.reshape(tf.slice(part, [0, length - 1, 0], [batch, 1, width]), [batch, width]));
  if (pattern !== 'noncausal-self') return { hidden: forward.map((part, i) => (part === input[i] ? tf.clone(part) : part)), last };
  const backward = scan({ decay, input }, true);
  return { hidden: forward.map((part, i) => tf.add(part, backward[i]!)), last };
}

function check(tensors: Record<string, tf.Tensor>, { pattern = 'causal-self', form = 'recurrent', state, mask }: HgrnOptions): Extents {
  const extents: Extents = new Map<string, number>();
  for (const [name, tensor] of Object.entries(tensors)) checkTensor(MECHANISM, name, tensor, ['B', 'T', 'E'], extents);
  const setting = (name: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(MECHANISM, name, right, wanted, given, remedy);
  const causal = pattern === 'causal-self';
  setting('pattern', causal || pattern === 'noncausal-self', 'causal-self or noncausal-self', pattern, 'Leave it out for causal-self.');
  setting('form', form === 'parallel' || form === 'recurrent', 'parallel or recurrent', form, 'Leave it out for recurrent.');
  setting('state', causal || !state, 'left out for noncausal-self', 'a state', 'Pass all tokens at once.');
  if (mask) {
    const fits = mask.rank === 2 && mask.shape[0] === extents.get('B') && mask.shape[1] === extents.get('T');
    setting('mask', fits, `[${extents.get('B')}, ${extents.get('T')}]`, `[${mask.shape.join(', ')}]`, 'Give one number per token.');
  }
  return extents;
}
