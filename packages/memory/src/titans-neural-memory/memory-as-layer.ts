import type * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { advance, childState, deriveSeed, joinStates, parseConfig, SequenceMixer } from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { checkAttentionHeads, windowEntries, windowStateShapes } from './beside-attention.ts';
import { TitansNeuralMemory } from './layer.ts';
import { PersistentAttention } from './persistent-attention.ts';

const Schema = v.strictObject(windowEntries);

/** Config of `TitansMemoryAsLayer`: dim, heads and window; all else has a default. */
export type TitansMemoryAsLayerConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'titans-neural-memory';

/**
 * Titans' memory as layer (MAL): the memory reads the tokens and sliding-window attention reads the memory's output,
 * `o = attention([P; memory(x)])`.
 *
 * The state is `window` [B, W - 1, 2 D + 1], keys and values of the memory's last outputs, and the memory's under `memory.`. Parameters
 * beside the memory: 4 D^2 + N_p D.
 *
 * @see Behrouz, Zhong, Mirrokni 2024, arXiv 2501.00663, section 4.3
 */
export class TitansMemoryAsLayer extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly memory: TitansNeuralMemory;
  readonly attention: PersistentAttention;

  constructor(config: TitansMemoryAsLayerConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, persistent, memory, seed, outputDeviation } = this.config;
    checkAttentionHeads(MECHANISM, dim, heads);
    this.dim = dim;
    this.memory = new TitansNeuralMemory({ ...memory, dim, seed: deriveSeed(seed, 'memory') });
    this.attention = new PersistentAttention({ dim, heads, persistent, seed, outputDeviation });
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
    const memory = this.memory.mix({ ...input, state: childState(state, 'memory') });
    const { output, after } = this.attention.attendWindow(memory.output, { before, valid, lengths }, this.config.window);
    return { output, state: { ...joinStates(advance(state.position, x, lengths), { memory: memory.state }), window: after } };
  }
}
