import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { readSafetensors, setupBackend } from '@seqloom/core';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { run } from '../program.ts';

const golden = (name: string): string => fileURLToPath(new URL(`../../../models/golden/models/${name}`, import.meta.url));

let folder: string;
let out: string;
let err: string;

beforeAll(async () => {
  await setupBackend('cpu');
});

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seqloom-pretrained-'));
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += String(text)), true));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += String(text)), true));
});

afterEach(async () => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  await rm(folder, { recursive: true, force: true });
});

async function seqloom(...words: string[]): Promise<number | string> {
  [out, err, process.exitCode] = ['', '', undefined];
  await run(['node', 'seqloom', ...words, '--backend', 'cpu', '--json']);
  return process.exitCode ?? 0;
}

const parsed = <T>(): T => JSON.parse(out) as T;

/** Words w0 to w95, one id each, with a begin and an end. */
const tokenizer = {
  version: '1.0',
  truncation: null,
  padding: null,
  added_tokens: [{ id: 0, content: 'w0', single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }],
  normalizer: null,
  pre_tokenizer: { type: 'WhitespaceSplit' },
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: 'w0', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { w0: { id: 'w0', ids: [0], tokens: ['w0'] } },
  },
  decoder: null,
  model: { type: 'WordLevel', vocab: Object.fromEntries(Array.from({ length: 96 }, (_, id) => [`w${id}`, id])), unk_token: 'w95' },
};

describe('public checkpoints on the command line', () => {
  it.each(['llama', 'mamba2', 'jamba'])('continue a prompt as the original code does: %s', async (name) => {
    const { tensors } = readSafetensors(await readFile(join(golden(name), 'io.safetensors')));
    const prompt = [...(tensors['input_ids']!.data as Int32Array).subarray(0, 13)].join(',');
    const before = tf.memory().numTensors;
    expect(await seqloom('generate', '--model', golden(name), '--prompt-ids', prompt, '--tokens', '16', '--temperature', '0'), err).toBe(0);
    expect(parsed<{ ids: number[] }>().ids).toEqual([...(tensors['generated_ids']!.data as Int32Array).subarray(0, 16)]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('read and write text where there is a tokeniser, and say so where there is none', async () => {
    const model = join(folder, 'model');
    await cp(golden('llama'), model, { recursive: true });
    const prompt = ['generate', '--model', model, '--prompt', 'w5 w6', '--tokens', '3', '--temperature', '0'];
    expect(await seqloom(...prompt)).toBe(1);
    expect(err).toContain('prompt must be given as --prompt-ids; got a model without tokenizer.json');
    await writeFile(join(model, 'tokenizer.json'), JSON.stringify(tokenizer));
    expect(await seqloom(...prompt), err).toBe(0);
    const { ids, text } = parsed<{ ids: number[]; text: string }>();
    expect(text.trim().split(/\s+/)).toEqual(ids.map((id) => `w${id}`));
    // the begin is put in front of a text, so this is the same prompt
    expect(await seqloom('generate', '--model', model, '--prompt-ids', '0,5,6', '--tokens', '3', '--temperature', '0'), err).toBe(0);
    expect(parsed<{ ids: number[] }>().ids).toEqual(ids);
    // and generation ends where the checkpoint says
    await writeFile(join(model, 'generation_config.json'), JSON.stringify({ eos_token_id: [ids[0]] }));
    expect(await seqloom(...prompt), err).toBe(0);
    expect(parsed()).toMatchObject({ ids: [ids[0]], finishReason: 'end' });
  });

  it('are looked at without their weights', async () => {
    const model = join(folder, 'model');
    await cp(golden('qwen3_next'), model, { recursive: true });
    await rm(join(model, 'model.safetensors'));
    const before = tf.memory().numTensors;
    expect(await seqloom('inspect', '--model', model), err).toBe(0);
    expect(parsed<{ parameters: number; layers: unknown[] }>()).toMatchObject({ parameters: 56_656 });
    expect(parsed<{ layers: unknown[] }>().layers).toHaveLength(4);
    expect(tf.memory().numTensors).toBe(before);
    expect(await seqloom('generate', '--model', model, '--prompt-ids', '1')).toBe(1);
    expect(err).toContain('model.safetensors must be there');
  });

  it('become runs, and runs become what they were', async () => {
    const [model, made, back] = ['model', 'run', 'back'].map((name) => join(folder, name)) as [string, string, string];
    await cp(golden('llama'), model, { recursive: true });
    await writeFile(join(model, 'tokenizer.json'), JSON.stringify(tokenizer));
    expect(await seqloom('convert', model, made), err).toBe(0);
    expect(parsed()).toMatchObject({ kind: 'run', modelType: 'llama', parameters: 24_736 });
    expect((await readdir(folder)).toSorted()).toEqual(['model', 'run']);
    expect(await seqloom('inspect', '--checkpoint', made), err).toBe(0);
    expect(await seqloom('convert', made, back), err).toBe(0);
    expect(parsed()).toMatchObject({ kind: 'hub', modelType: 'llama' });
    expect((await readdir(back)).toSorted()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    const weights = async (at: string): Promise<unknown> => readSafetensors(await readFile(join(at, 'model.safetensors'))).tensors;
    expect(await weights(back)).toEqual(await weights(model));

    expect(await seqloom('convert', model, back)).toBe(1);
    expect(err).toContain('must be a new or empty folder');
    // from one public form into another
    expect(
      await seqloom('convert', back, join(folder, 'narrow'), '--to', 'hub', '--dtype', 'BF16', '--max-shard-bytes', '20000'),
      err,
    ).toBe(0);
    expect((await readdir(join(folder, 'narrow'))).length).toBeGreaterThan(3);
    expect(await seqloom('inspect', '--model', join(folder, 'narrow')), err).toBe(0);
  });

  it('take a run of ours in our own form, or in that of another', async () => {
    const [made, own, like] = ['run', 'own', 'like'].map((name) => join(folder, name)) as [string, string, string];
    await seqloom('convert', golden('llama'), made);
    await rm(join(made, 'hub'), { recursive: true });
    expect(await seqloom('convert', made, own), err).toBe(0);
    expect(JSON.parse(await readFile(join(own, 'config.json'), 'utf8'))).toMatchObject({ model_type: 'seqloom' });
    expect(await seqloom('convert', made, like, '--like', golden('llama')), err).toBe(0);
    expect(JSON.parse(await readFile(join(like, 'config.json'), 'utf8'))).toMatchObject({ model_type: 'llama' });
    expect(await seqloom('convert', made, join(folder, 'wrong'), '--like', golden('mamba'))).toBe(1);
    expect(err).toContain('must be a description of this model');
    expect((await readdir(folder)).toSorted()).toEqual(['like', 'own', 'run']);
  });

  it.each([
    [['generate', '--model', 'no/such/folder'], /folder must be an existing folder/],
    [['generate', '--model', 'org/model', '--offline'], /must be in the cache, since offline is true/],
    [['generate', '--model', 'org/model', '--hub', 'http://127.0.0.1:1'], /must be reachable at http:\/\/127\.0\.0\.1:1/],
    [['generate', '--model', golden('llama'), '--preset', 'quickstart'], /named once/],
    [['convert', golden('llama'), 'x', '--dtype', 'F8'], /--dtype must be F32, BF16 or F16/],
    [['convert', golden('llama'), 'x', '--to', 'gguf'], /--to must be hub or run/],
    [['convert', golden('llama'), 'x', '--like', golden('llama')], /--like must be left out/],
  ])('refuse %s', async (words, message) => {
    const cached = words[0] === 'generate' && !words.includes('--preset') ? ['--cache', folder] : [];
    expect(await seqloom(...words, ...cached)).toBe(1);
    expect(err).toMatch(message);
    expect(await readdir(folder)).toEqual([]);
  });
});
