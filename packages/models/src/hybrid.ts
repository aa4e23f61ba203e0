import * as tf from '@tensorflow/tfjs-core';
import { deriveSeed, Embedding, fail, Linear, Module, softmaxCrossEntropy, tidy, tidyLosses } from '@seqloom/core';
import type { LossSink, MixerResult, SequenceMixer, State } from '@seqloom/core';
import { buildStack, Scaffold } from './build.ts';
import type { Components } from './component-types.ts';
import { resolveHybridConfig } from './config.ts';
import type { HybridConfig, ResolvedHybridConfig } from './config.ts';
import { layerDefinitions } from './layers.ts';
import type { Stack } from './stack.ts';

/** What a language model's call takes beside the ids. */
export interface LanguageModelOptions {
  /** the state that the call before returned */
  readonly state?: State;
  /** [B, T], 1 for tokens and 0 for padding on either side */
  readonly mask?: tf.Tensor;
  /** packed sequences: per row T numbers, a run of one number being a segment that sees no other, 0 padding; see `MixerOptions` */
  readonly segmentIds?: readonly ArrayLike<number>[];
  readonly training?: boolean;
  /** takes auxiliary losses; `loss` adds them itself when training */
  readonly losses?: LossSink;
}

/**
 * A language model woven from a declarative config: embedding, a stack of blocks, and a head.
 *
 * @example
 * const model = new Hybrid({
 *   vocabSize: 256, dim: 64,
 *   mixers: '(conv, linear, window)*2',
 *   definitions: {
 *     conv: { type: 'gated-convolution' },
 *     linear: { type: 'based-taylor', heads: 4, featureDim: 8 },
 *     window: { type: 'sliding-window-attention', heads: 4, window: 32 },
 *     mlp: { type: 'mlp' },
 *   },
 * }, {
 *   mixers: {
 *     'gated-convolution': component(GatedConvolution),
 *     'based-taylor': component(BasedTaylor),
 *     'sliding-window-attention': component(SlidingWindowAttention),
 *   },
 *   channels: { mlp: component(Mlp) },
 * });
 */
export class Hybrid extends Module {
  readonly config: ResolvedHybridConfig;
  readonly embedding: Embedding;
  readonly stack: Stack;
  /** what runs: the stack, or the segment recurrence around it */
  readonly mixer: SequenceMixer;
  readonly head: Linear | null;

  /**
   * @param config plain JSON, see `HybridConfig`
   * @param components the parts that definitions may name, as values, so that a bundle holds only these
   * @throws SeqLoomError on an unknown key, an unknown component, a pattern that does not fit the depth, or layers that cannot share
   */
  constructor(config: HybridConfig, components: Components) {
    super();
    this.config = resolveHybridConfig(config);
    const { dim, vocabSize, seed, initialDeviation: deviation, tieEmbeddings, headBias } = this.config;
    if (tieEmbeddings && headBias)
      fail({
        mechanism: 'hybrid-model',
        argument: 'config.headBias',
        wanted: 'false beside tied embeddings',
        given: 'true',
        remedy: 'Set tieEmbeddings: false.',
      });
    // everything is checked before the first tensor is made
    const plan = layerDefinitions(this.config, components);
    const scaffold = new Scaffold();
    try {
      this.embedding = scaffold.track(new Embedding({ count: vocabSize, dim, seed: deriveSeed(seed, 'embedding'), deviation }));
      const { stack, mixer } = buildStack(this.config, plan, components, scaffold);
      this.stack = stack;
      this.mixer = mixer;
      this.head = tieEmbeddings ? null : new Linear({ in: dim, out: vocabSize, bias: headBias, seed: deriveSeed(seed, 'head'), deviation });
    } catch (error) {
      scaffold.clear();
      throw error;
    }
  }

  /** The state before the first token. */
  initialState(batch: number): State {
    return this.mixer.initialState(batch);
  }

  /** Tokens that a sequence may have: the learned positions, unless segments start them anew; null: any number. */
  get maxLength(): number | null {
    return this.config.segments ? null : (this.config.positions?.max ?? null);
  }

  /** Bytes of state for a batch after `length` tokens. */
  stateBytes(batch: number, length: number): number {
    return this.mixer.stateBytes(batch, length);
  }

  /** Floating-point operations of one row's next token after `length` tokens: 2 per weight of every matrix it meets, plus the mixing. */
  flopsPerToken(length: number): number {
    const matrices = this.mixer.parameters().reduce((sum, { shape, size }) => sum + (shape.length >= 2 ? size : 0), 0);
    const channels = new Set(this.stack.layers.map(({ channel }) => channel));
    const idle = [...channels].reduce((sum, channel) => sum + (channel?.idleWeights() ?? 0), 0);
    return 2 * (matrices - idle + this.config.vocabSize * this.config.dim) + this.mixer.mixingFlops(length);
  }

  /**
   * Logits of every token.
   *
   * @param ids int32 [B, T]
   * @returns logits [B, T, V] and the state after the piece
   */
  forward(ids: tf.Tensor, options: LanguageModelOptions = {}): { logits: tf.Tensor3D; state: State } {
    return tidyLosses(options.losses, (losses) => {
      const { output, state } = this.hidden(ids, losses ? { ...options, losses } : options);
      return { logits: this.project(output) as tf.Tensor3D, state };
    });
  }

  /**
   * Logits of the last valid token of each row only, as generation needs.
   *
   * @returns logits [B, V] and the state after the piece
   */
  next(ids: tf.Tensor, options: LanguageModelOptions = {}): { logits: tf.Tensor2D; state: State } {
    return tidyLosses(options.losses, (losses) => {
      const { output, state } = this.hidden(ids, losses ? { ...options, losses } : options);
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
   * Summed next-token loss in nats, computed in chunks of tokens so that the logits never stand whole. When training, auxiliary losses are added
   * once per counted label, so that the mean over labels is the task's loss plus them.
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
      const auxiliary: tf.Scalar[] = [];
      const losses = options.training ? { add: (_name: string, value: tf.Scalar) => void auxiliary.push(value) } : undefined;
      const { output, state } = this.hidden(ids, losses ? { ...options, losses } : options);
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
      if (auxiliary.length > 0) {
        const counted = tf.sum(tf.cast(tf.greaterEqual(labels, tf.zerosLike(labels)), 'float32'));
        sum = tf.add(sum, tf.mul(counted, tf.addN(auxiliary)));
      }
      return { sum: sum as tf.Scalar, state };
    });
  }

  /** What a trainer calls after each optimiser step: routers with a selection bias balance their experts. */
  afterStep(): void {
    for (const channel of new Set(this.stack.layers.map((layer) => layer.channel))) channel?.afterStep();
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
    const { embeddingScale, dim } = this.config;
    const factor = embeddingScale === 'sqrt' ? Math.sqrt(dim) : embeddingScale;
    const rows = this.embedding.forward(ids);
    return this.mixer.forward(factor === 1 ? rows : tf.mul(rows, factor), options);
  }

  private project(x: tf.Tensor): tf.Tensor {
    const { dim, vocabSize, logitScale, logitSoftCap } = this.config;
    const flat = tf.reshape(x, [-1, dim]) as tf.Tensor2D;
    let logits: tf.Tensor = this.head ? this.head.forward(flat) : timesTransposed(flat, this.embedding.weight.value as tf.Tensor2D);
    if (logitScale !== 1) logits = tf.mul(logits, logitScale);
    if (logitSoftCap !== undefined) logits = tf.mul(tf.tanh(tf.div(logits, logitSoftCap)), logitSoftCap);
    return tf.reshape(logits, [...x.shape.slice(0, -1), vocabSize]);
  }
}

/** x Wᵀ: a few rows read the table where it lies; plain tfjs-wasm multiplies many rows ten times faster by a transposed copy. */
function timesTransposed(x: tf.Tensor2D, table: tf.Tensor2D): tf.Tensor2D {
  return x.shape[0] <= 8 ? tf.matMul(x, table, false, true) : tf.matMul(x, tf.transpose(table));
}
