import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { advance, childState, deriveSeed, GatedRmsNorm, joinStates, parseConfig, RmsNorm, SequenceMixer } from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { checkAttentionHeads, windowEntries, windowStateShapes } from './beside-attention.ts';
import { TitansNeuralMemory } from './layer.ts';
import { PersistentAttention } from './persistent-attention.ts';

const Schema = v.strictObject(windowEntries);

/** Config of `TitansMemoryAsGate`: dim, heads and window; all else has a default. */
export type TitansMemoryAsGateConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'titans-neural-memory';

/**
 * Titans' memory as gate (MAG): sliding-window attention and the memory read the same tokens, and one gates the other,
 * `o = norm(attention([P; x])) * sigmoid(norm(memory(x)))`.
 *
 * The state is `window` [B, W - 1, 2 D + 1], keys and values of the last tokens, and the memory's under `memory.`. Parameters beside the
 * memory: 4 D^2 + N_p D + 2 D.
 *
 * @see Behrouz, Zhong, Mirrokni 2024, arXiv 2501.00663, section 4.2
 */
export class TitansMemoryAsGate extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly attention: PersistentAttention;
  readonly memory: TitansNeuralMemory;
  readonly attentionNorm: GatedRmsNorm;
  readonly memoryNorm: RmsNorm;

  constructor(config: TitansMemoryAsGateConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, persistent, memory, seed, outputDeviation } = this.config;
    checkAttentionHeads(MECHANISM, dim, heads);
    this.dim = dim;
    this.attention = new PersistentAttention({ dim, heads, persistent, seed });
    this.memory = new TitansNeuralMemory({ ...memory, dim, seed: deriveSeed(seed, 'memory') });
    this.attentionNorm = new GatedRmsNorm({ dim, activation: 'sigmoid' });
    this.memoryNorm = new RmsNorm({ dim });
    // a norm undoes any scale before it, so the branch starts small by its weight
    if (outputDeviation !== undefined) tf.tidy(() => this.attentionNorm.weight.assign(tf.fill([dim], Math.sqrt(dim) * outputDeviation)));
  }

  stateShapes(batch: number): StateShapes {
    return windowStateShapes(batch, this.config.window, this);
  }

  override mixingFlops(length: number): number {
    const { window, persistent } = this.config;
    return 4 * this.dim * (Math.min(length, window) + persistent) + this.memory.mixingFlops();
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid, lengths } = input;
    const before = state.window as tf.Tensor3D;
    const attended = this.attention.attendWindow(x, { before, valid, lengths }, this.config.window);
    const memory = this.memory.mix({ ...input, state: childState(state, 'memory') });
    const output = this.attentionNorm.forward(attended.output, this.memoryNorm.forward(memory.output));
    const after = joinStates(advance(state.position, x, lengths), { memory: memory.state });
    return { output, state: { ...after, window: attended.after } };
  }
}
