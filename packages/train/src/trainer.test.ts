import * as tf from '@tensorflow/tfjs-core';
import { setupBackend } from '@seqloom/core';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ByteTokeniser } from './data/byte-tokeniser.ts';
import { memoryStore } from './data/memory-store.ts';
import { WindowData } from './data/windows.ts';
import type { TrainingData } from './data/windows.ts';
import { evaluate } from './evaluate.ts';
import type { TrainableModel } from './model.ts';
import { Pace } from './pace.ts';
import { ToyModel } from './toy-model.ts';
import { train } from './trainer.ts';
import type { StepMetrics, TrainEvent, TrainOptions, TrainSummary } from './train-options.ts';

const text = 'the quick brown fox jumps over the lazy dog. '.repeat(60);
let data: WindowData;
let model: ToyModel;
let before = 0;

beforeAll(async () => {
  await setupBackend('wasm');
});
beforeEach(async () => {
  data = new WindowData(await memoryStore(text, { tokeniser: new ByteTokeniser() }), { length: 16, seed: 1 });
  before = tf.memory().numTensors;
  model = new ToyModel({ vocabSize: 256, dim: 16 });
});
afterEach(() => {
  model.dispose();
  expect(tf.memory().numTensors).toBe(before);
});

async function collect(
  options: Partial<TrainOptions>,
  subject: TrainableModel = model,
): Promise<{ events: TrainEvent[]; summary: TrainSummary }> {
  const run = train(subject, { data, rows: 4, ...options });
  const events: TrainEvent[] = [];
  for (;;) {
    const { done, value } = await run.next();
    if (done) return { events, summary: value };
    events.push(value);
  }
}

/** A model whose loss turns into something else in chosen calls. */
function spoiled(change: (sum: tf.Scalar, call: number) => tf.Scalar): TrainableModel {
  let calls = 0;
  return {
    config: model.config,
    namedParameters: () => model.namedParameters(),
    stateDict: () => model.stateDict(),
    loadStateDict: (weights) => model.loadStateDict(weights),
    loss: (ids, labels, options) => {
      const { sum, state } = model.loss(ids, labels, options);
      return { sum: change(sum, calls++), state };
    },
  };
}

describe('train', () => {
  it('learns a text, step by step without a tensor more', async () => {
    const counts: number[] = [];
    const lines: StepMetrics[] = [];
    const metrics = {
      start: () => Promise.resolve(),
      write: (line: StepMetrics) => {
        lines.push(line);
        counts.push(tf.memory().numTensors);
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
    };
    const { events, summary } = await collect({ steps: 60, rows: 8, schedule: { peak: 1e-2, warmup: 5 }, metrics, evaluateEvery: 20 });
    expect(lines).toHaveLength(60);
    expect(Math.abs(lines[0]!.bitsPerByte - 8)).toBeLessThan(0.02);
    expect(lines[0]!.learningRate).toBeCloseTo(2e-3, 12);
    expect(summary.heldOutBitsPerByte).toBeLessThan(2);
    expect(summary).toMatchObject({ reason: 'done', step: 60, total: 60, tokens: 60 * 8 * 16, skipped: 0 });
    expect(summary.evaluations.map(({ step }) => step)).toEqual([20, 40, 60]);
    expect(new Set(counts.slice(1)).size).toBe(1);
    expect(events.map(({ type }) => type).filter((type) => type !== 'step')).toEqual(['start', 'evaluation', 'evaluation', 'evaluation']);
    expect(JSON.parse(JSON.stringify(lines[3]))).toEqual(lines[3]);
    expect((await evaluate(model, data, { rows: 8 })).bitsPerByte).toBe(summary.heldOutBitsPerByte);
  });

  it('counts bits per byte of text, whatever a token is', async () => {
    // two letters of ASCII are one token
    const tokeniser = {
      vocabSize: 65_536,
      encode: (part: string) =>
        Int32Array.from({ length: part.length >> 1 }, (_, i) => (part.charCodeAt(2 * i) * 31 + part.charCodeAt(2 * i + 1)) % 200),
      decode: () => '',
    };
    const pairs = new WindowData(await memoryStore(text.slice(0, 2000), { tokeniser }), { length: 16 });
    const { loss, bitsPerByte, tokens } = await evaluate(model, pairs);
    expect(tokens).toBe(50);
    expect(bitsPerByte).toBeCloseTo(loss / Math.LN2 / 2, 12);
    expect(Math.abs(bitsPerByte - 4)).toBeLessThan(0.02);
  });

  it('overfits one batch', async () => {
    const batch = await data.nextBatch(1);
    const same: TrainingData = {
      vocabSize: 256,
      bytesPerToken: 1,
      heldOutBytesPerToken: 1,
      position: data.position,
      nextBatch: () => Promise.resolve(batch),
      seek: () => undefined,
      evaluation: data.evaluation.bind(data),
    };
    const { events } = await collect({
      data: same,
      steps: 200,
      evaluateEvery: null,
      schedule: { peak: 2e-2 },
      optimiser: { weightDecay: 0 },
    });
    expect((events.at(-1) as StepMetrics).loss).toBeLessThan(0.01);
  });

  it('skips a step whose gradient is not finite, counts it, and goes on', async () => {
    const { events, summary } = await collect(
      { steps: 6, evaluateEvery: null },
      spoiled((sum, call) => (call === 2 ? (tf.mul(sum, Number.NaN) as tf.Scalar) : sum)),
    );
    const steps = events.filter((event) => event.type === 'step');
    expect(steps.map(({ skipped }) => skipped)).toEqual([0, 0, 1, 1, 1, 1]);
    expect(steps[3]!.loss).toBeGreaterThan(0);
    expect(summary).toMatchObject({ skipped: 1, step: 6, tokens: 5 * 4 * 16 });
    expect(Object.values(await model.stateDict()).every((tensor) => tensor.data.every(Number.isFinite))).toBe(true);
  });

  it('gives up with one clear error when no step is finite', async () => {
    const run = collect(
      { steps: 60, maxSkips: 3, evaluateEvery: null },
      spoiled((sum) => tf.mul(sum, Infinity) as tf.Scalar),
    );
    await expect(run).rejects.toThrow('train: gradient must be finite; got loss Infinity and gradient norm NaN, 3 steps in a row. Lower');
  });

  it('frees everything when the model throws, or the caller leaves', async () => {
    const bad = spoiled((sum, call) => {
      if (call === 3) throw new Error('in the middle');
      return sum;
    });
    await expect(collect({ steps: 9, accumulate: 2 }, bad)).rejects.toThrow('in the middle');
    for await (const event of train(model, { data, rows: 2, steps: 9 })) if (event.type === 'step' && event.step === 2) break;
  });

  it('ends cleanly at an abort, and at once when it came before', async () => {
    const controller = new AbortController();
    const bad = spoiled((sum, call) => {
      if (call === 4) controller.abort();
      return sum;
    });
    const { summary, events } = await collect({ steps: 50, signal: controller.signal }, bad);
    expect(summary).toMatchObject({ reason: 'aborted', step: 5, total: 50, heldOutBitsPerByte: null });
    expect(events.filter(({ type }) => type === 'evaluation')).toEqual([]);
    expect((await collect({ steps: 50, signal: controller.signal })).summary).toMatchObject({ reason: 'aborted', step: 0 });
  });

  it('turns minutes into steps so that the schedule ends on time', async () => {
    let now = 0;
    const slow: TrainableModel = spoiled((sum) => {
      now += 0.1;
      return sum;
    });
    // evaluation runs the model too, and so costs time
    const { summary, events } = await collect(
      { minutes: 0.25, clock: () => now, schedule: { peak: 1e-3, minimum: 1e-5 }, evaluation: { maxTokens: 16 } },
      slow,
    );
    expect(summary.reason).toBe('done');
    expect(summary.seconds).toBeGreaterThan(0.8 * 15);
    expect(summary.seconds).toBeLessThanOrEqual(15);
    const steps = events.filter((event) => event.type === 'step');
    expect(steps.at(-1)!.learningRate).toBeLessThan(2e-5);
    expect(events.filter(({ type }) => type === 'plan').length).toBeGreaterThan(0);
    // what is left shrinks to nothing
    expect(steps.at(-1)!.secondsLeft).toBe(0);
  });

  it('plans from the usual step, not from a compilation, and mends the plan at the quarters alone', () => {
    const pace = new Pace(110);
    for (const seconds of [30, 0.5, 0.5]) pace.add(seconds);
    expect(pace.isDue({ step: 3, total: null }, 40)).toBe(false);
    for (const seconds of [9, 0.5]) pace.add(seconds);
    expect(pace.isDue({ step: 5, total: null }, 4)).toBe(false);
    expect(pace.isDue({ step: 5, total: null }, 40)).toBe(true);
    pace.evaluationSeconds = 1;
    pace.checkpointSeconds = 0.5;
    const total = pace.plan({ step: 20, total: null }, 10, { evaluationsLeft: 4, checkpointsLeft: 2 });
    expect(total).toBe(20 + Math.floor((98 - 5) / 0.5));
    expect(pace.secondsLeft({ step: 20, total })).toBe(93);
    const due: number[] = [];
    for (let step = 21; step <= 100; step++) {
      if (!pace.isDue({ step, total: 100 }, 50)) continue;
      due.push(step);
      pace.plan({ step, total: 100 }, 50, { evaluationsLeft: 0, checkpointsLeft: 0 });
    }
    expect(due).toEqual([25, 50, 75]);
    expect(pace.plan({ step: 7, total: 100 }, 500, { evaluationsLeft: 0, checkpointsLeft: 0 })).toBe(8);
  });

  it.each([
    [{}, 'train: steps must be given, or minutes, and not both; got neither.'],
    [{ steps: 1, minutes: 1 }, 'got both'],
    [{ steps: 0 }, 'steps must be a whole number from 1; got 0'],
    [{ minutes: -1 }, 'minutes must be a finite number above 0'],
    [{ steps: 1, rows: 1.5 }, 'rows must be a whole number'],
    [{ steps: 1, clip: 0 }, 'clip must be above 0, or null'],
    [{ steps: 1, schedule: { peak: -1 } }, 'schedule: peak'],
  ] as [Partial<TrainOptions>, string][])('refuses %j', async (options, message) => {
    await expect(collect(options)).rejects.toThrow(message);
  });

  it('refuses a model with fewer ids than the tokeniser', async () => {
    const small = new ToyModel({ vocabSize: 100, dim: 4 });
    await expect(collect({ steps: 1 }, small)).rejects.toThrow("model.config.vocabSize must be at least the tokeniser's 256; got 100");
    small.dispose();
  });
});
