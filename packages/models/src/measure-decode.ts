import * as tf from '@tensorflow/tfjs-core';
import { disposeState, fail, Random, stateBytes } from '@seqloom/core';
import type { State } from '@seqloom/core';
import type { Hybrid } from './hybrid.ts';

/** One row of `measureDecode`. */
export interface DecodeRow {
  /** tokens of context before the first measured one */
  readonly context: number;
  /** medians over the measured tokens */
  readonly millisecondsPerToken: number;
  readonly tokensPerSecond: number;
  /** bytes that the state holds after the context */
  readonly stateBytes: number;
}

/** What `measureDecode` runs. */
export interface DecodeOptions {
  /** contexts in tokens */
  readonly contexts: readonly number[];
  /** tokens measured at each, default 16 */
  readonly tokens?: number;
  /** rows of the batch, default 1 */
  readonly batch?: number;
}

const BLOCK = 65_521;

/**
 * A state as it is after `length` tokens, its caches filled with random numbers instead of a text that was read.
 *
 * What a token costs depends on the extents of the state and not on what stands in it, so long contexts can be timed without being read.
 *
 * @returns a state of the caller's
 */
export function filledState(model: Hybrid, batch: number, length: number, seed = 0): State {
  const meta = model.stack.meta?.shape[0] ?? 0;
  const random = new Random(seed);
  const shapes = model.mixer.stateShapes(batch);
  const entries = Object.entries(shapes).map(([name, shape]) => {
    // a growing tensor without channels marks a place within a segment: the start of one
    const mark = shape.includes(0);
    const extents = shape.map((extent) => (extent === 'length' ? (mark ? 0 : length + meta) : extent));
    if (name === 'position' || name.endsWith('.position')) return [name, tf.fill(extents, length + meta)] as const;
    const data = new Float32Array(tf.util.sizeFromShape(extents));
    // a block of draws again and again: a long cache would take longer to draw than to time
    for (let at = 0; at < Math.min(BLOCK, data.length); at++) data[at] = random.normal() * 0.1;
    for (let at = BLOCK; at < data.length; at += BLOCK) data.copyWithin(at, 0, BLOCK);
    return [name, tf.tensor(data, extents, 'float32')] as const;
  });
  return { ...Object.fromEntries(entries), position: tf.fill([batch], length + meta) } as State;
}

/**
 * Times one-token steps of a model after contexts of several lengths, each from a state of that length that was filled, not read.
 *
 * @param model on the backend that is set up
 * @returns one row per context, in order
 * @throws SeqLoomError on a context or a count below 1
 */
export async function measureDecode(model: Hybrid, { contexts, tokens = 16, batch = 1 }: DecodeOptions): Promise<DecodeRow[]> {
  const wrong = [...contexts, tokens, batch].find((count) => !Number.isInteger(count) || count < 1);
  if (contexts.length === 0 || wrong !== undefined)
    fail({
      mechanism: 'measureDecode',
      argument: 'contexts, tokens and batch',
      wanted: 'whole numbers of at least 1',
      given: wrong === undefined ? 'no context' : String(wrong),
      remedy: 'Say for instance contexts: [1024, 4096].',
    });
  const rows: DecodeRow[] = [];
  const ids = tf.zeros([batch, 1], 'int32');
  try {
    for (const context of contexts) {
      let state = filledState(model, batch, context);
      const bytes = stateBytes(state);
      const times: number[] = [];
      // the first steps compile and warm caches
      for (let step = -3; step < tokens; step++) {
        const start = performance.now();
        const next = model.next(ids, { state });
        await next.logits.data();
        if (step >= 0) times.push(performance.now() - start);
        disposeState(state);
        next.logits.dispose();
        state = next.state;
      }
      disposeState(state);
      const median = times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)]!;
      rows.push({ context, millisecondsPerToken: median, tokensPerSecond: (1000 * batch) / median, stateBytes: bytes });
    }
    return rows;
  } finally {
    ids.dispose();
  }
}
