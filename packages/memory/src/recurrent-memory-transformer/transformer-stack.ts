import { MultiHeadAttention } from '@seqloom/attention';
import { advance, Block, childState, deriveSeed, joinStates, Mlp, RmsNorm, SequenceMixer } from '@seqloom/core';
import type { MixerResult, MixInput, State, StateShapes } from '@seqloom/core';

/** Sizes of `TransformerStack`. */
export interface TransformerStackConfig {
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  readonly pattern: 'causal-self' | 'noncausal-self';
  readonly seed: number;
  readonly outputDeviation?: number | undefined;
}

/** Blocks of softmax attention with rotary positions and SwiGLU, and a final norm: the stack that memory runs around by default. */
export class TransformerStack extends SequenceMixer {
  readonly mechanism = 'recurrent-memory-transformer';
  readonly dim: number;
  readonly pattern: 'causal-self' | 'noncausal-self';
  readonly blocks: readonly Block[];
  readonly norm: RmsNorm;

  constructor({ dim, depth, heads, pattern, seed, outputDeviation }: TransformerStackConfig) {
    super();
    this.dim = dim;
    this.pattern = pattern;
    this.blocks = Array.from({ length: depth }, (_, index) => {
      const own = (part: string): number => deriveSeed(seed, `${part}${index}`);
      const rest = outputDeviation === undefined ? {} : { outputDeviation };
      return new Block({
        mixer: new MultiHeadAttention({ dim, heads, pattern, seed: own('attention'), ...rest }),
        channel: new Mlp({ dim, seed: own('channel'), ...rest }),
      });
    });
    this.norm = new RmsNorm({ dim });
  }

  stateShapes(batch: number): StateShapes {
    const entries = this.blocks.flatMap((block, index) => [
      ...Object.entries(block.stateShapes(batch)).map(([name, shape]) => [`${index}.${name}`, shape] as const),
      [`${index}.position`, [batch]] as const,
    ]);
    return Object.fromEntries(entries);
  }

  override mixingFlops(length: number): number {
    return this.blocks.reduce((sum, block) => sum + block.mixingFlops(length), 0);
  }

  mix(input: MixInput): MixerResult {
    let x = input.x;
    const states: Record<string, State> = {};
    for (const [index, block] of this.blocks.entries()) {
      const result = block.mix({ ...input, x, state: childState(input.state, String(index)) });
      x = result.output;
      states[index] = result.state;
    }
    return { output: this.norm.forward(x), state: joinStates(advance(input.state.position, x, input.lengths), states) };
  }
}
