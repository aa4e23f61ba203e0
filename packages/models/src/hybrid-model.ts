import * as tf from '@tensorflow/tfjs-core';
import {
  Block,
  deriveSeed,
  Embedding,
  fail,
  joinStates,
  childState,
  Linear,
  Module,
  RmsNorm,
  SequenceMixer,
  softmaxCrossEntropy,
  tidy,
} from '@seqloom/core';
import type { ChannelMixer, MixerResult, MixInput, State, StateShapes } from '@seqloom/core';
import { defaultComponents } from './components.ts';
import type { ComponentConfig, Components } from './components.ts';
import { resolveHybridConfig } from './config.ts';
import type { HybridConfig, ResolvedHybridConfig } from './config.ts';
import { layerDefinitions } from './layers.ts';

/** A stack of blocks with one norm at the end; its state holds the states of its layers under `<index>.<name>`. */
export class Stack extends SequenceMixer {
  readonly mechanism = 'stack';
  readonly pattern = 'causal-self';
  readonly dim: number;
  readonly layers: readonly Block[];
  readonly finalNorm: RmsNorm;

  constructor(layers: readonly Block[], dim: number, epsilon: number) {
    super();
    this.dim = dim;
    this.layers = layers;
    this.finalNorm = new RmsNorm({ dim, epsilon });
  }

  stateShapes(batch: number): StateShapes {
    const entries = this.layers.flatMap((layer, index) => [
      ...Object.entries(layer.stateShapes(batch)).map(([name, shape]) => [`${index}.${name}`, shape] as const),
      [`${index}.position`, [batch]] as const,
    ]);
    return Object.fromEntries(entries);
  }

  override mixingFlops(length: number): number {
    return this.layers.reduce((sum, layer) => sum + layer.mixingFlops(length), 0);
  }

  mix(input: MixInput): MixerResult {
    let x = input.x;
    const states: Record<string, State> = {};
    for (const [index, layer] of this.layers.entries()) {
      const result = layer.mix({ ...input, x, state: childState(input.state, String(index)) });
      x = result.output;
      states[index] = result.state;
    }
    const position = tf.add(input.state.position, input.lengths ?? x.shape[1]);
    return { output: this.finalNorm.forward(x), state: joinStates(position, states) };
  }
}

/** What a language model's call takes beside the ids. */
export interface LanguageModelOptions {
  /** the state that the call before returned */
  readonly state?: State;
  /** [B, T], 1 for tokens and 0 for padding on either side */
  readonly mask?: tf.Tensor;
  /** packed sequences: per row T numbers, a run of one number being a segment that sees no other, 0 padding; see `MixerOptions` */
  readonly segmentIds?: readonly ArrayLike<number>[];
  readonly training?: boolean;
}

/**
 * A language model woven from a declarative config: embedding, a stack of blocks, and a head.
 *
 * @example
 * const model = new HybridModel({
 *   vocabSize: 256, dim: 64,
 *   mixers: '(conv, linear, window)*2',
 *   definitions: {
 *     conv: { type: 'gated-convolution' },
 *     linear: { type: 'based-taylor', heads: 4, featureDim: 8 },
 *     window: { type: 'sliding-window-attention', heads: 4, window: 32 },
 *     mlp: { type: 'mlp' },
 *   },
 * });
 */
export class HybridModel extends Module {
  readonly config: ResolvedHybridConfig;
  readonly embedding: Embedding;
  readonly stack: Stack;
  readonly head: Linear | null;

  /**
   * @param config plain JSON, see `HybridConfig`
   * @param components the parts that definitions may name
   * @throws SeqLoomError on an unknown key, an unknown component or a pattern that does not fit the depth
   */
  constructor(config: HybridConfig, components: Components = defaultComponents) {
    super();
    this.config = resolveHybridConfig(config);
    const { dim, vocabSize, seed, initialDeviation, normEpsilon } = this.config;
    // everything is checked before the first tensor is made
    const plan = layerDefinitions(this.config, components);
    const made: Module[] = [];
    try {
      const layers = plan.map(({ mixer, channel }, index) => {
        const parts = {
          mixer: track(made, components.mixers[mixer.type]!(componentConfig(mixer, dim, deriveSeed(seed, `layers.${index}.mixer`)))),
          channel:
            channel &&
            track(made, components.channels[channel.type]!(componentConfig(channel, dim, deriveSeed(seed, `layers.${index}.channel`)))),
        };
        return track(made, new Block({ ...parts, epsilon: normEpsilon }));
      });
      this.embedding = track(
        made,
        new Embedding({ count: vocabSize, dim, seed: deriveSeed(seed, 'embedding'), deviation: initialDeviation }),
      );
      this.stack = track(made, new Stack(layers, dim, normEpsilon));
      this.head = this.config.tieEmbeddings
        ? null
        : new Linear({ in: dim, out: vocabSize, seed: deriveSeed(seed, 'head'), deviation: initialDeviation });
    } catch (error) {
      for (const module of made) module.dispose();
      throw error;
    }
  }

  /** The state before the first token. */
  initialState(batch: number): State {
    return this.stack.initialState(batch);
  }

  /** Bytes of state for a batch after `length` tokens. */
  stateBytes(batch: number, length: number): number {
    return this.stack.stateBytes(batch, length);
  }

  /** Floating-point operations of one row's next token after `length` tokens: 2 per weight of every matrix, plus the mixing. */
  flopsPerToken(length: number): number {
    const matrices = this.stack.parameters().reduce((sum, { shape, size }) => sum + (shape.length >= 2 ? size : 0), 0);
    return 2 * (matrices + this.config.vocabSize * this.config.dim) + this.stack.mixingFlops(length);
  }

  /**
   * Logits of every token.
   *
   * @param ids int32 [B, T]
   * @returns logits [B, T, V] and the state after the piece
   */
  forward(ids: tf.Tensor, options: LanguageModelOptions = {}): { logits: tf.Tensor3D; state: State } {
    return tidy(() => {
      const { output, state } = this.hidden(ids, options);
      return { logits: this.project(output) as tf.Tensor3D, state };
    });
  }

  /**
   * Logits of the last valid token of each row only, as generation needs.
   *
   * @returns logits [B, V] and the state after the piece
   */
  next(ids: tf.Tensor, options: LanguageModelOptions = {}): { logits: tf.Tensor2D; state: State } {
    return tidy(() => {
      const { output, state } = this.hidden(ids, options);
      const [batch, length, dim] = output.shape;
      let last: tf.Tensor;
      if (options.mask) {
        const time = tf.range(0, length, 1, 'float32');
        const live = tf.cast(tf.notEqual(options.mask, tf.zerosLike(options.mask)), 'float32');
        const index = tf.max(tf.mul(live, time), 1, true); // [B, 1]
        const hot = tf.cast(tf.equal(index, tf.reshape(time, [1, length])), 'float32');
        last = tf.sum(tf.mul(output, tf.expandDims(hot, 2)), 1);
      } else {
        last = tf.reshape(tf.slice(output, [0, length - 1, 0], [batch, 1, dim]), [batch, dim]);
      }
      return { logits: this.project(last) as tf.Tensor2D, state };
    });
  }

  /**
   * Summed next-token loss in nats, computed in chunks of tokens so that the logits never stand whole.
   *
   * @param ids int32 [B, T]
   * @param labels int32 [B, T]; negative labels do not count
   * @param options `chunk`: tokens per slice of the head, default 4096
   * @returns scalar sum of the losses, and the state after the piece
   */
  loss(
    ids: tf.Tensor,
    labels: tf.Tensor,
    options: LanguageModelOptions & { readonly chunk?: number } = {},
  ): { sum: tf.Scalar; state: State } {
    return tidy(() => {
      const { output, state } = this.hidden(ids, options);
      const dim = output.shape[2];
      const rows = tf.reshape(output, [-1, dim]);
      const flat = tf.reshape(labels, [-1]);
      const chunk = options.chunk ?? 4096;
      let sum: tf.Tensor = tf.scalar(0);
      for (let from = 0; from < rows.shape[0]!; from += chunk) {
        const size = Math.min(chunk, rows.shape[0]! - from);
        const whole = size === rows.shape[0];
        const logits = this.project(whole ? rows : tf.slice(rows, [from, 0], [size, dim])) as tf.Tensor2D;
        const some = whole ? flat : tf.slice(flat, [from], [size]);
        sum = tf.add(sum, tf.sum(softmaxCrossEntropy({ logits, labels: some as tf.Tensor1D }).loss));
      }
      return { sum: sum as tf.Scalar, state };
    });
  }

  private hidden(ids: tf.Tensor, options: LanguageModelOptions): MixerResult {
    if (ids.rank !== 2 || ids.dtype !== 'int32') {
      fail({
        mechanism: 'hybrid-model',
        argument: 'ids',
        wanted: 'int32 [B, T]',
        given: `${ids.dtype} [${ids.shape.join(', ')}]`,
        remedy: 'Pass token ids as an int32 tensor of batch and time.',
      });
    }
    return this.stack.forward(this.embedding.forward(ids), options);
  }

  private project(x: tf.Tensor): tf.Tensor {
    const { dim, vocabSize, logitScale, logitSoftCap } = this.config;
    const flat = tf.reshape(x, [-1, dim]) as tf.Tensor2D;
    // tfjs-wasm multiplies by a transposed copy ten times faster than with its transpose flag
    let logits: tf.Tensor = this.head ? this.head.forward(flat) : tf.matMul(flat, tf.transpose(this.embedding.weight.value as tf.Tensor2D));
    if (logitScale !== 1) logits = tf.mul(logits, logitScale);
    if (logitSoftCap !== undefined) logits = tf.mul(tf.tanh(tf.div(logits, logitSoftCap)), logitSoftCap);
    return tf.reshape(logits, [...x.shape.slice(0, -1), vocabSize]);
  }
}

function componentConfig(definition: Readonly<Record<string, unknown>>, dim: number, seed: number): ComponentConfig {
  const { type: _type, ...config } = definition;
  return { dim, seed, ...config };
}

function track<T extends Module | ChannelMixer>(made: Module[], module: T): T {
  made.push(module);
  return module;
}
