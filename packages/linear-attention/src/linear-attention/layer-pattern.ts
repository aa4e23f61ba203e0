import { fail, positiveInteger } from '@seqloom/core';
import type { MixInput, Pattern } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';

/** Config entries of layers that have all four patterns. */
export const patternEntries = {
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self', 'causal-cross', 'noncausal-cross']), 'causal-self'),
  /** width of the context of cross patterns; default: dim */
  contextDim: v.optional(positiveInteger),
};

/**
 * Width of what keys and values are made of.
 *
 * @throws SeqLoomError on the width of a context that the pattern does not read
 */
export function sourceDim(
  mechanism: string,
  { dim, pattern, contextDim }: { readonly dim: number; readonly pattern: Pattern; readonly contextDim?: number | undefined },
): number {
  if (pattern.endsWith('cross')) return contextDim ?? dim;
  if (contextDim === undefined) return dim;
  return fail({
    mechanism,
    argument: 'config.contextDim',
    wanted: `left out for the pattern ${pattern}`,
    given: String(contextDim),
    remedy: 'Choose a cross pattern, or leave it out.',
  });
}

/** What the keys of a piece are made of, and what the op is told of the pattern: which keys are padding, and which a query sees. */
export function readPattern(
  { x, state, valid, context, contextValid }: MixInput,
  pattern: Pattern,
): {
  readonly source: tf.Tensor3D;
  readonly settings: { readonly pattern: Pattern; readonly mask?: tf.Tensor; readonly visible?: tf.Tensor };
} {
  const cross = pattern.endsWith('cross');
  const mask = cross ? contextValid : valid;
  const [batch, length] = x.shape;
  return {
    source: cross ? context! : x,
    settings: {
      pattern,
      ...(mask ? { mask } : {}),
      // query i of a row whose position is p sees the first p + i + 1 tokens of the context
      ...(pattern === 'causal-cross'
        ? { visible: tf.add(tf.reshape(state.position, [batch, 1]), tf.range(1, length + 1, 1, 'float32')) }
        : {}),
    },
  };
}
