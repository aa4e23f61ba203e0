import * as tf from '@tensorflow/tfjs-core';
import { advance, lastRows, Linear, SequenceMixer } from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';

/** The mean of all tokens so far, `y_t = W mean(x_0 .. x_t)`, from a cache that grows: tries the laws about growing states. */
export class ToyCache extends SequenceMixer {
  readonly mechanism = 'toy-cache';
  readonly pattern = 'causal-self';
  readonly dim: number;
  readonly output: Linear;

  constructor(dim: number) {
    super();
    this.dim = dim;
    this.output = new Linear({ in: dim, out: dim, seed: 3 });
  }

  stateShapes(batch: number): StateShapes {
    return { tokens: [batch, 'length', this.dim] };
  }

  /** [B, L] 1 for the rows of the cache that hold tokens: the last `position` ones */
  protected used(position: tf.Tensor, cached: number): tf.Tensor {
    const age = tf.reshape(tf.range(cached, 0, -1, 'float32'), [1, cached]); // 1 for the newest
    return tf.cast(tf.lessEqual(age, tf.reshape(position, [-1, 1])), 'float32');
  }

  mix({ x, state, lengths }: MixInput): MixerResult {
    const [batch, length] = x.shape;
    const tokens = state.tokens as tf.Tensor3D;
    const cached = tokens.shape[1];
    const counts = tf.add(tf.reshape(state.position, [batch, 1, 1]), tf.reshape(tf.range(1, length + 1, 1, 'float32'), [1, length, 1]));
    let sums = tf.cumsum(x, 1);
    if (cached > 0) {
      const weights = tf.reshape(this.used(state.position, cached), [batch, cached, 1]);
      sums = tf.add(sums, tf.sum(tf.mul(tokens, weights), 1, true));
    }
    const room = tf.zeros([batch, length, this.dim]);
    const window = (cached > 0 ? tf.concat([room, tokens], 1) : room) as tf.Tensor3D;
    return {
      output: this.output.forward(tf.div(sums, counts)) as tf.Tensor3D,
      state: { tokens: lastRows(window, x, lengths, cached + length), position: advance(state.position, x, lengths) },
    };
  }
}

/** Adds a mean of tokens that the pattern lets each token see, of its own sequence or of the context: tries the noncausal and cross laws. */
export class ToyMean extends SequenceMixer {
  readonly mechanism = 'toy-mean';
  readonly pattern: Pattern;
  readonly dim: number;
  readonly output: Linear;

  constructor(dim: number, pattern: Pattern) {
    super();
    this.dim = dim;
    this.pattern = pattern;
    this.output = new Linear({ in: dim, out: dim, seed: 5 });
  }

  stateShapes(): StateShapes {
    return {};
  }

  mix({ x, state, valid, lengths, context, contextValid }: MixInput): MixerResult {
    const [batch, length] = x.shape;
    const seen = context ?? x;
    const live = context ? contextValid : valid;
    const size = seen.shape[1];
    const weights = tf.reshape(live ?? tf.ones([batch, size]), [batch, 1, size]);
    // [B, T, S]: 1 where token t may look at s
    let reach = tf.tile(weights, [1, length, 1]);
    if (this.pattern === 'causal-cross') {
      const times = tf.add(tf.reshape(state.position, [batch, 1, 1]), tf.reshape(tf.range(0, length, 1, 'float32'), [1, length, 1]));
      const allowed = tf.lessEqual(tf.reshape(tf.range(0, size, 1, 'float32'), [1, 1, size]), times);
      reach = tf.mul(reach, tf.cast(allowed, 'float32'));
    }
    const mean = tf.div(tf.matMul(reach, seen), tf.maximum(tf.sum(reach, 2, true), 1));
    const output = this.output.forward(tf.add(x, mean)) as tf.Tensor3D;
    return { output, state: { position: advance(state.position, x, lengths) } };
  }
}
