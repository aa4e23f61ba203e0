import { Random, setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { ToyModel } from '../toy-model.ts';
import { accuracy } from './accuracy.ts';
import type { LogitModel } from './accuracy.ts';
import { RECALL_TASKS, recallSet, scoreRecall } from './suite.ts';
import type { RecallGrid, RecallScore, RecallTaskName, ScoreRecallOptions } from './suite.ts';
import { TaskData } from './task-data.ts';
import { IGNORED } from './task.ts';

const grid: RecallGrid = { vocabSize: 128, lengths: [32, 64], pairs: [2, 4], depths: [0, 0.5, 1], segmentLength: 16 };

describe('recall over a grid', () => {
  beforeAll(() => setupBackend('wasm'));

  it.each(RECALL_TASKS.map((name) => [name]))('%s has every length with every value, and chance is one in the answers drawn', (name) => {
    const { points } = recallSet(name, grid);
    const values = [...new Set(points.map(({ value }) => value))];
    expect(values).toEqual({ needle: [0, 0.5, 1], induction: [2] }[name as string] ?? [2, 4]);
    expect(points.map(({ length, value }) => [length, value])).toEqual(
      values.flatMap((value) => grid.lengths.map((length) => [length, value])),
    );
    const random = new Random(1);
    for (const { task, length, chance } of points) {
      expect(task.length).toBe(length);
      expect(task.vocabSize).toBeLessThanOrEqual(128);
      const answers = new Set<number>();
      for (let i = 0; i < 600; i++) for (const label of task.example(random).labels) if (label !== IGNORED) answers.add(label);
      expect(1 / chance).toBe(answers.size);
    }
  });

  it('scores in pieces what it scores at once, always on the same sequences, and frees everything', async () => {
    const before = tf.memory().numTensors;
    const toy = new ToyModel({ vocabSize: 128, dim: 8, seed: 1 });
    const model: LogitModel = {
      forward: (ids, options = {}) => {
        const { output, state } = toy.block.forward(toy.embedding.forward(ids), options);
        return { logits: tf.reshape(toy.head.forward(tf.reshape(output, [-1, 8])), [...ids.shape, 128]), state };
      },
    };
    const { points } = recallSet('induction', grid);
    const data = new TaskData(points, { heldOut: 100 });
    const whole = await accuracy(model, data.evaluation(20));
    expect(whole.tokens).toBe(200);
    for (const piece of [7, 64]) expect(await accuracy(model, data.evaluation(20), { piece })).toEqual(whole);
    const collect = async (options: ScoreRecallOptions): Promise<RecallScore[]> => {
      const scores: RecallScore[] = [];
      for await (const each of scoreRecall(model, points, options)) scores.push(each);
      return scores;
    };
    const scores = await collect({ count: 50 });
    expect(scores.map(({ tokens }) => tokens)).toEqual([50, 50]);
    expect(await collect({ count: 50, rows: 50, piece: 25 })).toEqual(scores);
    toy.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('refuses unknown tasks, empty lists and segments that do not divide the length', () => {
    expect(() => recallSet('mqra' as RecallTaskName, grid)).toThrow('one of mqar, needle, selective-copy, induction, segment-recall');
    expect(() => recallSet('mqar', { ...grid, pairs: [] })).toThrow('pairs');
    expect(() => recallSet('needle', { ...grid, lengths: [] })).toThrow('lengths');
    expect(() => recallSet('segment-recall', { ...grid, segmentLength: 24 })).toThrow("multiples of the segment's 24 tokens");
    expect(() => recallSet('mqar', { ...grid, lengths: [256] })).toThrow('above the length 256');
    expect(() => recallSet('selective-copy', { ...grid, lengths: [4] })).toThrow('noise');
  });
});
