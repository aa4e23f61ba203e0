import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import {
  ChannelMixer,
  deriveSeed,
  fail,
  layerEntries,
  Linear,
  Mlp,
  normal,
  Parameter,
  parseConfig,
  positiveInteger,
  positiveNumber,
  tidy,
} from '@seqloom/core';
import type { ChannelOptions } from '@seqloom/core';
import { balanceLosses } from './balance.ts';
import { mixtureOfExperts } from './moe-channel-mixers.ts';
import { SelectionBias } from './selection-bias.ts';

const coefficient = v.optional(v.pipe(v.number(), v.finite('finite'), v.minValue(0, 'at least 0')), 0);

const Schema = v.strictObject({
  ...layerEntries,
  /** E */
  experts: positiveInteger,
  /** k, experts per token */
  topK: positiveInteger,
  /** F, inner width of an expert */
  hidden: positiveInteger,
  score: v.optional(v.picklist(['softmax', 'sigmoid']), 'softmax'),
  /** a bias per expert that takes part in the choice only, and is moved by `rebalance` instead of a loss */
  selectionBias: v.optional(v.boolean(), false),
  /** what a trainer's step moves the selection bias by; 0 leaves it */
  balanceRate: v.optional(v.pipe(v.number(), v.minValue(0)), 0.001),
  /** G equal groups of experts */
  groups: v.optional(positiveInteger, 1),
  /** groups that a token may choose from; default all */
  groupTopK: v.optional(positiveInteger),
  /** divide the weights of a token by their sum */
  renormalise: v.optional(v.boolean(), true),
  /** factor on the weights */
  scale: v.optional(positiveNumber, 1),
  /** a feed-forward layer that every token visits; gate: times sigmoid(x w) */
  shared: v.optional(v.nullable(v.strictObject({ hidden: positiveInteger, gate: v.optional(v.boolean(), false) })), null),
  activation: v.optional(v.picklist(['silu', 'gelu', 'relu']), 'silu'),
  /** ceil(capacity N k / E) places per expert and call, in training and otherwise; null: no token is dropped */
  capacity: v.optional(v.nullable(positiveNumber), null),
  /** coefficients of the losses that a training call adds to its sink */
  auxiliary: v.optional(v.strictObject({ loadBalance: coefficient, zLoss: coefficient, sequence: coefficient }), {}),
});

/** Config of `MixtureOfExperts`: dim, experts, topK and hidden; all else has a default. */
export type MixtureOfExpertsConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'moe-channel-mixers';

/**
 * A mixture of experts in place of an MLP: a router sends each token to k of E feed-forward layers, `y = sum of w_e E_e(x) + shared(x)`.
 *
 * Time per token is that of k experts and the router; memory that of all experts. The losses `loadBalance`, `sequence` and `zLoss` go to the
 * sink of a call where their coefficients are above 0; loads for `rebalance` are counted in training calls.
 *
 * Parameters: E D + 3 E D F, with a selection bias E, with a shared expert of width S 3 D S, gated D.
 *
 * @see "DeepSeek-V3 Technical Report" (DeepSeek-AI 2024, arXiv 2412.19437); "Mixtral of Experts" (Jiang et al. 2024, arXiv 2401.04088)
 */
export class MixtureOfExperts extends ChannelMixer {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly router: Linear;
  readonly selectionBias: SelectionBias | null;
  /** [E, D, F] */
  readonly gate: Parameter;
  /** [E, D, F] */
  readonly up: Parameter;
  /** [E, F, D] */
  readonly down: Parameter;
  readonly shared: Mlp | null;
  readonly sharedGate: Linear | null;

  /**
   * @param config plain JSON
   * @throws SeqLoomError on a config that does not fit
   */
  constructor(config: MixtureOfExpertsConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    checkGroups(this.config);
    const { dim, experts, hidden, activation, seed, shared } = this.config;
    const outputDeviation = this.config.outputDeviation ?? 1 / Math.sqrt(hidden);
    const seedOf = (name: string): number => deriveSeed(seed, name);
    this.dim = dim;
    this.router = new Linear({ in: dim, out: experts, seed: seedOf('router'), deviation: 0.02 });
    this.selectionBias = this.config.selectionBias ? new SelectionBias(experts) : null;
    this.gate = new Parameter([experts, dim, hidden], normal(1 / Math.sqrt(dim)), seedOf('gate'));
    this.up = new Parameter([experts, dim, hidden], normal(1 / Math.sqrt(dim)), seedOf('up'));
    this.down = new Parameter([experts, hidden, dim], normal(outputDeviation), seedOf('down'));
    const { outputDeviation: given } = this.config;
    const sharedConfig = shared && { dim, hidden: shared.hidden, activation, seed: seedOf('shared') };
    this.shared = sharedConfig && new Mlp(given === undefined ? sharedConfig : { ...sharedConfig, outputDeviation: given });
    this.sharedGate = shared?.gate ? new Linear({ in: dim, out: 1, seed: seedOf('sharedGate') }) : null;
  }

  override idleWeights(): number {
    const { experts, topK, hidden } = this.config;
    return (experts - topK) * 3 * this.dim * hidden;
  }

  /**
   * @param x float32 [B, T, D]
   * @param options `valid`: padding goes to no expert and counts nowhere; `losses` takes the auxiliary losses; `training` counts the loads
   * @returns [B, T, D]
   */
  forward(x: tf.Tensor3D, options: ChannelOptions = {}): tf.Tensor3D {
    const { valid = null, training = false, losses } = options;
    if (x.rank !== 3 || x.shape[2] !== this.dim || x.dtype !== 'float32') {
      const given = `${x.dtype} [${(x.shape as number[]).join(', ')}]`;
      fail({ mechanism: MECHANISM, argument: 'x', wanted: `float32 [B, T, ${this.dim}]`, given, remedy: 'Pass batch, time, channels.' });
    }
    const { topK, score, groups, groupTopK, renormalise, scale, activation, capacity, auxiliary } = this.config;
    const result = tidy(() => {
      const { output, routing } = mixtureOfExperts(
        {
          input: x,
          router: this.router.weight.value,
          selectionBias: this.selectionBias?.value,
          valid,
          gate: this.gate.value,
          up: this.up.value,
          down: this.down.value,
        },
        { topK, score, groups, groupTopK, renormalise, scale, activation, capacity },
      );
      if (training) this.selectionBias?.count(routing.experts);
      const added = losses ? [...balanceLosses({ ...routing, valid }, auxiliary, x.shape[0])] : [];
      return { output: this.shared ? tf.add(output, this.#everyone(x, this.shared)) : output, added };
    });
    // out of the scope above, so that what is added lives as long as the output
    for (const [name, value] of result.added) losses!.add(name, value);
    return result.output as tf.Tensor3D;
  }

  /**
   * Moves the selection bias after an optimiser step, towards experts with less than the mean load: `b += rate sign(mean load - load)`.
   *
   * Loads are those of all training calls since the last time, so several micro-batches of a step count together.
   *
   * @param rate default: that of the config
   * @throws SeqLoomError when the layer has no selection bias
   */
  rebalance(rate = this.config.balanceRate): void {
    if (!this.selectionBias) {
      fail({
        mechanism: MECHANISM,
        argument: 'rebalance',
        wanted: 'called on a layer with a selection bias',
        given: 'a layer without',
        remedy: 'Build it with selectionBias: true, or balance it by config.auxiliary.',
      });
    }
    this.selectionBias.rebalance(rate);
  }

  override afterStep(): void {
    if (this.selectionBias) this.rebalance(this.config.balanceRate);
  }

  #everyone(x: tf.Tensor3D, shared: Mlp): tf.Tensor {
    const output = shared.forward(x);
    return this.sharedGate ? tf.mul(output, tf.sigmoid(this.sharedGate.forward(x))) : output;
  }
}

function checkGroups({ experts, topK, groups, groupTopK = groups }: v.InferOutput<typeof Schema>): void {
  const refuse = (argument: string, wanted: string, given: number, remedy: string): never =>
    fail({ mechanism: MECHANISM, argument: `config.${argument}`, wanted, given: String(given), remedy });
  if (experts % groups !== 0) refuse('groups', `a divisor of the ${experts} experts`, groups, 'Groups are of equal size.');
  if (groupTopK > groups) refuse('groupTopK', `at most the ${groups} groups`, groupTopK, 'Keep at most all groups.');
  const open = (groupTopK * experts) / groups;
  if (topK > open)
    refuse('topK', `at most the ${open} experts that a token may choose from`, topK, 'Use more experts, or keep more groups.');
}
