import { checkSetting, checkTensor, fail, keepValid } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { checkPerToken } from '../check-layout.ts';
import { cosine, sine } from '../elementary.ts';
import { chunkForm } from './chunk.ts';
import type { Parts } from './complex.ts';
import { parallelForm } from './parallel.ts';
import type { Scanned } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `parallelScan` reads, all float32; a decay is [B, T, C], or one that all channels share [B, T, 1], or all tokens [C]. */
export interface ScanTensors {
  /** b, [B, T, C] */
  readonly input: tf.Tensor;
  /** imaginary part of b */
  readonly inputImaginary?: tf.Tensor | undefined;
  /** a; this or `logDecay` */
  readonly decay?: tf.Tensor | undefined;
  /** imaginary part of a */
  readonly decayImaginary?: tf.Tensor | undefined;
  /** log of the magnitude of a, at most 0 for a recurrence that does not grow */
  readonly logDecay?: tf.Tensor | undefined;
  /** angle of a in radians, beside `logDecay` */
  readonly phase?: tf.Tensor | undefined;
  /** [B, T], 1 where a sequence begins: what was before is forgotten */
  readonly reset?: tf.Tensor | undefined;
}

/** What the recurrence carries from piece to piece. */
export interface ScanState {
  readonly [name: string]: tf.Tensor;
  /** h, [B, C]; for complex recurrences `hiddenImaginary` stands beside it */
  readonly hidden: tf.Tensor;
}

/** Settings of `parallelScan`; everything has a default. */
export interface ScanSettings {
  /** state of an earlier call; default zeros */
  readonly state?: ScanState;
  /** default chunk */
  readonly form?: 'parallel' | 'chunk' | 'recurrent';
  /** run from the last token to the first, default false */
  readonly reverse?: boolean;
  /** [B, T], 1 for tokens and 0 for padding, which leaves the state as it is; what stands at padding must be finite */
  readonly mask?: tf.Tensor;
}

/** Result of `parallelScan`. */
export interface ScanResult {
  /** h at every token, [B, T, C] */
  readonly output: tf.Tensor;
  /** its imaginary part, for complex recurrences */
  readonly outputImaginary?: tf.Tensor;
  readonly state: ScanState;
}

const MECHANISM = 'parallel-scan';

/**
 * The first-order linear recurrence `h_t = a_t h_{t-1} + b_t`, real or complex, per channel.
 *
 * It is complex when any imaginary part or a phase is given. Nothing is divided by, so any decay is exact to rounding, 0 and 1 too.
 *
 * @param tensors input [B, T, C], and decay or logDecay [B, T, C], [B, T, 1] or [C]; imaginary parts, phase and reset where wanted
 * @param settings state, form, reverse and mask; see `ScanSettings` for the defaults
 * @returns output [B, T, C] and the state computed last, `hidden` [B, C]; both have gradients and are the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Martin & Cundy 2018, arXiv 1709.04057
 */
export function parallelScan(tensors: ScanTensors, settings: ScanSettings = {}): ScanResult {
  check(tensors, settings);
  const { state, form = 'chunk', reverse = false } = settings;
  const complex = isComplex(tensors);
  const hidden: Parts | null = state ? (complex ? [state.hidden, state.hiddenImaginary!] : [state.hidden]) : null;
  // tidy sees tensors alone, so the parts come out in one list
  const [output, last, outputImaginary, lastImaginary] = tf.tidy(() => {
    const scan = { ...partsOf(tensors, settings.mask), hidden, reverse };
    const found: Scanned = form === 'chunk' ? chunkForm(scan) : form === 'parallel' ? parallelForm(scan) : recurrentForm(scan);
    return found.output.flatMap((part, index) => [part, found.hidden[index]!]);
  }) as [tf.Tensor, tf.Tensor, tf.Tensor?, tf.Tensor?];
  if (!outputImaginary || !lastImaginary) return { output, state: { hidden: last } };
  return { output, outputImaginary, state: { hidden: last, hiddenImaginary: lastImaginary } };
}

function isComplex({ decayImaginary, phase, inputImaginary }: ScanTensors): boolean {
  return decayImaginary !== undefined || phase !== undefined || inputImaginary !== undefined;
}

function partsOf(tensors: ScanTensors, mask: tf.Tensor | undefined): { decay: Parts; input: Parts } {
  const { input, inputImaginary, reset } = tensors;
  const [batch, length] = input.shape as [number, number];
  const zeros = tf.zeros(input.shape);
  const full = (part: tf.Tensor): tf.Tensor => (part.rank === 3 && part.shape[2] === input.shape[2] ? part : tf.add(part, zeros));
  let decay = decayOf(tensors).map(full);
  let inputs: tf.Tensor[] = [input];
  if (isComplex(tensors)) {
    inputs = [input, inputImaginary ?? zeros];
    if (decay.length === 1) decay = [decay[0]!, zeros];
  }
  if (reset) {
    const keep = tf.sub(1, tf.reshape(tf.cast(reset, 'float32'), [batch, length, 1]));
    decay = decay.map((part) => tf.mul(part, keep));
  }
  if (!mask) return { decay, input: inputs };
  // padding hands the state on: a = 1, b = 0
  const hole = tf.sub(1, tf.reshape(tf.cast(mask, 'float32'), [batch, length, 1]));
  const kept = decay.map((part) => keepValid(part, mask));
  return {
    decay: kept.map((part, index) => (index === 0 ? tf.add(part, hole) : part)),
    input: inputs.map((part) => keepValid(part, mask)),
  };
}

function decayOf({ decay, decayImaginary, logDecay, phase }: ScanTensors): tf.Tensor[] {
  if (decay) return decayImaginary ? [decay, decayImaginary] : [decay];
  const magnitude = tf.exp(logDecay!);
  return phase ? [tf.mul(magnitude, cosine(phase)), tf.mul(magnitude, sine(phase))] : [magnitude];
}

function check(tensors: ScanTensors, { state, form = 'chunk', mask }: ScanSettings): void {
  const { input, inputImaginary, decay, decayImaginary, logDecay, phase, reset } = tensors;
  const extents: Extents = new Map<string, number>();
  const wide = ['batch', 'time', 'channels'];
  checkTensor(MECHANISM, 'input', input, wide, extents);
  if (inputImaginary) checkTensor(MECHANISM, 'inputImaginary', inputImaginary, wide, extents);
  const refuse = (argument: string, wanted: string, given: string, remedy: string): never =>
    fail({ mechanism: MECHANISM, argument, wanted, given, remedy });
  if ((decay === undefined) === (logDecay === undefined)) {
    refuse('decay', 'given, or logDecay in its place', decay ? 'both' : 'neither', 'Give one of the two.');
  }
  if (logDecay && decayImaginary) refuse('decayImaginary', 'absent beside logDecay', 'both', 'Give the angle as phase.');
  if (decay && phase) refuse('phase', 'absent beside decay', 'both', 'Give the imaginary part as decayImaginary.');
  for (const [name, tensor] of Object.entries({ decay, decayImaginary, logDecay, phase })) {
    if (!tensor) continue;
    if (tensor.rank === 1) checkTensor(MECHANISM, name, tensor, ['channels'], extents);
    else checkTensor(MECHANISM, name, tensor, tensor.shape[2] === 1 ? ['batch', 'time', 1] : wide, extents);
  }
  checkPerToken(MECHANISM, input, { reset, mask });
  if (state) {
    checkTensor(MECHANISM, 'state.hidden', state.hidden, ['batch', 'channels'], extents);
    if (isComplex(tensors)) checkTensor(MECHANISM, 'state.hiddenImaginary', state.hiddenImaginary, ['batch', 'channels'], extents);
  }
  const forms = ['parallel', 'chunk', 'recurrent'];
  checkSetting(MECHANISM, 'form', forms.includes(form), forms.join(', '), form, 'Choose one of its forms.');
}
