import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { setupBackend } from '@seqloom/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { ByteTokeniser } from './data/byte-tokeniser.ts';
import { memoryStore } from './data/memory-store.ts';
import { WindowData } from './data/windows.ts';
import { ToyModel } from './toy-model.ts';
import { train } from './trainer.ts';
import type { TrainEvent } from './trainer.ts';

const text = 'the quick brown fox jumps over the lazy dog. '.repeat(60);
const makeData = async (seed = 1): Promise<WindowData> =>
  new WindowData(await memoryStore(text, { tokeniser: new ByteTokeniser() }), { length: 16, seed });

beforeAll(async () => {
  await setupBackend('wasm');
});

describe('train', () => {
  it('learns a text and leaves no tensor behind', async () => {
    const model = new ToyModel({ vocabSize: 256, dim: 16 });
    const data = await makeData();
    const before = tf.memory().numTensors;
    const counts: number[] = [];
    const events: TrainEvent[] = [];
    const run = train(model, { data, steps: 60, rows: 8, schedule: { peak: 1e-2, warmup: 5 } });
    let summary;
    for (;;) {
      const { done, value } = await run.next();
      if (done) {
        summary = value;
        break;
      }
      events.push(value);
      if (value.type === 'step') counts.push(tf.memory().numTensors);
    }
    const steps = events.filter((event) => event.type === 'step');
    expect(steps).toHaveLength(60);
    expect(steps[0]!.bitsPerByte).toBeCloseTo(8, 1);
    expect(summary.heldOutBitsPerByte).toBeLessThan(2);
    expect(summary).toMatchObject({ reason: 'done', step: 60, total: 60, tokens: 60 * 8 * 16, skipped: 0 });
    expect(new Set(counts.slice(1)).size).toBe(1);
    expect(tf.memory().numTensors).toBe(before);
    model.dispose();
  });
});
