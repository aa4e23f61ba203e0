import { Random, setupBackend, zeroState } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { accuracy } from './accuracy.ts';
import type { LogitModel } from './accuracy.ts';
import { carryFact } from './carry-fact.ts';
import { induction } from './induction.ts';
import { mqar } from './mqar.ts';
import { needle, needleIds } from './needle.ts';
import { selectiveCopying } from './selective-copying.ts';
import { TaskData } from './task-data.ts';
import { IGNORED } from './task.ts';
import type { SequenceTask } from './task.ts';

/** What a program that knows the rules answers at each token of a sequence. */
type Solver = (ids: readonly number[]) => number[];

/** A model that says what a program says. */
const scripted = (vocabSize: number, solve: Solver): LogitModel => ({
  forward: (ids) => ({
    logits: tf.tidy(() => {
      const rows = ids.arraySync() as number[][];
      return tf.cast(tf.oneHot(tf.tensor2d(rows.map(solve), [rows.length, rows[0]!.length], 'int32'), vocabSize), 'float32');
    }),
    state: zeroState(1, {}),
  }),
});

/** The id after the last place before `at` where `key` stands, as all associative tasks want it. */
const lookUp: Solver = (ids) =>
  ids.map((key, at) => {
    const place = ids.lastIndexOf(key, at - 1);
    return at > 0 && place >= 0 ? ids[place + 1]! : 0;
  });

const cases: { name: string; task: SequenceTask; solve: Solver; choices: number[] }[] = [
  {
    name: 'mqar',
    task: mqar({ vocabSize: 80, length: 64, pairs: 8, randomFiller: false }),
    solve: lookUp,
    choices: Array.from({ length: 40 }, (_, i) => 40 + i),
  },
  {
    name: 'needle',
    task: needle({ length: 64, facts: 4 }),
    solve: (ids) => ids.map((key) => ids[ids.findIndex((id, at) => id === 0 && ids[at + 1] === key) + 2]!),
    choices: Array.from({ length: 15 }, (_, i) => needleIds(64).firstValue + i),
  },
  {
    name: 'selective copying',
    task: selectiveCopying({ noise: 24, tokens: 4 }),
    solve: (ids) => {
      const tokens = ids.filter((id) => id > 0 && id < 15);
      return ids.map((_, at) => tokens[at - 28] ?? 0);
    },
    choices: Array.from({ length: 14 }, (_, i) => 1 + i),
  },
  {
    name: 'induction',
    task: induction({ length: 64 }),
    solve: (ids) => {
      const at = ids.findIndex((id, place) => id === ids.at(-2) && ids[place + 1] === ids.at(-1));
      return ids.map(() => ids[at + 2]!);
    },
    choices: Array.from({ length: 16 }, (_, i) => i),
  },
  {
    name: 'recall across segments',
    task: carryFact({ segmentLength: 16, segments: 6, keys: 3 }),
    solve: lookUp,
    choices: Array.from({ length: 13 }, (_, i) => 19 + i),
  },
];

describe.each(cases)('$name', ({ task, solve, choices }) => {
  beforeAll(() => setupBackend('cpu'));
  const held = (heldOut: number) => new TaskData([{ task }], { seed: 5, heldOut }).evaluation(32);

  it('is solved by a program that knows its rules', async () => {
    const before = tf.memory().numTensors;
    const { accuracy: share, tokens } = await accuracy(scripted(task.vocabSize, solve), held(100));
    expect(share).toBe(1);
    expect(tokens).toBeGreaterThanOrEqual(100);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('is right by chance for one that guesses', async () => {
    const random = new Random(9);
    const guess: Solver = (ids) => ids.map(() => choices[random.below(choices.length)]!);
    const { correct, tokens } = await accuracy(scripted(task.vocabSize, guess), held(1000));
    const mean = tokens / choices.length;
    // five standard deviations
    expect(Math.abs(correct - mean)).toBeLessThan(5 * Math.sqrt(mean));
  });

  it('gives the same examples for the same seed, with ids and labels in the vocabulary', () => {
    const draw = (seed: number) => Array.from({ length: 20 }, () => task.example(new Random(seed)));
    expect(draw(1)).toEqual(draw(1));
    expect(draw(2)).not.toEqual(draw(1));
    const random = new Random(3);
    for (let i = 0; i < 200; i++) {
      const { ids, labels } = task.example(random);
      expect(ids).toHaveLength(task.length);
      expect(ids.every((id) => id >= 0 && id < task.vocabSize)).toBe(true);
      expect(labels.every((label) => label === IGNORED || choices.includes(label))).toBe(true);
    }
  });
});
