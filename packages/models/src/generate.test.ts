import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { tidy } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { generate } from './generate.ts';
import type { GenerateEvent, GenerateOptions, LanguageModel } from './generate.ts';

const codec = {
  vocabSize: 32,
  encode: (text: string) => Array.from(text, (letter) => letter.charCodeAt(0) - 97),
  decode: (ids: readonly number[]) => ids.map((id) => String.fromCharCode(id + 97)).join(''),
};

/** A model whose next letter depends on all valid ids so far: (sum of ids + count) mod 26. */
function counting(): LanguageModel & { calls: number[][] } {
  const calls: number[][] = [];
  return {
    config: { vocabSize: 32 },
    calls,
    next: (ids, options = {}) =>
      tidy(() => {
        calls.push(ids.shape);
        const [batch] = ids.shape as [number, number];
        const values = tf.cast(ids, 'float32');
        const keep = options.mask ?? tf.onesLike(values);
        const sum = tf.add(options.state?.sum ?? tf.zeros([batch]), tf.sum(tf.mul(tf.add(values, 1), keep), 1));
        const position = tf.add(options.state?.position ?? tf.zeros([batch]), tf.sum(keep, 1));
        const logits = tf.mul(tf.cast(tf.oneHot(tf.cast(tf.mod(sum, 26), 'int32'), 32), 'float32'), 50);
        return { logits: logits as tf.Tensor2D, state: { sum, position } as State };
      }),
  };
}

async function collect(options: GenerateOptions, model: LanguageModel = counting()): Promise<GenerateEvent[]> {
  const before = tf.memory().numTensors;
  const events: GenerateEvent[] = [];
  for await (const event of generate(model, { codec, temperature: 0, ...options })) events.push(event);
  expect(tf.memory().numTensors).toBe(before);
  return events;
}

const textOf = (events: readonly GenerateEvent[], row: number): string =>
  events
    .filter((event) => event.row === row)
    .map(({ text }) => text)
    .join('');

beforeAll(async () => {
  await tf.setBackend('cpu');
});

describe('generate', () => {
  it('writes on, token by token, and closes with the reason', async () => {
    const events = await collect({ prompt: 'ab', maxNewTokens: 3 });
    expect(events.map(({ id }) => id)).toEqual([3, 7, 15]);
    expect(textOf(events, 0)).toBe('dhp');
    expect(events.at(-1)).toMatchObject({ finishReason: 'length' });
  });

  it('prefills in chunks and decodes one token at a time', async () => {
    const model = counting();
    const whole = await collect({ prompt: 'abcdefg', maxNewTokens: 3 }, model);
    expect(model.calls).toEqual([
      [1, 7],
      [1, 1],
      [1, 1],
    ]);
    const pieces = counting();
    expect(await collect({ prompt: 'abcdefg', maxNewTokens: 3, prefillChunk: 3 }, pieces)).toEqual(whole);
    expect(pieces.calls).toEqual([
      [1, 3],
      [1, 3],
      [1, 1],
      [1, 1],
      [1, 1],
    ]);
  });

  it('gives every row of a ragged batch what it gets alone, also when others end early', async () => {
    const prompts = ['a', 'abcde', 'zz'];
    const together = await collect({ prompt: prompts, maxNewTokens: 6, endIds: [7] });
    for (const [row, prompt] of prompts.entries()) {
      const alone = await collect({ prompt, maxNewTokens: 6, endIds: [7] });
      expect(together.filter((event) => event.row === row).map(({ id }) => id)).toEqual(alone.map(({ id }) => id));
    }
    expect(together.some(({ finishReason }) => finishReason === 'end')).toBe(true);
  });

  it('draws the same for a seed, row and step, whatever the batch', async () => {
    const flat: LanguageModel = {
      config: { vocabSize: 32 },
      next: (ids) => tidy(() => ({ logits: tf.zeros([ids.shape[0]!, 32]) as tf.Tensor2D, state: { position: tf.zeros([ids.shape[0]!]) } })),
    };
    const sampled = await collect({ prompt: ['a', 'b'], temperature: 1, seed: 5, maxNewTokens: 8 }, flat);
    const first = await collect({ prompt: 'a', temperature: 1, seed: 5, maxNewTokens: 8 }, flat);
    expect(sampled.filter(({ row }) => row === 0).map(({ id }) => id)).toEqual(first.map(({ id }) => id));
    expect(textOf(sampled, 0)).not.toBe(textOf(sampled, 1));
  });

  it('stops at a stop string and at an end id', async () => {
    const stopped = await collect({ prompt: 'ab', maxNewTokens: 9, stopStrings: ['hp'] });
    expect(textOf(stopped, 0)).toBe('d');
    expect(stopped.at(-1)).toMatchObject({ finishReason: 'stop' });
    const ended = await collect({ prompt: 'ab', maxNewTokens: 9, endIds: [7] });
    expect(ended.at(-1)).toMatchObject({ id: 7, text: '', finishReason: 'end' });
  });

  it('ends at an abort and when the reader leaves, and frees everything', async () => {
    const controller = new AbortController();
    const before = tf.memory().numTensors;
    const seen: GenerateEvent[] = [];
    for await (const event of generate(counting(), { prompt: 'ab', codec, temperature: 0, signal: controller.signal })) {
      seen.push(event);
      if (seen.length === 2) controller.abort();
    }
    expect(seen.at(-1)).toMatchObject({ id: null, finishReason: 'abort' });
    for await (const _ of generate(counting(), { prompt: ['ab', 'c'], codec })) break;
    expect(tf.memory().numTensors).toBe(before);
  });

  it('hands the last state over, from which writing continues', async () => {
    const whole = await collect({ prompt: 'ab', maxNewTokens: 5 });
    let state: State | undefined;
    const events: GenerateEvent[] = [];
    const options = { codec, temperature: 0 } as const;
    for await (const event of generate(counting(), { ...options, prompt: 'ab', maxNewTokens: 2, onState: (last) => (state = last) }))
      events.push(event);
    // the last token was written but not yet read by the model
    for await (const event of generate(counting(), { ...options, prompt: [events.at(-1)!.id!], state: state!, maxNewTokens: 3 }))
      events.push(event);
    expect(events.map(({ id }) => id)).toEqual(whole.map(({ id }) => id));
    tf.dispose(Object.values(state!));
  });

  it.each([
    [{ prompt: '' }, 'generate: prompt 0 must be at least one token'],
    [{ prompt: [99] }, 'generate: prompt 0 must be ids in [0, 32); got 99'],
    [{ prompt: 'a', maxNewTokens: 0 }, 'generate: maxNewTokens must be at least 1'],
    [{ prompt: 'a', temperature: -1 }, 'generate: temperature must be a number of at least 0'],
  ])('refuses %j before any work', async (options, message) => {
    const model = counting();
    await expect(collect(options, model)).rejects.toThrow(message);
    expect(model.calls).toEqual([]);
  });
});
