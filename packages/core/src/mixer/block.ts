import * as tf from '@tensorflow/tfjs-core';
import type { Pattern } from '../card.ts';
import { fail } from '../error.ts';
import { RmsNorm } from '../module/norm.ts';
import type { StateShapes } from '../state/state.ts';
import type { ChannelMixer } from './channel-mixer.ts';
import { SequenceMixer } from './sequence-mixer.ts';
import type { MixerResult, MixInput } from './sequence-mixer.ts';

/**
 * One floor of a stack: `h = x + mixer(norm x)`, then `y = h + channel(norm h)`.
 *
 * The state is the mixer's own.
 */
export class Block extends SequenceMixer {
  readonly mechanism = 'block';
  readonly dim: number;
  readonly pattern: Pattern;
  readonly norm1: RmsNorm;
  readonly mixer: SequenceMixer;
  readonly norm2: RmsNorm | null;
  readonly channel: ChannelMixer | null;

  /** @param parts the mixer, the channel mixer (null: none) and the norms' epsilon (default 1e-5) */
  constructor(parts: { readonly mixer: SequenceMixer; readonly channel?: ChannelMixer | null; readonly epsilon?: number }) {
    super();
    const { mixer, channel = null, epsilon } = parts;
    if (channel && channel.dim !== mixer.dim) {
      fail({
        mechanism: 'block',
        argument: 'channel.dim',
        wanted: `the mixer's width ${mixer.dim}`,
        given: String(channel.dim),
        remedy: 'Build mixer and channel mixer for the same width.',
      });
    }
    this.dim = mixer.dim;
    this.pattern = mixer.pattern;
    this.norm1 = new RmsNorm({ dim: this.dim, ...(epsilon === undefined ? {} : { epsilon }) });
    this.mixer = mixer;
    this.norm2 = channel ? new RmsNorm({ dim: this.dim, ...(epsilon === undefined ? {} : { epsilon }) }) : null;
    this.channel = channel;
  }

  stateShapes(batch: number): StateShapes {
    return this.mixer.stateShapes(batch);
  }

  override mixingFlops(length: number): number {
    return this.mixer.mixingFlops(length);
  }

  mix(input: MixInput): MixerResult {
    const mixed = this.mixer.mix({ ...input, x: this.norm1.forward(input.x) });
    const h = tf.add(input.x, mixed.output) as tf.Tensor3D;
    if (!this.channel || !this.norm2) return { output: h, state: mixed.state };
    const output = tf.add(h, this.channel.forward(this.norm2.forward(h), { training: input.training })) as tf.Tensor3D;
    return { output, state: mixed.state };
  }
}
