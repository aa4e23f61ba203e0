import * as tf from '@tensorflow/tfjs-core';
import { advance, constant, deriveSeed, fail, Linear, Parameter, SequenceMixer } from '@seqloom/core';
import type { MechanismCard, MixerResult, MixInput, StateShapes } from '@seqloom/core';

/** Config of `ToyMixer`. */
export interface ToyConfig {
  readonly dim: number;
  readonly seed?: number;
}

/** Checks a config by hand, so that this package needs no schema library. */
function checkConfig(given: ToyConfig): Required<ToyConfig> {
  const refuse = (argument: string, wanted: string, value: unknown): never =>
    fail({ mechanism: 'toy-average', argument, wanted, given: String(value), remedy: 'The keys are dim and seed.' });
  if (typeof given !== 'object' || given === null) refuse('config', 'an object', given);
  for (const [key, value] of Object.entries(given)) {
    if (key !== 'dim' && key !== 'seed') refuse(`config.${key}`, 'absent: this key is unknown', value);
  }
  if (!Number.isInteger(given.dim) || given.dim < 1) refuse('config.dim', 'a whole number of at least 1', given.dim);
  return { dim: given.dim, seed: given.seed ?? 0 };
}

/** Card of the exponential moving average that the laws are tried on. */
export const toyCard: MechanismCard = {
  id: 'toy-average',
  title: 'Exponential moving average',
  paper: { title: 'none', authors: 'none', year: 1956, id: 'none' },
  patterns: ['causal-self'],
  forms: ['naive', 'recurrent'],
  kernels: [],
  decode: 'constant-state',
  stateBytes: (_length, dims) => 4 * dims.dim!,
  complexity: { train: 'O(T D)', decode: 'O(D)' },
  reference: { repository: 'none', path: 'none', licence: 'none' },
  deviations: [],
  degenerate: [],
  evidence: 'properties-only',
  since: '0.1.0',
};

/** A gated exponential moving average: `h_t = a h_{t-1} + (1 - a) W x_t`, `y_t = h_t sigmoid(V x_t)`; small, correct, and easy to break. */
export class ToyMixer extends SequenceMixer {
  readonly mechanism = 'toy-average';
  readonly pattern = 'causal-self';
  readonly config: Required<ToyConfig>;
  readonly dim: number;
  readonly input: Linear;
  readonly gate: Linear;
  readonly decay: Parameter;

  constructor(config: ToyConfig) {
    super();
    this.config = checkConfig(config);
    const { dim, seed } = this.config;
    this.dim = dim;
    this.input = new Linear({ in: dim, out: dim, seed: deriveSeed(seed, 'input') });
    this.gate = new Linear({ in: dim, out: dim, bias: true, seed: deriveSeed(seed, 'gate') });
    this.decay = new Parameter([dim], constant(1), 0);
  }

  stateShapes(batch: number): StateShapes {
    return { hidden: [batch, this.dim] };
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const [batch, length] = x.shape;
    const u = this.input.forward(x);
    const a = tf.sigmoid(this.decay.value);
    let hidden = state.hidden!;
    const outputs: tf.Tensor[] = [];
    for (let t = 0; t < length; t++) {
      const now = tf.reshape(tf.slice(u, [0, t, 0], [batch, 1, this.dim]), [batch, this.dim]);
      const next = tf.add(tf.mul(a, hidden), tf.mul(tf.sub(1, a), now));
      const live = valid && tf.cast(tf.tile(tf.slice(valid, [0, t], [batch, 1]), [1, this.dim]), 'bool');
      hidden = live ? tf.where(live, next, hidden) : next;
      outputs.push(hidden);
    }
    const output = tf.mul(tf.stack(outputs, 1), tf.sigmoid(this.gate.forward(x))) as tf.Tensor3D;
    return { output, state: { hidden, position: advance(state.position, x, lengths) } };
  }
}
