import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import {
  advance,
  childState,
  deriveSeed,
  divideHeads,
  fail,
  joinStates,
  layerEntries,
  normal,
  Parameter,
  parseConfig,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
  stopGradient,
} from '@seqloom/core';
import type { MixerResult, MixInput, State, StateShapes } from '@seqloom/core';
import { boundedShapes, fitCache, resetRows } from '../segments/cache.ts';
import { phaseShape } from '../segments/phase.ts';
import { chooseRows, walkSegments } from '../segments/walk.ts';
import type { SegmentPiece } from '../segments/walk.ts';
import { TransformerStack } from './transformer-stack.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** L, tokens of a segment, memory not counted */
  segmentLength: positiveInteger,
  /** m, memory vectors */
  memoryTokens: v.optional(positiveInteger, 10),
  /** gradients reach back over this many segments of a call at most; null: all */
  bpttDepth: v.optional(v.nullable(positiveInteger), null),
  /** standard deviation of the first memory; that of the token embeddings is right */
  memoryDeviation: v.optional(positiveNumber, 0.02),
  /** of the stack that the layer builds when it gets none */
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self']), 'causal-self'),
  /** blocks of the stack that the layer builds */
  depth: v.optional(positiveInteger, 1),
  /** attention heads of the stack that the layer builds */
  heads: v.optional(positiveInteger, 1),
});

/** Config of `RecurrentMemoryTransformer`: dim and segmentLength; all else has a default. */
export type RecurrentMemoryTransformerConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'recurrent-memory-transformer';

/** What goes from piece to piece: the memory of the segment, and the stack's state within it (null: at its start). */
type Carry = { readonly memory: tf.Tensor3D; readonly inner: State | null };

/**
 * A stack of blocks that carries memory vectors from segment to segment: `[., O, M'] = stack([M; X; M])`.
 *
 * The stack is any causal (or noncausal) mixer, by default `depth` blocks of attention and SwiGLU with a final norm. The state is `memory`
 * [B, m, D] (zeros while the first segment is not finished), the stack's state within the unfinished segment under `stack.`, caches bounded
 * at m + L - 1 tokens, and `phase`. A noncausal stack sees whole segments, counted from the start of each call, and carries the memory alone.
 * Learned beside the stack: m D numbers, the first memory.
 *
 * @see Bulatov et al. 2022, arXiv 2207.06881
 */
export class RecurrentMemoryTransformer extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: 'causal-self' | 'noncausal-self';
  readonly stack: SequenceMixer;
  readonly firstMemory: Parameter;

  /**
   * @param config plain JSON
   * @param stack the mixer inside, causal-self or noncausal-self, of width `dim`; it then belongs to this layer
   * @throws SeqLoomError on a config that does not fit, or a stack of another width or pattern
   */
  constructor(config: RecurrentMemoryTransformerConfig, stack?: SequenceMixer) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, memoryTokens, memoryDeviation, pattern, depth, heads, seed, outputDeviation } = this.config;
    if (stack) checkStack(stack, dim);
    else divideHeads(MECHANISM, dim, heads);
    this.dim = dim;
    this.stack = stack ?? new TransformerStack({ dim, depth, heads, pattern, seed, outputDeviation });
    this.pattern = this.stack.pattern as 'causal-self' | 'noncausal-self';
    this.firstMemory = new Parameter([memoryTokens, dim], normal(memoryDeviation), deriveSeed(seed, 'firstMemory'));
  }

  /** tokens that the stack's caches hold of an unfinished segment */
  get #capacity(): number {
    return this.config.memoryTokens + this.config.segmentLength - 1;
  }

  stateShapes(batch: number): StateShapes {
    const memory = { memory: [batch, this.config.memoryTokens, this.dim] };
    if (this.pattern === 'noncausal-self') return memory;
    const inner = Object.entries({ ...boundedShapes(this.stack.stateShapes(batch), this.#capacity), position: [batch] });
    return { ...memory, phase: phaseShape(batch), ...Object.fromEntries(inner.map(([name, shape]) => [`stack.${name}`, shape])) };
  }

  override mixingFlops(length: number): number {
    const { segmentLength, memoryTokens } = this.config;
    const flops = this.stack.mixingFlops(Math.min(length, segmentLength) + memoryTokens);
    // read and write tokens run through the stack as well
    return (flops * (segmentLength + 2 * memoryTokens)) / segmentLength;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, lengths } = input;
    const first = this.#startMemory(state);
    if (this.pattern === 'noncausal-self') return this.#encode(input, first);
    const { segmentLength, memoryTokens } = this.config;
    const phase = state.phase!.shape[1]!;
    const shapes = this.stack.stateShapes(x.shape[0]);
    // rows at one place need no more of their caches than what they have filled
    const filled = lengths === null && phase < segmentLength ? memoryTokens + phase : this.#capacity;
    const start: Carry = { memory: first, inner: phase === 0 ? null : fitCache(childState(state, 'stack'), shapes, filled) };
    const walk = walkSegments(input, segmentLength, start, (piece, carry) => {
      const held = { ...carry, memory: this.#detach(carry.memory, piece.index) };
      return piece.lengths === null ? this.#together(piece, held, input) : this.#apart(piece, held, input);
    });
    const batch = x.shape[0];
    const inner = fitCache(walk.carry.inner ?? this.#emptyCache(batch), shapes, this.#capacity);
    const position = advance(state.position, x, lengths);
    const memory = tf.mul(walk.carry.memory, written(position, segmentLength));
    return { output: walk.output, state: { ...joinStates(position, { stack: inner }), memory, phase: walk.phase } };
  }

  /** One call of the stack on memory, tokens and memory, for rows that stand at the same place. */
  #together({ x, starts, ends }: SegmentPiece, { memory, inner }: Carry, input: MixInput): { output: tf.Tensor3D; carry: Carry } {
    const [batch, count, dim] = x.shape;
    const { memoryTokens } = this.config;
    const rows = [...(starts === true ? [memory] : []), x, ...(ends === true ? [memory] : [])];
    const state = starts === true || !inner ? this.stack.initialState(batch) : inner;
    const result = this.stack.mix({ ...input, x: rows.length === 1 ? x : tf.concat(rows, 1), state, valid: null, lengths: null });
    const at = starts === true ? memoryTokens : 0;
    return {
      output: rows.length === 1 ? result.output : tf.slice(result.output, [0, at, 0], [batch, count, dim]),
      carry:
        ends === true
          ? { memory: tf.slice(result.output, [0, at + count, 0], [batch, memoryTokens, dim]), inner: null }
          : { memory, inner: result.state },
    };
  }

  /** Three calls of the stack, each for the rows that are due, for rows that stand at places of their own. */
  #apart({ x, valid, lengths, starts, ends }: SegmentPiece, carry: Carry, input: MixInput): { output: tf.Tensor3D; carry: Carry } {
    const batch = x.shape[0];
    const { memoryTokens } = this.config;
    const shapes = this.stack.stateShapes(batch);
    const run = (rows: tf.Tensor3D, before: State, live: tf.Tensor2D, counts: tf.Tensor1D): MixerResult => {
      const result = this.stack.mix({ ...input, x: rows, state: before, valid: live, lengths: counts });
      return { output: result.output, state: fitCache(result.state, shapes, this.#capacity + memoryTokens) };
    };
    const due = (flag: tf.Tensor1D): [tf.Tensor2D, tf.Tensor1D] => [
      tf.mul(tf.reshape(flag, [batch, 1]), tf.ones([1, memoryTokens])) as tf.Tensor2D,
      tf.mul(flag, memoryTokens) as tf.Tensor1D,
    ];
    const inner = carry.inner ?? this.#emptyCache(batch);
    const read = run(carry.memory, inner, ...due(starts as tf.Tensor1D));
    const tokens = run(x, read.state, valid!, lengths!);
    const write = run(carry.memory, tokens.state, ...due(ends as tf.Tensor1D));
    return {
      output: tokens.output,
      carry: {
        memory: chooseRows(ends, write.output, carry.memory) as tf.Tensor3D,
        inner: resetRows(write.state, ends as tf.Tensor1D),
      },
    };
  }

  /** A noncausal stack on [memory; segment], segment by segment; the outputs at the memory are the next one. */
  #encode(input: MixInput, first: tf.Tensor3D): MixerResult {
    const { x, state, valid, lengths } = input;
    const [batch, length, dim] = x.shape;
    const { segmentLength, memoryTokens } = this.config;
    const outputs: tf.Tensor3D[] = [];
    let memory = first;
    for (let at = 0, index = 0; at < length; at += segmentLength, index++) {
      memory = this.#detach(memory, index);
      const count = Math.min(segmentLength, length - at);
      const rows = tf.concat([memory, tf.slice(x, [0, at, 0], [batch, count, dim])], 1);
      const live = valid && tf.slice(valid, [0, at], [batch, count]);
      const own = live && (tf.sum(live, 1) as tf.Tensor1D);
      const result = this.stack.mix({
        ...input,
        x: rows,
        state: this.stack.initialState(batch),
        valid: live && (tf.concat([tf.ones([batch, memoryTokens]), live], 1) as tf.Tensor2D),
        lengths: own && (tf.add(own, memoryTokens) as tf.Tensor1D),
      });
      outputs.push(tf.slice(result.output, [0, memoryTokens, 0], [batch, count, dim]));
      const some = own ? (tf.clipByValue(own, 0, 1) as tf.Tensor1D) : true;
      memory = chooseRows(some, tf.slice(result.output, [0, 0, 0], [batch, memoryTokens, dim]), memory) as tf.Tensor3D;
    }
    const position = advance(state.position, x, lengths);
    return { output: tf.concat(outputs, 1), state: { memory: tf.mul(memory, written(position, 1)), position } };
  }

  // a new state is all zeros, and so is the memory until a segment is finished: the learned one stands in
  #startMemory(state: State): tf.Tensor3D {
    const some = written(state.position, this.pattern === 'noncausal-self' ? 1 : this.config.segmentLength);
    const learned = tf.mul(tf.expandDims(this.firstMemory.value, 0), tf.sub(1, some));
    return tf.add(tf.mul(state.memory!, some), learned) as tf.Tensor3D;
  }

  #detach(memory: tf.Tensor3D, segment: number): tf.Tensor3D {
    const { bpttDepth } = this.config;
    return bpttDepth !== null && segment > 0 && segment % bpttDepth === 0 ? stopGradient(memory) : memory;
  }

  #emptyCache(batch: number): State {
    return fitCache(this.stack.initialState(batch), this.stack.stateShapes(batch), this.#capacity);
  }
}

/** [B, 1, 1], 1 for rows that have finished a segment, and so have written memory. */
function written(position: tf.Tensor, segmentLength: number): tf.Tensor {
  return tf.reshape(tf.cast(tf.greaterEqual(position, segmentLength), 'float32'), [-1, 1, 1]);
}

function checkStack(stack: SequenceMixer, dim: number): void {
  const right = stack.dim === dim && stack.pattern.endsWith('self');
  if (right) return;
  fail({
    mechanism: MECHANISM,
    argument: 'stack',
    wanted: `a self mixer of width ${dim}`,
    given: `a ${stack.pattern} mixer of width ${stack.dim}`,
    remedy: 'Build stack and memory for the same width, and use a causal-self or noncausal-self stack.',
  });
}
