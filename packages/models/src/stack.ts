import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  childState,
  fail,
  gatherRows,
  joinStates,
  makeNorm,
  normal,
  Parameter,
  SequenceMixer,
  tidy,
  zeroState,
} from '@seqloom/core';
import type { Block, MixerResult, MixInput, Norm, NormConfig, SharedKeyValue, State, StateShapes } from '@seqloom/core';

/** What a stack is made of. */
export interface StackParts {
  readonly dim: number;
  readonly layers: readonly Block[];
  /** per layer, the earlier layer whose keys and values it attends to; null or absent: its own */
  readonly keyValueFrom?: readonly (number | null)[];
  /** the norm after the last layer; null: none */
  readonly norm: NormConfig | null;
  readonly metaTokens?: { readonly count: number; readonly deviation: number } | undefined;
  readonly positions?: { readonly max: number; readonly deviation: number } | undefined;
  readonly seed?: number;
}

/**
 * A stack of blocks with one norm at the end; its state holds the states of its layers under `<index>.<name>`.
 *
 * Meta tokens stand before the first token of every sequence: they are part of the state that a sequence starts from, and of its positions.
 */
export class Stack extends SequenceMixer {
  readonly mechanism = 'stack';
  readonly pattern = 'causal-self';
  readonly dim: number;
  /** [count, D], null without */
  readonly meta: Parameter | null;
  /** learned positions [max, D], null without */
  readonly positions: Parameter | null;
  readonly layers: readonly Block[];
  readonly finalNorm: Norm | null;
  readonly #keyValueFrom: readonly (number | null)[];

  constructor(parts: StackParts) {
    super();
    const { dim, layers, keyValueFrom, norm, metaTokens, positions, seed = 0 } = parts;
    this.dim = dim;
    this.meta = metaTokens ? new Parameter([metaTokens.count, dim], normal(metaTokens.deviation), seed, { decay: false }) : null;
    this.positions = positions ? new Parameter([positions.max, dim], normal(positions.deviation), seed + 1) : null;
    this.layers = layers;
    this.finalNorm = norm ? makeNorm(dim, norm) : null;
    this.#keyValueFrom = keyValueFrom ?? [];
  }

  stateShapes(batch: number): StateShapes {
    const entries = this.layers.flatMap((layer, index) => [
      ...Object.entries(layer.stateShapes(batch)).map(([name, shape]) => [`${index}.${name}`, shape] as const),
      [`${index}.position`, [batch]] as const,
    ]);
    return Object.fromEntries(entries);
  }

  /** The state before the first token: after the meta tokens, if there are any. */
  override initialState(batch: number): State {
    const { meta } = this;
    if (!meta) return zeroState(batch, this.stateShapes(batch));
    return tidy(() => {
      const [count, dim] = meta.shape as [number, number];
      const x = tf.reshape(meta.value, [1, count, dim]) as tf.Tensor3D;
      const start = zeroState(1, this.stateShapes(1));
      // meta tokens see no text, so what follows them is the same for every row
      const { state } = this.mix({ x, state: start, valid: null, lengths: null, context: null, contextValid: null, training: false });
      const rows = Object.entries(state).map(([name, tensor]) => [
        name,
        tf.add(tensor, tf.zeros([batch, ...tensor.shape.slice(1)], tensor.dtype)),
      ]);
      return Object.fromEntries(rows) as State;
    });
  }

  override stateBytes(batch: number, length: number): number {
    return super.stateBytes(batch, length + (this.meta?.shape[0] ?? 0));
  }

  override mixingFlops(length: number): number {
    return this.layers.reduce((sum, layer) => sum + layer.mixingFlops(length + (this.meta?.shape[0] ?? 0)), 0);
  }

  mix(input: MixInput): MixerResult {
    let x = this.#place(input);
    const none = { context: null, contextValid: null };
    const states: Record<string, State> = {};
    const made = new Map<number, SharedKeyValue>();
    for (const [index, layer] of this.layers.entries()) {
      const from = this.#keyValueFrom[index] ?? null;
      const keyValue = from === null ? undefined : made.get(from);
      const reads = layer.pattern.endsWith('cross');
      if (reads && !input.context) refuseContext(index, layer.pattern);
      const result = layer.mix({ ...input, ...(reads ? {} : none), x, state: childState(input.state, String(index)), keyValue });
      x = result.output;
      states[index] = result.state;
      if (result.keyValue && this.#keyValueFrom.includes(index)) made.set(index, result.keyValue);
    }
    const position = advance(input.state.position, x, input.lengths);
    return { output: this.finalNorm?.forward(x) ?? x, state: joinStates(position, states) };
  }

  #place({ x, state, valid }: MixInput): tf.Tensor3D {
    const table = this.positions;
    if (!table) return x;
    const [batch, length, dim] = x.shape;
    const index = tf.add(tf.reshape(state.position, [batch, 1]), tf.reshape(tf.range(0, length), [1, length]));
    const most = table.shape[0]!;
    // where a text stands lies on the device, so only what the host knows is refused before any work
    if (length > most)
      fail({
        mechanism: 'stack',
        argument: 'x',
        wanted: `at most ${most} tokens, the learned positions`,
        given: String(length),
        remedy: 'Feed a shorter text, or build the model with more positions.',
      });
    const rows = gatherRows({ table: table.value, indices: tf.cast(tf.reshape(tf.minimum(index, most - 1), [-1]), 'int32') });
    // and a token beyond the table gets no wrong position, but none at all: NaN does not pass for a result
    const beyond = tf.cast(tf.greater(index, most - 1), 'float32');
    const wrong = tf.expandDims(valid ? tf.mul(beyond, valid) : beyond, 2);
    const placed = tf.add(x, tf.reshape(rows, [batch, length, dim])) as tf.Tensor3D;
    return tf.add(placed, tf.where(tf.cast(wrong, 'bool'), tf.fill(wrong.shape, NaN), tf.zerosLike(wrong))) as tf.Tensor3D;
  }
}

function refuseContext(index: number, pattern: string): never {
  return fail({
    mechanism: 'stack',
    argument: 'context',
    wanted: `given, since layer ${index} has the pattern ${pattern}`,
    given: 'none',
    remedy: 'Run the stack in a segment recurrence that has a memory to read, such as memformer, or use a self pattern.',
  });
}
