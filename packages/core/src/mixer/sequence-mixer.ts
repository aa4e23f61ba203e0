import * as tf from '@tensorflow/tfjs-core';
import type { Pattern } from '../card.ts';
import { fail } from '../error.ts';
import { Module } from '../module/module.ts';
import { bytesOfShapes, checkState, zeroState } from '../state/state.ts';
import type { State, StateShapes } from '../state/state.ts';
import { tidyLosses } from './channel-mixer.ts';
import type { LossSink } from './channel-mixer.ts';
import { alignLeft } from './padding.ts';
import { lastStates, placeSegments, planSegments, stateRows, takeSegments } from './segments.ts';

/** What a caller may pass beside the input. */
export interface MixerOptions {
  /** the state that the call before returned; absent: start anew */
  readonly state?: State;
  /** [B, T], 1 for tokens and 0 for padding; padded tokens change nothing and give zeros */
  readonly mask?: tf.Tensor;
  /**
   * packed sequences: per row of the batch T whole numbers, a run of one number being a segment that sees no other, and 0 padding. Output
   * and gradients are those of the segments fed apart. The first segment of a row goes on from `state` if there is one, and the state
   * returned is that of the row's last segment. On the host, because the layout is planned before any work; for self patterns, without `mask`
   */
  readonly segmentIds?: readonly ArrayLike<number>[];
  /** [B, S, D], the other sequence of a cross pattern */
  readonly context?: tf.Tensor;
  /** [B, S], 1 for tokens of the context and 0 for its padding */
  readonly contextMask?: tf.Tensor;
  readonly training?: boolean;
  /** takes auxiliary losses, such as a router's balance */
  readonly losses?: LossSink;
}

/** Keys and values of one layer that later layers attend to instead of making their own. */
export interface SharedKeyValue {
  /** [B, T, G, D], after rotation */
  readonly key: tf.Tensor;
  /** [B, T, G, Dv] */
  readonly value: tf.Tensor;
  /** the state of the layer that made them, before this piece */
  readonly state: State;
}

/** Output and state of one call; the caller owns both. */
export interface MixerResult {
  /** [B, T, D]; of a mixer without output projection [B, T, outputDim] */
  readonly output: tf.Tensor3D;
  readonly state: State;
  /** for later layers of a stack; theirs for the time of the call */
  readonly keyValue?: SharedKeyValue | undefined;
}

/** What a mixer's own code receives: checked, with padding only on the right. */
export interface MixInput {
  /** [B, T, D]; rows may have padding on the right, where values are finite but arbitrary (so is the output there) */
  readonly x: tf.Tensor3D;
  /** always there; at the start it is the initial state */
  readonly state: State;
  /** [B, T] float32, 1 for tokens; null when there is no padding */
  readonly valid: tf.Tensor2D | null;
  /** [B] float32, valid tokens per row; null when there is no padding */
  readonly lengths: tf.Tensor1D | null;
  /** [B, S, D] for cross patterns, padding on the right; null without */
  readonly context: tf.Tensor3D | null;
  readonly contextValid: tf.Tensor2D | null;
  readonly training: boolean;
  /** keys and values of an earlier layer, for a mixer that makes none */
  readonly keyValue?: SharedKeyValue | undefined;
  /** takes the losses that mixers and channel mixers add to the task's */
  readonly losses?: LossSink | undefined;
}

/**
 * A layer that mixes tokens along time and carries a state.
 *
 * One method, `forward`, serves training, prefill, continuation by pieces and one-token decode: for every partition of a sequence the
 * pieces fed with the returned states give what one call on the whole gives.
 */
export abstract class SequenceMixer extends Module {
  /** id of the mechanism, used in errors */
  abstract readonly mechanism: string;
  /** width D of input and output */
  abstract readonly dim: number;
  /** width of the output; it differs from `dim` only in a mixer without its output projection, a branch of a parallel block */
  get outputDim(): number {
    return this.dim;
  }

  /** the pattern of this instance */
  abstract readonly pattern: Pattern;

  /** Shapes of the state tensors for a batch, `position` left out. */
  abstract stateShapes(batch: number): StateShapes;

  /** The mixer's own work on checked, right-padded input; composite mixers call it on their children. */
  abstract mix(input: MixInput): MixerResult;

  /** The state before the first token. */
  initialState(batch: number): State {
    return zeroState(batch, this.stateShapes(batch));
  }

  /** Bytes of state for a batch after `length` tokens. */
  stateBytes(batch: number, length: number): number {
    return bytesOfShapes(batch, length, this.stateShapes(batch));
  }

  /** Floating-point operations per row and token that the mixing costs after `length` tokens, products with parameters left out. */
  mixingFlops(_length: number): number {
    return 0;
  }

  /**
   * Mixes a piece of a sequence.
   *
   * @param x float32 [B, T, D]
   * @returns output [B, T, D] (zeros at padded tokens) and the state after the last valid token of each row
   * @throws SeqLoomError on a wrong rank, shape, dtype, mask, state, segments or missing context
   */
  forward(x: tf.Tensor, options: MixerOptions = {}): MixerResult {
    this.check(x, options);
    const [batch] = x.shape as [number, number, number];
    if (options.segmentIds) return this.forwardSegments(x as tf.Tensor3D, options.segmentIds, options);
    return tidyLosses(options.losses, (losses) => {
      const state = options.state ?? this.initialState(batch);
      const context = options.context as tf.Tensor3D | undefined;
      const side = context && options.contextMask ? alignLeft(context, options.contextMask as tf.Tensor2D) : null;
      const rest = {
        context: side?.x ?? context ?? null,
        contextValid: side?.valid ?? null,
        training: options.training ?? false,
        losses,
      };
      if (!options.mask) return ownResult(this.mix({ x: x as tf.Tensor3D, state, valid: null, lengths: null, ...rest }), options.state);
      const aligned = alignLeft(x as tf.Tensor3D, options.mask as tf.Tensor2D);
      const result = this.mix({ x: aligned.x, state, valid: aligned.valid, lengths: aligned.lengths, ...rest });
      return ownResult({ output: aligned.restore(result.output), state: result.state }, options.state);
    });
  }

  // rows of a batch do not see one another, so each segment becomes a row: exact for every mechanism
  private forwardSegments(x: tf.Tensor3D, segmentIds: readonly ArrayLike<number>[], options: MixerOptions): MixerResult {
    const [batch, length] = x.shape;
    const plan = planSegments(this.mechanism, segmentIds, batch, length, options.state !== undefined);
    return tidyLosses(options.losses, (losses) => {
      const before = options.state ?? this.initialState(batch);
      const rest = { context: null, contextValid: null, training: options.training ?? false, losses };
      const results = plan.groups.map((group) => {
        const rows = group.segments.map((segment) => segment.row);
        const state = group.continues ? stateRows(before, rows) : this.initialState(rows.length);
        return this.mix({ ...takeSegments(x, group), state, ...rest });
      });
      const output = placeSegments(
        results.map((result) => result.output),
        plan,
        this.outputDim,
      );
      const states = results.map((result) => result.state);
      return ownResult({ output, state: lastStates(states, before, plan, this.stateShapes(batch)) }, options.state);
    });
  }

  private check(x: tf.Tensor, options: MixerOptions): void {
    const mechanism = this.mechanism;
    const remedy = 'Pass a float32 tensor laid out as batch, time, channels.';
    if (x.rank !== 3 || x.shape[2] !== this.dim || x.shape[1] === 0 || x.dtype !== 'float32') {
      fail({ mechanism, argument: 'x', wanted: `float32 [B, T >= 1, ${this.dim}]`, given: describe(x), remedy });
    }
    const [batch, length] = x.shape as [number, number, number];
    checkMask(mechanism, 'mask', options.mask, batch, length);
    const cross = this.pattern.endsWith('cross');
    const { context } = options;
    if (cross && !context) {
      fail({ mechanism, argument: 'context', wanted: '[B, S, D] for a cross pattern', given: 'none', remedy: 'Pass the other sequence.' });
    }
    if (!cross && context) {
      fail({
        mechanism,
        argument: 'context',
        wanted: `absent for the pattern ${this.pattern}`,
        given: describe(context),
        remedy: 'Build the layer with a cross pattern, or leave the context out.',
      });
    }
    if (context && (context.rank !== 3 || context.shape[0] !== batch || context.shape[1] === 0 || context.dtype !== 'float32')) {
      fail({ mechanism, argument: 'context', wanted: `float32 [${batch}, S >= 1, D]`, given: describe(context), remedy });
    }
    if (context) checkMask(mechanism, 'contextMask', options.contextMask, batch, context.shape[1]!);
    if (options.state) checkState(mechanism, options.state, batch, this.stateShapes(batch));
    if (options.segmentIds && (cross || options.mask)) {
      fail({
        mechanism,
        argument: 'segmentIds',
        wanted: cross ? `left out for the pattern ${this.pattern}` : 'given without a mask',
        given: cross ? 'segments' : 'segments and a mask',
        remedy: cross ? 'Feed the segments as rows, each with its context.' : 'Mark padding with segment 0, and leave the mask out.',
      });
    }
  }
}

/** Shape and dtype of a tensor, for error texts. */
export function describe(tensor: tf.Tensor): string {
  return `${tensor.dtype} [${tensor.shape.join(', ')}]`;
}

function checkMask(mechanism: string, argument: string, mask: tf.Tensor | undefined, batch: number, length: number): void {
  if (mask && !tf.util.arraysEqual(mask.shape, [batch, length])) {
    fail({
      mechanism,
      argument,
      wanted: `[${batch}, ${length}] with 1 for tokens and 0 for padding`,
      given: describe(mask),
      remedy: 'Pass one number per token of the input.',
    });
  }
}

/** A result never holds the very tensor objects that the caller passed in. */
function ownResult(result: MixerResult, given: State | undefined): MixerResult {
  // what the result holds beside output and state is for a stack alone and is freed with the call
  if (!given) return { output: result.output, state: result.state };
  const theirs = new Set<tf.Tensor>(Object.values(given));
  const own = Object.entries(result.state).map(([name, tensor]) => [name, theirs.has(tensor) ? tf.clone(tensor) : tensor]);
  return { output: result.output, state: Object.fromEntries(own) as unknown as State };
}

/** Position [B] after a piece: plus the valid tokens of each row. */
export function advance(position: tf.Tensor, x: tf.Tensor, lengths: tf.Tensor1D | null): tf.Tensor {
  return tf.add(position, lengths ?? x.shape[1]!);
}
