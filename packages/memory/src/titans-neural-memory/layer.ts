import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import {
  advance,
  deriveSeed,
  divideHeads,
  GatedRmsNorm,
  layerEntries,
  Linear,
  logSigmoid,
  normal,
  ones,
  Parameter,
  parseConfig,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
  ShortConvolution,
  tidy,
  zeros,
} from '@seqloom/core';
import type { MixerResult, MixInput, State, StateShapes } from '@seqloom/core';
import { phaseShape } from '../segments/phase.ts';
import { chooseRows, walkSegments } from '../segments/walk.ts';
import type { SegmentPiece } from '../segments/walk.ts';
import type { MemoryCarry } from './carry.ts';
import { chunkForm } from './chunk.ts';
import { readNetwork, unitLength } from './network.ts';
import type { MemoryNetwork } from './network.ts';
import { carryOf, headRows, pieceOf, rowsOf, stateOf } from './titans-neural-memory.ts';

/** What a memory has beside width, chunk and convolution. */
export const memoryEntries = {
  /** H, memories beside each other, each of dim / H channels */
  heads: v.optional(positiveInteger, 1),
  /** layers of the network, 1 to 3 */
  depth: v.optional(v.pipe(positiveInteger, v.maxValue(3, 'at most 3')), 2),
  /** inner width of the network as a multiple of the head's */
  expand: v.optional(positiveInteger, 4),
  activation: v.optional(v.picklist(['gelu', 'silu']), 'gelu'),
  /** residual and norm around the network, `x + LayerNorm(MLP(x))` */
  residualNorm: v.optional(v.boolean(), true),
  momentum: v.optional(v.boolean(), true),
  /** largest step size */
  maxStepSize: v.optional(positiveNumber, 1),
};

const Schema = v.strictObject({
  ...layerEntries,
  ...memoryEntries,
  /** b, tokens whose gradients are taken at the same weights; 1: the recurrence */
  chunkSize: v.optional(positiveInteger, 16),
  /** taps of the convolutions of queries, keys and values; null: none */
  kernelSize: v.optional(v.nullable(positiveInteger), 4),
});

/** Config of `TitansNeuralMemory`: dim; all else has a default. */
export type TitansNeuralMemoryConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'titans-neural-memory';

// where the gates start: small steps, half of the momentum kept, little forgotten
const STEP_BIAS = -4;
const DECAY_BIAS = -5;

/**
 * Titans' long-term memory as a layer: queries, keys and values go through a short convolution and silu, queries and keys are brought to
 * length one, gates come from the token, and what the memory gives is normed, gated and projected.
 *
 * The state is per layer l of the network `weight<l>`, `momentum<l>` and `reference<l>` (the weights at the start of the unfinished chunk)
 * [B, H, in, out], the windows of the convolutions, and `phase`. Weights are kept as differences from the learned first ones, so that a new
 * state is all zeros.
 *
 * Parameters: 5 D^2 + 3 H (D + 1) + 12 D + D, and H |W| first weights, |W| = 2 e (D / H)^2 for two layers of expansion e; with a norm 2 D more.
 *
 * @see Behrouz, Zhong, Mirrokni 2024, arXiv 2501.00663
 */
export class TitansNeuralMemory extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly headDim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly queryConvolution: ShortConvolution | null;
  readonly keyConvolution: ShortConvolution | null;
  readonly valueConvolution: ShortConvolution | null;
  readonly stepSize: Linear;
  readonly decay: Linear;
  readonly momentum: Linear | null;
  readonly firstWeights: readonly Parameter[];
  readonly memoryNormWeight: Parameter | null;
  readonly memoryNormBias: Parameter | null;
  readonly norm: GatedRmsNorm;
  readonly gate: Linear;
  readonly output: Linear;

  constructor(config: TitansNeuralMemoryConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, depth, expand, kernelSize, seed, outputDeviation } = this.config;
    this.dim = dim;
    this.headDim = divideHeads(MECHANISM, dim, heads);
    const seedOf = (name: string): number => deriveSeed(seed, name);
    const linear = (name: string, out = dim, bias = false): Linear => new Linear({ in: dim, out, bias, seed: seedOf(name) });
    const convolution = (name: string): ShortConvolution | null =>
      kernelSize === null ? null : new ShortConvolution({ channels: dim, kernelSize, seed: seedOf(name) });
    this.query = linear('query');
    this.key = linear('key');
    this.value = linear('value');
    this.queryConvolution = convolution('queryConvolution');
    this.keyConvolution = convolution('keyConvolution');
    this.valueConvolution = convolution('valueConvolution');
    this.stepSize = linear('stepSize', heads, true);
    this.decay = linear('decay', heads, true);
    this.momentum = this.config.momentum ? linear('momentum', heads, true) : null;
    tidy(() => this.stepSize.bias!.assign(tf.fill([heads], STEP_BIAS)));
    tidy(() => this.decay.bias!.assign(tf.fill([heads], DECAY_BIAS)));
    const hidden = Array<number>(depth - 1).fill(expand * this.headDim);
    const widths = [this.headDim, ...hidden, this.headDim];
    this.firstWeights = widths.slice(1).map((out, index) => {
      const deviation = 1 / Math.sqrt(widths[index]!);
      return new Parameter([heads, widths[index]!, out], normal(deviation), seedOf(`firstWeights${index}`));
    });
    const { residualNorm } = this.config;
    this.memoryNormWeight = residualNorm ? new Parameter([heads, this.headDim], ones, 0, { decay: false }) : null;
    this.memoryNormBias = residualNorm ? new Parameter([heads, this.headDim], zeros, 0, { decay: false }) : null;
    this.norm = new GatedRmsNorm({ dim, groups: heads });
    this.gate = linear('gate');
    this.output = new Linear({ in: dim, out: dim, seed: seedOf('output'), deviation: outputDeviation });
  }

  /** Shapes of the memory alone. */
  memoryShapes(batch: number): StateShapes {
    const names = ['weight', ...(this.momentum ? ['momentum'] : []), ...(this.config.chunkSize > 1 ? ['reference'] : [])];
    return Object.fromEntries(
      names.flatMap((name) => this.firstWeights.map(({ shape }, index) => [`${name}${index + 1}`, [batch, ...shape]] as const)),
    );
  }

  stateShapes(batch: number): StateShapes {
    const windows = this.queryConvolution
      ? { queryWindow: this.queryConvolution, keyWindow: this.keyConvolution!, valueWindow: this.valueConvolution! }
      : {};
    return {
      ...this.memoryShapes(batch),
      ...Object.fromEntries(Object.entries(windows).map(([name, convolution]) => [name, convolution.stateShape(batch)])),
      phase: phaseShape(batch),
    };
  }

  override mixingFlops(): number {
    const { chunkSize, kernelSize } = this.config;
    const weights = this.firstWeights.reduce((sum, { size }) => sum + size, 0);
    const widths = this.firstWeights.reduce((sum, { shape }) => sum + shape[1]! + shape[2]!, 0) * this.config.heads;
    // keys forward and back, queries at the weights and the momentum, the two sums of a chunk; then products within the chunk
    return 12 * weights + 2 * chunkSize * widths + 6 * (kernelSize ?? 0) * this.dim;
  }

  mix({ x, state, lengths }: MixInput): MixerResult {
    const { features, windows } = this.features(x, state, lengths);
    const walk = walkSegments({ x: features, state, lengths }, this.config.chunkSize, this.startCarry(state), (piece, carry) =>
      this.runPiece(piece, carry),
    );
    const position = advance(state.position, x, lengths);
    return {
      output: this.finish(walk.output, x),
      state: { position, ...this.endState(walk.carry, x.shape[0]), ...windows, phase: walk.phase },
    };
  }

  /** What a token gives the memory, in one row [B, T, 3 D + gates], so that chunks can be cut from it; and the convolutions' windows. */
  features(
    x: tf.Tensor3D,
    state: State,
    lengths: tf.Tensor1D | null,
  ): { features: tf.Tensor3D; windows: Readonly<Record<string, tf.Tensor>> } {
    const { maxStepSize } = this.config;
    const windows: Record<string, tf.Tensor> = {};
    const project = (linear: Linear, convolution: ShortConvolution | null, window: string): tf.Tensor3D => {
      const rows = linear.forward(x) as tf.Tensor3D;
      if (!convolution) return tf.mul(rows, tf.sigmoid(rows));
      const result = convolution.forward(rows, { state: state[window]!, lengths });
      windows[window] = result.state;
      return result.output;
    };
    const query = project(this.query, this.queryConvolution, 'queryWindow');
    const key = project(this.key, this.keyConvolution, 'keyWindow');
    const value = project(this.value, this.valueConvolution, 'valueWindow');
    const step = tf.mul(tf.sigmoid(this.stepSize.forward(x)), maxStepSize);
    const gates = [step, logSigmoid(tf.neg(this.decay.forward(x))), ...(this.momentum ? [logSigmoid(this.momentum.forward(x))] : [])];
    return { features: tf.concat([query, key, value, ...gates], 2) as tf.Tensor3D, windows };
  }

  /** Reads and writes one chunk, or a part of it, whose `x` are features; output [B, C, D] before norm and projection. */
  runPiece({ x, valid, starts }: SegmentPiece, carry: MemoryCarry): { output: tf.Tensor3D; carry: MemoryCarry } {
    const { heads } = this.config;
    const [batch, length] = x.shape;
    const parts = tf.split(x, [this.dim, this.dim, this.dim, ...Array<number>(this.momentum ? 3 : 2).fill(heads)], 2);
    const cut = (rows: tf.Tensor): tf.Tensor => tf.reshape(rows, [batch, length, heads, this.headDim]);
    const [query, key, value, stepSize, logDecay, logMomentum] = parts as [
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
      tf.Tensor?,
    ];
    const piece = pieceOf({
      query: unitLength(cut(query)),
      key: unitLength(cut(key)),
      value: cut(value),
      stepSize,
      logDecay,
      ...(logMomentum ? { logMomentum } : {}),
      ...(valid ? { mask: valid } : {}),
    });
    const result = chunkForm(piece, this.referTo(carry, starts), this.#network(batch));
    return { output: this.#join(result.output, batch), carry: result.carry };
  }

  /** The carry with the chunk's weights: those of now where a chunk starts. */
  referTo(carry: MemoryCarry, starts: boolean | tf.Tensor1D): MemoryCarry {
    const { heads } = this.config;
    const flag =
      typeof starts === 'boolean'
        ? starts
        : (tf.reshape(tf.add(tf.reshape(starts, [-1, 1]), tf.zeros([starts.shape[0], heads])), [-1]) as tf.Tensor1D);
    return { ...carry, references: carry.weights.map((weight, index) => chooseRows(flag, weight, carry.references[index]!)) };
  }

  /** What the weights of the chunk's start give for the queries of x [B, C, D], before norm and projection; x passes no convolution. */
  readBefore(x: tf.Tensor3D, { references }: MemoryCarry): tf.Tensor3D {
    const [batch, length] = x.shape;
    const rows = this.query.forward(x);
    const query = tf.reshape(tf.mul(rows, tf.sigmoid(rows)), [batch, length, this.config.heads, this.headDim]);
    const layers = references.map(
      (weight) =>
        (from: tf.Tensor): tf.Tensor =>
          tf.matMul(from, weight),
    );
    return this.#join(readNetwork(rowsOf(unitLength(query)), layers, this.#network(batch)), batch);
  }

  /** Norm, gate and projection of what the memory gave for x. */
  finish(output: tf.Tensor3D, x: tf.Tensor3D): tf.Tensor3D {
    return this.output.forward(this.norm.forward(output, this.gate.forward(x))) as tf.Tensor3D;
  }

  /** The memory of a state, whose weights are differences from the learned first ones. */
  startCarry(state: State): MemoryCarry {
    const carry = carryOf(state, this.firstWeights.length, this.momentum !== null);
    const first = this.#first(state.position.shape[0]!);
    const from = (tensors: readonly tf.Tensor[]): tf.Tensor[] => tensors.map((tensor, index) => tf.add(tensor, first[index]!));
    return { ...carry, weights: from(carry.weights), references: from(carry.references) };
  }

  /** The memory's part of a state. */
  endState({ weights, momenta, references }: MemoryCarry, batch: number): Readonly<Record<string, tf.Tensor>> {
    const first = this.#first(batch);
    const from = (tensors: readonly tf.Tensor[]): tf.Tensor[] => tensors.map((tensor, index) => tf.sub(tensor, first[index]!));
    return stateOf({ weights: from(weights), momenta, references: this.config.chunkSize > 1 ? from(references) : [] }, batch);
  }

  // [B * H, in, out] per layer
  #first(batch: number): tf.Tensor[] {
    return this.firstWeights.map(({ value, shape }) => {
      const [heads, wide, out] = shape as [number, number, number];
      return tf.reshape(tf.add(tf.reshape(value, [1, ...shape]), tf.zeros([batch, ...shape])), [batch * heads, wide, out]);
    });
  }

  #network(batch: number): MemoryNetwork {
    const [weight, bias] = [this.memoryNormWeight, this.memoryNormBias];
    const norm = weight && bias ? { weight: headRows(weight.value, batch), bias: headRows(bias.value, batch) } : null;
    return { activation: this.config.activation, norm };
  }

  // [B * H, C, D / H] as [B, C, D]
  #join(rows: tf.Tensor, batch: number): tf.Tensor3D {
    const length = rows.shape[1]!;
    const cube = tf.reshape(rows, [batch, this.config.heads, length, this.headDim]);
    return tf.reshape(tf.transpose(cube, [0, 2, 1, 3]), [batch, length, this.dim]);
  }
}
