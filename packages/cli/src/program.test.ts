import { existsSync, statSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { run } from './program.ts';

let folder: string;
let out: string;
let err: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seqloom-cli-'));
  out = '';
  err = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += String(text)), true));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += String(text)), true));
});

afterEach(async () => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  await rm(folder, { recursive: true, force: true });
});

async function seqloom(...words: string[]): Promise<{ code: number | string }> {
  out = '';
  err = '';
  process.exitCode = undefined;
  await run(['node', 'seqloom', ...words]);
  return { code: process.exitCode ?? 0 };
}

const tiny = {
  vocabSize: 256,
  dim: 16,
  mixers: 'conv,linear,window',
  definitions: {
    conv: { type: 'gated-convolution' },
    linear: { type: 'based-taylor', heads: 2, featureDim: 4 },
    window: { type: 'sliding-window-attention', heads: 2, window: 8 },
    mlp: { type: 'mlp', hidden: 16 },
  },
};

async function files(): Promise<{ config: string; text: string; out: string }> {
  const config = join(folder, 'config.json');
  const text = join(folder, 'text.txt');
  await writeFile(config, JSON.stringify(tiny));
  await writeFile(text, 'It is not down in any map; true places never are. '.repeat(60));
  return { config, text, out: join(folder, 'run') };
}

describe('seqloom inspect', () => {
  it('shows layers, parameters, state bytes and FLOPs over context length', async () => {
    const { config } = await files();
    expect((await seqloom('inspect', '--config', config, '--backend', 'cpu', '--json')).code).toBe(0);
    const report = JSON.parse(out) as {
      parameters: number;
      layers: { parameters: number }[];
      byLength: { length: number; stateBytes: number; flopsPerToken: number }[];
    };
    const inLayers = report.layers.reduce((sum, { parameters }) => sum + parameters, 0);
    expect(report.parameters).toBe(inLayers + 256 * 16 + 16);
    // convolution, linear attention and a window: nothing grows
    expect(new Set(report.byLength.map(({ stateBytes }) => stateBytes)).size).toBe(1);
    expect(report.byLength.every(({ flopsPerToken }) => flopsPerToken > 2 * inLayers * 0.9)).toBe(true);
    await seqloom('inspect', '--config', config, '--backend', 'cpu', '--tensors');
    expect(out).toContain('conv (gated-convolution)');
    expect(out).toContain('embedding.weight');
  });

  it('looks at a published model that no memory here could hold', async () => {
    const flags = ['--preset', 'minimax-text-01-m1/456b-a46b', '--backend', 'cpu', '--json'];
    expect((await seqloom('inspect', ...flags)).code, err).toBe(0);
    const report = JSON.parse(out) as {
      parameters: number;
      layers: { mixer: string }[];
      byLength: { length: number; stateBytes: number }[];
    };
    expect(report.parameters).toBe(456_089_655_296);
    expect(report.layers[7]!.mixer).toBe('attention (mha-mqa-gqa)');
    // 10 layers keep 8 keys and values of 128 channels per token
    const [short, long] = report.byLength.slice(-2);
    expect((long!.stateBytes - short!.stateBytes) / (long!.length - short!.length)).toBe(10 * 2 * 8 * 128 * 4);
  });
});

describe('seqloom bench decode', () => {
  it('times one token over contexts and says what the state holds', async () => {
    const { config } = await files();
    const flags = ['--config', config, '--backend', 'wasm', '--composed', '--contexts', '5,40', '--tokens', '2'];
    expect((await seqloom('bench', 'decode', ...flags, '--json')).code, err).toBe(0);
    const { rows } = JSON.parse(out) as { rows: { context: number; tokensPerSecond: number; stateBytes: number }[] };
    expect(rows.map(({ context }) => context)).toEqual([5, 40]);
    expect(rows[1]!.stateBytes).toBe(rows[0]!.stateBytes);
    expect(rows.every(({ tokensPerSecond }) => tokensPerSecond > 0)).toBe(true);
    expect((await seqloom('bench', 'decode', ...flags)).code, err).toBe(0);
    expect(out).toMatch(/context +ms per token +tokens\/s +state/);
  });
});

describe('seqloom doctor', () => {
  it('lists every backend, and for an absent one what would bring it', async () => {
    await seqloom('doctor', '--json');
    const report = JSON.parse(out) as { auto: string; backends: { backend: string; available: boolean; remedy: string }[] };
    expect(report.backends.map(({ backend }) => backend)).toEqual(['tensorflow', 'webgpu', 'wasm', 'cpu']);
    expect(report.backends.find(({ backend }) => backend === 'wasm')).toMatchObject({ available: true, remedy: '' });
    for (const { available, remedy } of report.backends) expect(remedy === '').toBe(available);
    await seqloom('doctor');
    expect(out).toMatch(/setupBackend\('auto'\) chooses \w+/);
  });
});

describe('seqloom train and generate', () => {
  it('trains, refuses to overwrite, and generates the same text from a seed', async () => {
    const { config, text, out: runFolder } = await files();
    const common = [
      'train',
      '--config',
      config,
      '--text',
      text,
      '--batch',
      '2',
      '--length',
      '32',
      '--backend',
      'wasm',
      '--composed',
      '--json',
    ];
    expect((await seqloom(...common, '--out', runFolder, '--steps', '6')).code, err).toBe(0);
    const done = JSON.parse(out) as { step: number; heldOutBitsPerByte: number };
    expect(done.step).toBe(6);
    expect(done.heldOutBitsPerByte).toBeLessThan(8.5);
    const metrics = (await readFile(join(runFolder, 'metrics.jsonl'), 'utf8')).trim().split('\n');
    expect(metrics.map((line) => (JSON.parse(line) as { step: number }).step)).toEqual([1, 2, 3, 4, 5, 6]);

    expect((await seqloom(...common, '--out', runFolder, '--steps', '6')).code).toBe(1);
    expect((JSON.parse(err) as { error: { message: string } }).error.message).toContain('which holds a run. Continue it with --resume');

    const before = tf.memory().numTensors;
    const write = [
      'generate',
      '--checkpoint',
      runFolder,
      '--prompt',
      'It is',
      '--tokens',
      '12',
      '--seed',
      '5',
      '--backend',
      'wasm',
      '--composed',
      '--json',
    ];
    expect((await seqloom(...write)).code, err).toBe(0);
    const first = JSON.parse(out) as { ids: number[]; step: number; finishReason: string };
    expect(first).toMatchObject({ step: 6, finishReason: 'length' });
    await seqloom(...write);
    expect((JSON.parse(out) as { ids: number[] }).ids).toEqual(first.ids);
    expect(tf.memory().numTensors).toBe(before);
    await seqloom(...write.filter((word) => word !== '--json'));
    expect(out.length).toBeGreaterThan(5);
  });

  it('saves at Ctrl-C and resumes to the very weights of an unbroken run', async () => {
    const { config, text, out: runFolder } = await files();
    const common = [
      'train',
      '--config',
      config,
      '--text',
      text,
      '--batch',
      '2',
      '--length',
      '32',
      '--steps',
      '60',
      '--backend',
      'wasm',
      '--composed',
      '--json',
    ];
    const weights = async (path: string): Promise<Buffer> => {
      const checkpoints = join(path, 'checkpoints');
      const { checkpoint } = JSON.parse(await readFile(join(checkpoints, 'latest.json'), 'utf8')) as { checkpoint: string };
      return readFile(join(checkpoints, checkpoint, 'weights.safetensors'));
    };
    const broken = seqloom(...common, '--out', runFolder);
    const metrics = join(runFolder, 'metrics.jsonl');
    await vi.waitUntil(() => existsSync(metrics) && statSync(metrics).size > 200, { timeout: 30_000, interval: 1 });
    process.emit('SIGINT');
    expect((await broken).code, err).toBe(0);
    const stopped = JSON.parse(out) as { reason: string; step: number };
    expect(stopped.reason).toBe('aborted');
    expect(stopped.step).toBeLessThan(60);
    expect((await seqloom(...common, '--out', runFolder, '--resume')).code, err).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ reason: 'done', step: 60 });
    const whole = join(folder, 'whole');
    expect((await seqloom(...common, '--out', whole)).code, err).toBe(0);
    expect((await weights(runFolder)).equals(await weights(whole))).toBe(true);
  });

  it.each<[string, (file: Awaited<ReturnType<typeof files>>) => string[], RegExp]>([
    ['a missing text', ({ config, out }) => ['train', '--config', config, '--text', 'nowhere.txt', '--out', out], /nowhere\.txt/],
    ['a config that is not JSON', ({ text, out }) => ['train', '--config', text, '--text', text, '--out', out], /is not JSON/],
    [
      'an unknown preset',
      ({ text, out }) => ['train', '--preset', 'gpt9', '--text', text, '--out', out],
      /one of quickstart, transformer-pp\/340m, .*; got gpt9/,
    ],
    [
      'an unknown backend',
      ({ config }) => ['inspect', '--config', config, '--backend', 'cuda'],
      /one of auto, tensorflow, webgpu, wasm, cpu/,
    ],
    ['an unknown size', () => ['inspect', '--preset', 'rat/7b', '--backend', 'cpu'], /one of rat\/1\.3b, rat\/swa-1\.3b; got rat\/7b/],
    ['two models', ({ config }) => ['inspect', '--config', config, '--preset', 'quickstart'], /named once/],
    ['a folder that is no checkpoint', () => ['generate', '--checkpoint', folder], /checkpoint/],
    ['sampling out of range', ({ config }) => ['generate', '--config', config, '--top-p', '7'], /topP must be in \(0, 1\]/],
  ])('refuses %s with one message, exit code 1, and nothing left behind', async (_name, words, message) => {
    const file = await files();
    const before = tf.memory().numTensors;
    expect((await seqloom(...words(file))).code).toBe(1);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(err).toMatch(message);
    expect(existsSync(file.out)).toBe(false);
    expect(tf.memory().numTensors).toBe(before);
  });
});
