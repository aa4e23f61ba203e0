import * as tf from '@tensorflow/tfjs-core';
import type { Pattern } from '../card.ts';
import { fail } from '../error.ts';
import { ones } from '../module/initialiser.ts';
import { makeNorm } from '../module/norm.ts';
import type { Norm, NormConfig } from '../module/norm.ts';
import { Parameter } from '../module/parameter.ts';
import type { StateShapes } from '../state/state.ts';
import type { ChannelMixer } from './channel-mixer.ts';
import { SequenceMixer } from './sequence-mixer.ts';
import type { MixerResult, MixInput } from './sequence-mixer.ts';

/**
 * Where the norms of a block stand, N and M being those of mixer F and channel mixer G:
 *
 * - pre: `h = x + F(N x)`, `y = h + G(M h)`
 * - post: `h = N(x + F x)`, `y = M(h + G h)`
 * - sandwich: `h = x + N'(F(N x))`, `y = h + M'(G(M h))`
 * - normalised: `n = N x`, `h = n + F n`, `m = M h`, `y = m + G m` (MiniMax)
 * - parallel: `y = x + F(N x) + G(M x)`
 * - none: `h = x + F x`, `y = h + G h`
 */
export type ResidualStyle = 'pre' | 'post' | 'sandwich' | 'normalised' | 'parallel' | 'none';

/** How a block joins its layers with what it carries along. */
export interface ResidualConfig {
  /** default pre */
  readonly style?: ResidualStyle | undefined;
  /** factors on what is carried past the mixer and past the channel mixer, default 1 (DeepNorm's alpha) */
  readonly mixerCarry?: number | undefined;
  readonly channelCarry?: number | undefined;
  /** factors on what the mixer and the channel mixer add, default 1 */
  readonly mixerScale?: number | undefined;
  readonly channelScale?: number | undefined;
  /** a learned factor per channel on what is carried, starting at 1; default false */
  readonly learned?: boolean | undefined;
}

/** What a block is made of. */
export interface BlockParts {
  readonly mixer: SequenceMixer;
  /** default none */
  readonly channel?: ChannelMixer | null;
  /** epsilon of the norms; short for `norm: { epsilon }` */
  readonly epsilon?: number;
  readonly norm?: NormConfig;
  readonly residual?: ResidualConfig;
}

/**
 * One floor of a stack, by default `h = x + mixer(norm x)`, then `y = h + channel(norm h)`; other orders by `residual`.
 *
 * The state is the mixer's own.
 */
export class Block extends SequenceMixer {
  readonly mechanism = 'block';
  readonly dim: number;
  readonly pattern: Pattern;
  readonly residual: Required<{ readonly [Key in keyof ResidualConfig]: Exclude<ResidualConfig[Key], undefined> }>;
  readonly norm1: Norm | null;
  readonly mixer: SequenceMixer;
  /** second norm of a sandwich */
  readonly outputNorm1: Norm | null;
  readonly norm2: Norm | null;
  readonly channel: ChannelMixer | null;
  readonly outputNorm2: Norm | null;
  /** learned factors on what is carried, [D] */
  readonly carry1: Parameter | null;
  readonly carry2: Parameter | null;

  /** @param parts mixer, channel mixer, norms and residuals */
  constructor(parts: BlockParts) {
    super();
    const { mixer, channel = null, epsilon, residual } = parts;
    const style = residual?.style ?? 'pre';
    this.dim = mixer.dim;
    this.pattern = mixer.pattern;
    if (channel && channel.dim !== mixer.dim)
      refuse('channel.dim', `the mixer's width ${mixer.dim}`, channel.dim, 'Build mixer and channel mixer for the same width.');
    if (mixer.outputDim !== mixer.dim)
      refuse(
        'mixer',
        `an output of width ${mixer.dim}`,
        mixer.outputDim,
        'Leave its output projection on, or make it a branch of a parallel mixer.',
      );
    this.residual = {
      style,
      mixerCarry: residual?.mixerCarry ?? 1,
      channelCarry: residual?.channelCarry ?? 1,
      mixerScale: residual?.mixerScale ?? 1,
      channelScale: residual?.channelScale ?? 1,
      learned: residual?.learned ?? false,
    };
    const norm = (): Norm => makeNorm(mixer.dim, epsilon === undefined ? parts.norm : { ...parts.norm, epsilon });
    const carry = (): Parameter | null => (residual?.learned ? new Parameter([mixer.dim], ones, 0) : null);
    this.norm1 = style === 'none' ? null : norm();
    this.mixer = mixer;
    this.outputNorm1 = style === 'sandwich' ? norm() : null;
    this.norm2 = channel && style !== 'none' ? norm() : null;
    this.channel = channel;
    this.outputNorm2 = channel && style === 'sandwich' ? norm() : null;
    this.carry1 = carry();
    this.carry2 = channel && style !== 'parallel' ? carry() : null;
  }

  stateShapes(batch: number): StateShapes {
    return this.mixer.stateShapes(batch);
  }

  override mixingFlops(length: number): number {
    return this.mixer.mixingFlops(length);
  }

  mix(input: MixInput): MixerResult {
    const { style, mixerCarry, channelCarry, mixerScale, channelScale } = this.residual;
    const { x } = input;
    const inner = this.norm1 && style !== 'post' ? this.norm1.forward(x) : x;
    const { output: mixed, ...rest } = this.mixer.mix({ ...input, x: inner });
    const first = scale(this.outputNorm1?.forward(mixed) ?? mixed, mixerScale);
    const channel = (from: tf.Tensor3D): tf.Tensor3D => {
      const output = this.channel!.forward(from, { training: input.training, valid: input.valid, losses: input.losses });
      return scale(this.outputNorm2?.forward(output) ?? output, channelScale);
    };
    const sum = tf.add(this.#carried(style === 'normalised' ? inner : x, mixerCarry, this.carry1), first) as tf.Tensor3D;
    if (style === 'parallel') {
      const output = this.channel ? (tf.add(sum, channel(this.norm2!.forward(x))) as tf.Tensor3D) : sum;
      return { ...rest, output };
    }
    const h = style === 'post' ? this.norm1!.forward(sum) : sum;
    if (!this.channel) return { ...rest, output: h };
    const from = this.norm2 && style !== 'post' ? this.norm2.forward(h) : h;
    const y = tf.add(this.#carried(style === 'normalised' ? from : h, channelCarry, this.carry2), channel(from)) as tf.Tensor3D;
    return { ...rest, output: style === 'post' ? this.norm2!.forward(y) : y };
  }

  #carried(x: tf.Tensor3D, factor: number, learned: Parameter | null): tf.Tensor3D {
    return scale(learned ? (tf.mul(x, learned.value) as tf.Tensor3D) : x, factor);
  }
}

function scale(x: tf.Tensor3D, factor: number): tf.Tensor3D {
  return factor === 1 ? x : (tf.mul(x, factor) as tf.Tensor3D);
}

function refuse(argument: string, wanted: string, given: number, remedy: string): never {
  return fail({ mechanism: 'block', argument, wanted, given: String(given), remedy });
}
