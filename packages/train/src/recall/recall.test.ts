import { Random, setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { ToyModel } from '../toy-model.ts';
import { train } from '../trainer.ts';
import { accuracy } from './accuracy.ts';
import { mqar } from './mqar.ts';
import { maskPrefix, repeatContext } from './prefix-prompt.ts';
import { TaskData } from './task-data.ts';
import { IGNORED } from './task.ts';
import type { SequenceTask } from './task.ts';

const draw = (task: SequenceTask, count: number, seed = 1) => {
  const random = new Random(seed);
  return Array.from({ length: count }, () => task.example(random));
};
const asked = (labels: Int32Array): number[] => [...labels.keys()].filter((at) => labels[at] !== IGNORED);

describe('mqar', () => {
  it('writes the pairs, asks for each key once at an even place, and never shows the answer', () => {
    for (const [vocabSize, length, pairs, passes] of [
      [65, 64, 4, 1],
      [200, 128, 8, 2],
      [301, 300, 75, 1],
    ] as const) {
      for (const { ids, labels } of draw(mqar({ vocabSize, length, pairs, passes, randomFiller: false }), 50)) {
        const context = 2 * pairs * passes;
        const half = Math.floor(vocabSize / 2);
        const valueOf = new Map(Array.from({ length: pairs }, (_, i) => [ids[2 * i]!, ids[2 * i + 1]!]));
        expect(valueOf.size, 'keys differ').toBe(pairs);
        expect(new Set(valueOf.values()).size, 'values differ').toBe(pairs);
        for (const [key, value] of valueOf) {
          expect(key >= 1 && key < half).toBe(true);
          expect(value >= half && value < vocabSize).toBe(true);
        }
        for (let i = 0; i < context; i++) expect(ids[i], 'each pass says the same').toBe(ids[i % (2 * pairs)]);
        const places = asked(labels);
        expect(places.map((at) => ids[at]!).toSorted((a, b) => a - b)).toEqual([...valueOf.keys()].toSorted((a, b) => a - b));
        for (const at of places) {
          expect(at >= context && (at - context) % 2 === 0).toBe(true);
          expect(labels[at]).toBe(valueOf.get(ids[at]!));
        }
        const queried = new Set(places);
        for (let i = context; i < length; i++) if (!queried.has(i)) expect(ids[i], 'filler').toBe(0);
      }
    }
  });

  it('draws keys and values evenly over their halves', () => {
    const counts = new Map<number, number>();
    for (const { ids } of draw(mqar({ vocabSize: 41, length: 16, pairs: 4 }), 5000)) {
      for (let i = 0; i < 8; i++) counts.set(ids[i]!, (counts.get(ids[i]!) ?? 0) + 1);
    }
    // 20000 keys over 19 ids, 20000 values over 21; five standard deviations
    expect(counts.size).toBe(40);
    for (const [id, count] of counts) {
      const mean = 20_000 / (id < 20 ? 19 : 21);
      expect(Math.abs(count - mean)).toBeLessThan(5 * Math.sqrt(mean));
    }
  });

  it.each([0.01, 0.5, 1, 2])('spreads one query over the gaps as a power law with exponent %d', (power) => {
    const gaps = 15;
    const counts = Array.from({ length: gaps }, () => 0);
    const examples = draw(mqar({ vocabSize: 64, length: 32, pairs: 1, power }), 20_000);
    for (const { labels } of examples) counts[(asked(labels)[0]! - 2) / 2]!++;
    const rates = counts.map((_, gap) => (gap + 1) ** (power - 1));
    const total = rates.reduce((sum, rate) => sum + rate, 0);
    for (const [gap, count] of counts.entries()) {
      const mean = (20_000 * rates[gap]!) / total;
      expect(Math.abs(count - mean), `gap ${gap}`).toBeLessThan(5 * Math.sqrt(mean));
    }
  });

  it('draws gaps of several pairs one after the other without replacement', () => {
    // three gaps with rates 1, 1/2, 1/3 and two pairs: the second key's chance of gap j is the sum over i of r_i r_j / (1 - r_i)
    const task = mqar({ vocabSize: 64, length: 10, pairs: 2, power: 1e-9 });
    const counts = [0, 0, 0];
    for (const { ids, labels } of draw(task, 30_000)) counts[(asked(labels).find((at) => ids[at] === ids[2])! - 4) / 2]!++;
    const rates = [1, 1 / 2, 1 / 3].map((rate) => rate / (11 / 6));
    for (const [j, count] of counts.entries()) {
      const chance = rates.reduce((sum, rate, i) => sum + (i === j ? 0 : (rate * rates[j]!) / (1 - rate)), 0);
      expect(Math.abs(count / 30_000 - chance)).toBeLessThan(0.015);
    }
  });

  it('fills with random ids of the whole vocabulary by default', () => {
    const seen = new Set<number>();
    for (const { ids, labels } of draw(mqar({ vocabSize: 33, length: 32, pairs: 2 }), 200)) {
      for (let i = 4; i < 32; i++) if (labels[i] === IGNORED) seen.add(ids[i]!);
    }
    expect(seen.size).toBe(33);
  });

  it('asks for the last value of pairs that were written again', () => {
    for (const { ids, labels } of draw(mqar({ vocabSize: 64, length: 60, pairs: 6, updates: 4 }), 100)) {
      const first = new Map<number, number>();
      const last = new Map<number, number>();
      for (let i = 0; i < 20; i += 2) {
        if (!first.has(ids[i]!)) first.set(ids[i]!, ids[i + 1]!);
        last.set(ids[i]!, ids[i + 1]!);
      }
      expect(first.size).toBe(6);
      expect([...first].filter(([key, value]) => last.get(key) !== value)).toHaveLength(4);
      for (const at of asked(labels)) expect(labels[at]).toBe(last.get(ids[at]!));
      expect(asked(labels)).toHaveLength(6);
    }
  });

  it('refuses sizes that do not fit', () => {
    expect(() => mqar({ length: 15, pairs: 2 })).toThrow('even');
    expect(() => mqar({ vocabSize: 64, length: 64, pairs: 2 })).toThrow('above the length 64');
    expect(() => mqar({ length: 64, pairs: 17 })).toThrow('at least 68');
    expect(() => mqar({ length: 64, pairs: 8, passes: 4 })).toThrow('at least 80');
    expect(() => mqar({ length: 64, pairs: 2, updates: 3 })).toThrow('at most the 2 pairs');
    expect(() => mqar({ length: 64, pairs: 2, power: 0 })).toThrow('above 0');
  });
});

describe('task data', () => {
  const easy = mqar({ vocabSize: 32, length: 16, pairs: 2 });
  const long = mqar({ vocabSize: 64, length: 32, pairs: 4 });
  const make = (seed = 3): TaskData => new TaskData([{ task: easy, weight: 3 }, { task: long }], { seed, heldOut: 10 });

  it('gives the same batches for the same seed, others for another, and goes on from a saved position', async () => {
    const [one, two, other] = [make(), make(), make(4)];
    const first = await one.nextBatch(4);
    expect(await two.nextBatch(4)).toEqual(first);
    expect((await other.nextBatch(4)).ids).not.toEqual(first.ids);
    const saved = structuredClone(one.position);
    const next = await one.nextBatch(4);
    expect(next.ids).not.toEqual(first.ids);
    const resumed = make();
    resumed.seek(saved);
    expect(await resumed.nextBatch(4)).toEqual(next);
    expect(() => other.seek(saved)).toThrow('position.seed');
    expect(() => new TaskData([{ task: easy }], { seed: 3 }).seek(saved)).toThrow('position.text');
  });

  it('draws tasks by weight, one a batch, and counts the labels', async () => {
    const data = make();
    let short = 0;
    for (let i = 0; i < 1000; i++) {
      const batch = await data.nextBatch(2);
      if (batch.length === 16) short++;
      expect(batch.tokens).toBe(batch.length === 16 ? 4 : 8);
    }
    expect(Math.abs(short - 750)).toBeLessThan(70);
  });

  it('holds out the same examples at every evaluation, none of them trained on', async () => {
    const data = make();
    const collect = async (): Promise<string[]> => {
      const rows: string[] = [];
      for await (const { ids, length, rows: count } of data.evaluation(4))
        for (let row = 0; row < count; row++) rows.push(ids.subarray(row * length, (row + 1) * length).join());
      return rows;
    };
    const held = await collect();
    expect(held).toHaveLength(20);
    const trained = new Set<string>();
    for (let i = 0; i < 200; i++) {
      const { ids, length, rows } = await data.nextBatch(4);
      for (let row = 0; row < rows; row++) trained.add(ids.subarray(row * length, (row + 1) * length).join());
    }
    expect(held.filter((row) => trained.has(row))).toEqual([]);
    expect(await collect()).toEqual(held);
  });

  it('refuses empty mixtures and weights of nothing', () => {
    expect(() => new TaskData([])).toThrow('at least one');
    expect(() => new TaskData([{ task: easy, weight: 0 }])).toThrow('a weight of 0');
    expect(() => new TaskData([{ task: easy }], { heldOut: 0 })).toThrow('heldOut');
  });

  it('trains a model, the loss is per label, and accuracy counts what it got right', async () => {
    await setupBackend('wasm');
    const before = tf.memory().numTensors;
    // the label is a fixed function of the id, which the smallest model can learn
    const task: SequenceTask = {
      name: 'mirror',
      vocabSize: 12,
      length: 6,
      example: (random) => {
        const ids = Int32Array.from({ length: 6 }, () => random.below(12));
        return { ids, labels: ids.map((id, at) => (at % 2 === 0 ? 11 - id : IGNORED)) };
      },
    };
    const data = new TaskData([{ task }], { seed: 1, heldOut: 32 });
    const model = new ToyModel({ vocabSize: 12, dim: 16 });
    const wrapped = {
      forward: (ids: tf.Tensor) => {
        const { output, state } = model.block.forward(model.embedding.forward(ids));
        return { logits: tf.reshape(model.head.forward(tf.reshape(model.norm.forward(output), [-1, 16])), [...ids.shape, 12]), state };
      },
    };
    const guess = await accuracy(wrapped, data.evaluation(16));
    expect(guess.tokens).toBe(96);
    expect(guess.accuracy).toBeLessThan(0.5);
    const losses: number[] = [];
    for await (const event of train(model, { data, steps: 60, rows: 16, schedule: { shape: 'constant', peak: 0.02, warmup: 0 } }))
      if (event.type === 'step') losses.push(event.loss);
    expect(Math.abs(losses[0]! - Math.log(12))).toBeLessThan(0.5);
    expect((await accuracy(wrapped, data.evaluation(16))).accuracy).toBe(1);
    model.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
});

describe('prompts that are read twice', () => {
  it('repeat the context between hint and question', () => {
    expect([...repeatContext({ hint: [9], context: [1, 2], separator: [0], question: [7, 8] })]).toEqual([9, 1, 2, 0, 1, 2, 7, 8]);
    expect([...repeatContext({ context: Int32Array.of(1, 2), times: 3 })]).toEqual([1, 2, 1, 2, 1, 2]);
    expect([...repeatContext({ context: [4], times: 1 })]).toEqual([4]);
    expect(() => repeatContext({ context: [] })).toThrow('context');
    expect(() => repeatContext({ context: [1], times: 0 })).toThrow('times');
  });

  it('hide a share of the prefix, and ask for hidden ids there and for next ids after it', () => {
    const ids = Array.from({ length: 2000 }, (_, i) => i % 50);
    const { ids: shown, maskedLabels, nextLabels } = maskPrefix(ids, { prefixLength: 1500, maskId: 50 }, new Random(1));
    let hidden = 0;
    for (const [at, id] of ids.entries()) {
      const isHidden = shown[at] === 50;
      if (isHidden) hidden++;
      expect(shown[at]).toBe(isHidden ? 50 : id);
      expect(isHidden && at >= 1500).toBe(false);
      expect(maskedLabels[at]).toBe(isHidden ? id : IGNORED);
      expect(nextLabels[at]).toBe(at >= 1500 && at < 1999 ? ids[at + 1] : IGNORED);
    }
    // 1500 draws at 0.15, five standard deviations
    expect(Math.abs(hidden - 225)).toBeLessThan(70);
    expect(() => maskPrefix([1, 2, 3], { prefixLength: 2, maskId: 0 }, new Random(1))).toThrow('prefixLength');
    expect(() => maskPrefix([1, 2, 3], { prefixLength: 1, maskId: 0, rate: 2 }, new Random(1))).toThrow('rate');
  });
});
