import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { run } from '../program.ts';

let folder: string;
let config: string;
let out: string;
let err: string;

beforeAll(() => setupBackend('wasm'));

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seqloom-eval-'));
  config = join(folder, 'config.json');
  const definitions = {
    shift: { type: 'gated-convolution', kernelSize: 3 },
    attention: { type: 'mha-mqa-gqa', heads: 2 },
  };
  await writeFile(
    config,
    JSON.stringify({
      vocabSize: 256,
      dim: 16,
      mixers: 'shift, attention',
      channels: 'none',
      definitions,
      initialDeviation: 0.5,
      logitScale: 0.25,
    }),
  );
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += String(text)), true));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += String(text)), true));
});

afterEach(async () => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  await rm(folder, { recursive: true, force: true });
});

async function seqloom(...words: string[]): Promise<number | string> {
  [out, err] = ['', ''];
  process.exitCode = undefined;
  await run(['node', 'seqloom', 'eval', ...words, '--backend', 'wasm']);
  return process.exitCode ?? 0;
}

interface Recall {
  readonly complete: boolean;
  readonly tasks: readonly {
    readonly task: string;
    readonly trained: { readonly steps: number; readonly loss: number } | null;
    readonly points: readonly { length: number; value: number; accuracy: number; chance: number; tokens: number; stateBytes: number }[];
  }[];
}

describe('seqloom eval recall', () => {
  it('trains a model for each task, scores every place of the grid, keeps the model, and gives the same figures from its checkpoint', async () => {
    const before = tf.memory().numTensors;
    const runs = join(folder, 'runs');
    const grid = ['--lengths', '16,32', '--pairs', '2,3', '--depths', '0,1', '--count', '20'];
    expect(await seqloom('recall', '--config', config, ...grid, '--steps', '3', '--batch', '4', '--out', runs, '--json'), err).toBe(0);
    const first = JSON.parse(out) as Recall;
    expect(first.complete).toBe(true);
    expect(first.tasks.map(({ task, points }) => [task, points.length])).toEqual([
      ['mqar', 4],
      ['needle', 4],
      ['selective-copy', 4],
      ['induction', 2],
      ['segment-recall', 4],
    ]);
    for (const { trained, points } of first.tasks) {
      expect(trained).toMatchObject({ steps: 3, loss: expect.any(Number) as number });
      for (const { accuracy, tokens, chance } of points) {
        expect(tokens).toBeGreaterThanOrEqual(20);
        expect(accuracy >= 0 && accuracy <= 1 && chance > 0 && chance < 0.1).toBe(true);
      }
      // attention keeps what it has read
      expect(points.find(({ length }) => length === 32)!.stateBytes).toBeGreaterThan(
        points.find(({ length }) => length === 16)!.stateBytes,
      );
    }
    const json = join(folder, 'new', 'recall.json');
    const picture = join(folder, 'recall.svg');
    const again = ['recall', '--checkpoint', join(runs, 'mqar'), '--tasks', 'mqar', ...grid, '--json', json, '--picture', picture];
    expect(await seqloom(...again), err).toBe(0);
    expect(out).toContain('a guess reaches 0.8 %');
    expect(out).toContain('pairs 3');
    const second = JSON.parse(await readFile(json, 'utf8')) as Recall;
    expect(second.tasks).toEqual([{ ...first.tasks[0], trained: null }]);
    const svg = await readFile(picture, 'utf8');
    for (const text of ['mqar', 'pairs 2', 'a guess', 'share of right answers']) expect(svg).toContain(text);
    expect(svg).not.toContain('NaN');
    // a run is not written over
    expect(await seqloom('recall', '--config', config, '--tasks', 'mqar', '--steps', '1', '--out', runs)).toBe(1);
    expect(err).toContain('holds a run');
    expect(tf.memory().numTensors).toBe(before);
  });

  it('learns to recall what attention can', async () => {
    const words = ['--tasks', 'mqar', '--lengths', '16', '--pairs', '2', '--steps', '250', '--learning-rate', '0.02', '--json'];
    await writeFile(config, (await readFile(config, 'utf8')).replace('256', '20'));
    expect(await seqloom('recall', '--config', config, ...words), err).toBe(0);
    const [{ points }] = (JSON.parse(out) as Recall).tasks as [Recall['tasks'][number]];
    expect(points[0]!.accuracy).toBeGreaterThan(0.8);
  });
});

describe('seqloom eval perplexity', () => {
  it('scores a file or a text, in windows or with one state, and draws the loss over context', async () => {
    const before = tf.memory().numTensors;
    const text = join(folder, 'text.txt');
    const content = 'It is not down in any map; true places never are. '.repeat(8);
    await writeFile(text, content);
    const picture = join(folder, 'loss.svg');
    expect(await seqloom('perplexity', '--config', config, '--text', text, '--json', '--picture', picture), err).toBe(0);
    const whole = JSON.parse(out) as Record<string, number> & { positions: { tokens: number }[] };
    expect(whole).toMatchObject({ tokens: 399, complete: true, tokeniser: 'bytes', window: null });
    expect(whole['perplexity']).toBeCloseTo(Math.exp(whole['loss']!), 6);
    expect(whole.positions.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(399);
    expect(await readFile(picture, 'utf8')).toContain('nats per token');
    expect(await seqloom('perplexity', '--config', config, '--literal', content, '--json')).toBe(0);
    expect((JSON.parse(out) as typeof whole)['loss']).toBe(whole['loss']);
    expect(await seqloom('perplexity', '--config', config, '--text', text, '--window', '64', '--stride', '16'), err).toBe(0);
    expect(out).toContain('at least 49 before it');
    expect(out).toContain('399 tokens');
    expect(await seqloom('perplexity', '--config', config, '--text', text, '--held-out', '--json')).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ tokens: 20, part: 'held-out' });
    expect(tf.memory().numTensors).toBe(before);
  });
});

it.each<[string, string[], RegExp]>([
  ['an unknown task', ['recall', '--tasks', 'mqra'], /one of mqar, needle/],
  ['a grid that does not fit', ['recall', '--tasks', 'segment-recall', '--lengths', '40'], /multiples of the segment's 16 tokens/],
  ['a length above the vocabulary', ['recall', '--tasks', 'mqar', '--lengths', '512'], /above the length 512/],
  ['no text', ['perplexity'], /one of --text and --literal; got neither/],
  ['a text and a file', ['perplexity', '--text', 'a', '--literal', 'b'], /got both/],
  ['a missing text', ['perplexity', '--text', 'nowhere.txt'], /nowhere\.txt/],
  ['a text of one token', ['perplexity', '--literal', 'a'], /at least two tokens/],
  ['a file that cannot be written', ['perplexity', '--literal', 'abc', '--json', '/dev/null/file.json'], /a file that can be written/],
])('refuses %s with one message, exit code 1, and nothing left behind', async (_name, words, message) => {
  const before = tf.memory().numTensors;
  expect(await seqloom(...words, '--config', config)).toBe(1);
  expect(err.trim().split('\n')).toHaveLength(1);
  expect(err).toMatch(message);
  expect(tf.memory().numTensors).toBe(before);
});
