import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { SeqLoomError, setupBackend } from '@seqloom/core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { defaultComponents } from '../components.ts';
import { CHUNK, FIRST, isLarge, SECOND, startHub, stopHub } from '../for-tests/local-hub.ts';
import type { Hub } from '../for-tests/local-hub.ts';
import { fromPretrained } from './from-pretrained.ts';
import type { FromPretrainedOptions, PretrainedFolder } from './from-pretrained.ts';
import { hubRepository } from './hub.ts';
import { loadPretrained } from './load-pretrained.ts';
import { savePretrained } from './save-pretrained.ts';

const golden = fileURLToPath(new URL('../../golden/models/llama', import.meta.url));
describe('a hub', () => {
  let hub: Hub;
  let cache: string;
  let weights: Buffer;
  let files: Map<string, Buffer>;
  let tensors: number;

  beforeAll(async () => {
    await setupBackend('cpu');
    weights = await readFile(join(golden, 'model.safetensors'));
  });
  beforeEach(async () => {
    hub = await startHub();
    cache = await mkdtemp(join(tmpdir(), 'seqloom-hub-'));
    files = new Map([
      ['config.json', await readFile(join(golden, 'config.json'))],
      ['generation_config.json', Buffer.from('{"eos_token_id": 2}')],
      ['tokenizer.json', Buffer.from('{"model": {}}')],
      ['README.md', Buffer.from('# model')],
      ['model.safetensors', weights],
    ]);
    hub.commits.set(FIRST, files);
    tensors = tf.memory().numTensors;
  });
  afterEach(async () => {
    expect(tf.memory().numTensors).toBe(tensors);
    await rm(cache, { recursive: true, force: true });
    await stopHub(hub);
  });
  afterAll(() => expect(weights.length).toBeGreaterThan(0));

  const load = (options: FromPretrainedOptions = {}, id = 'org/model'): Promise<PretrainedFolder> =>
    fromPretrained(id, { hubUrl: hub.url, cache, ...options });
  const use = async <T>(loaded: PretrainedFolder, look: (loaded: PretrainedFolder) => T | Promise<T>): Promise<T> => {
    try {
      return await look(loaded);
    } finally {
      loaded.model.dispose();
    }
  };
  const blobs = async (): Promise<string[]> => readdir(join(cache, 'models--org--model', 'blobs')).catch(() => []);

  it('gives a model, its config, its tokeniser, and the second time no bytes at all', async () => {
    const seen: { phase: string; done: number; total: number }[] = [];
    await use(await load({ onProgress: (progress) => seen.push(progress) }), async (loaded) => {
      expect(loaded).toMatchObject({ adapter: 'llama', commit: FIRST, generationConfig: { eos_token_id: 2 } });
      expect(loaded.report.missing).toEqual([]);
      expect(await loaded.readFile('tokenizer.json')).toBe('{"model": {}}');
      expect(await loaded.readFile('merges.txt')).toBeNull();
      await expect(loaded.readFile('../refs/main')).rejects.toThrow(/plain file name/);
      expect((await readdir(loaded.folder)).toSorted()).toEqual([
        'config.json',
        'generation_config.json',
        'model.safetensors',
        'tokenizer.json',
      ]);
    });
    const bytes = [...files].reduce((sum, [file, { length }]) => sum + (file === 'README.md' ? 0 : length), 0);
    const downloads = seen.filter(({ phase }) => phase === 'download');
    expect(downloads.at(-1)).toMatchObject({ done: bytes, total: bytes });
    expect(downloads.every(({ done }, at) => at === 0 || done >= downloads[at - 1]!.done)).toBe(true);
    expect(seen.at(-1)).toMatchObject({ phase: 'load' });
    expect(seen.at(-1)!.done).toBe(seen.at(-1)!.total);

    const served = hub.served;
    await use(await load(), () => undefined);
    expect(hub.served).toBe(served);
    // and a commit that is there needs no question either
    const asked = hub.requests.length;
    await use(await load({ revision: FIRST }), () => undefined);
    expect(hub.requests.length).toBe(asked);
  });

  it('resumes after a broken connection, and asks for the rest alone', async () => {
    hub.breakAfter = 30_000;
    await expect(load()).rejects.toThrow(/org\/model" model\.safetensors must be reachable at .* goes on where it stopped/);
    const [partial] = (await blobs()).filter((name) => name.endsWith('.incomplete'));
    const kept = (await stat(join(cache, 'models--org--model', 'blobs', partial!))).size;
    expect(kept).toBe(30_000);
    const before = hub.served;
    await use(await load(), ({ report }) => expect(report.missing).toEqual([]));
    // one more byte, by which the library learns the size
    expect(hub.served - before).toBe(weights.length - kept + 1);
    expect(hub.requests.some((request) => request.startsWith(`bytes=${kept}-${weights.length - 1} `))).toBe(true);
    expect((await blobs()).filter((name) => name.includes('incomplete'))).toEqual([]);
  });

  it('fetches chunked files too, resumes them, and reads them by ranges', async () => {
    hub.chunked = true;
    const controller = new AbortController();
    hub.stall = { skip: 3, after: 10_000, call: () => controller.abort(new Error('enough')) };
    await expect(load({ signal: controller.signal })).rejects.toThrow('enough');
    const [partial] = (await blobs()).filter((name) => name.endsWith('.incomplete'));
    const kept = (await stat(join(cache, 'models--org--model', 'blobs', partial!))).size;
    // whole chunks of what was sent
    expect(kept).toBe(3 * CHUNK);
    const before = hub.served;
    await use(await load(), ({ report }) => expect(report.missing).toEqual([]));
    expect(hub.served - before).toBeLessThan(weights.length - kept + 1000);
    const { model } = await loadPretrained(await hubRepository('org/model', { hubUrl: hub.url }), defaultComponents);
    model.dispose();
    hub.damaged = Buffer.from(weights).fill(7, weights.length - 4);
    await rm(cache, { recursive: true });
    await expect(load()).rejects.toThrow(/with the hash/);
  });

  it('may be asked for one model twice at a time', { repeats: 9 }, async () => {
    const both = await Promise.all([load(), load(), load()]);
    for (const loaded of both) await use(loaded, ({ report }) => expect(report.missing).toEqual([]));
    expect((await blobs()).filter((name) => name.includes('incomplete'))).toEqual([]);
  });

  it('leaves nothing that counts as whole when it is aborted, and passes the reason on', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    hub.stall = { after: 20_000, call: () => controller.abort(reason) };
    await expect(load({ signal: controller.signal })).rejects.toBe(reason);
    expect((await readdir(join(cache, 'models--org--model', 'snapshots', FIRST))).includes('model.safetensors')).toBe(false);
    await expect(load({ offline: true })).rejects.toThrow(/must be in the cache, since offline is true/);
    await expect(load({ offline: true, revision: FIRST })).rejects.toThrow(/a cache that lacks model\.safetensors of it/);
    await use(await load(), ({ report }) => expect(report.missing).toEqual([]));
    const before = new AbortController();
    before.abort(reason);
    await expect(load({ signal: before.signal })).rejects.toBe(reason);
  });

  it('refuses a file whose hash is wrong, removes it, and fetches it anew', async () => {
    hub.damaged = Buffer.from(weights).fill(7, weights.length - 4);
    await expect(load()).rejects.toThrow(/model\.safetensors must be \d+ bytes with the hash .*The download was damaged and is removed/);
    expect((await blobs()).filter((name) => name.includes('incomplete'))).toEqual([]);
    hub.damaged = null;
    await use(await load(), ({ report }) => expect(report.missing).toEqual([]));
    // a small file is checked too, by git's hash; so is the joint of a resumed one
    hub.commits.set(SECOND, new Map([...files, ['model.safetensors', Buffer.from(weights).fill(0, 4000, 4100)]]));
    hub.breakAfter = 20_000;
    await expect(load({ revision: SECOND })).rejects.toThrow(/reachable/);
    const [partial] = (await blobs()).filter((name) => name.endsWith('.incomplete'));
    await writeFile(join(cache, 'models--org--model', 'blobs', partial!), Buffer.alloc(20_000, 3));
    await expect(load({ revision: SECOND })).rejects.toThrow(/with the hash/);
  });

  it('is offline when told so, and says what is missing', async () => {
    await expect(load({ offline: true })).rejects.toThrow(/"org\/model" at revision "main" must be in the cache.*nothing of it/);
    expect(hub.requests).toEqual([]);
    await use(await load(), () => undefined);
    const asked = hub.requests.length;
    await use(await load({ offline: true }), ({ commit, report }) => {
      expect(commit).toBe(FIRST);
      expect(report.missing).toEqual([]);
    });
    expect(hub.requests.length).toBe(asked);
    await expect(load({ offline: true, revision: '../../main' })).rejects.toThrow(/in the cache/);
    await expect(load({ hubUrl: 'http://127.0.0.1:1' })).rejects.toThrow(/must be reachable at http:\/\/127\.0\.0\.1:1/);
  });

  it('pins a revision: a branch that moved on does not change what was asked for', async () => {
    const other = JSON.parse(files.get('config.json')!.toString('utf8')) as Record<string, unknown>;
    hub.commits.set(SECOND, new Map([...files, ['config.json', Buffer.from(JSON.stringify({ ...other, rms_norm_eps: 1e-3 }))]]));
    hub.branches.set('refs/pr/1', SECOND);
    await use(await load({ revision: 'refs/pr/1' }), ({ commit, config }) => {
      expect(commit).toBe(SECOND);
      expect(config['rms_norm_eps']).toBe(1e-3);
    });
    await use(await load({ revision: FIRST }), ({ config }) => expect(config['rms_norm_eps']).toBe(1e-5));
    await use(await load({ offline: true, revision: 'refs/pr/1' }), ({ commit }) => expect(commit).toBe(SECOND));
    // the weights of both commits are one file
    expect((await blobs()).length).toBe(5);
    hub.branches.set('main', SECOND);
    await use(await load(), ({ commit }) => expect(commit).toBe(SECOND));
    await expect(load({ revision: 'nowhere' })).rejects.toThrow(/revision must be a branch, tag or commit of "org\/model"; got "nowhere"/);
  });

  it.each([
    ['an unknown model', 'org/nothing', {}, /"org\/nothing" must be a model on .*404/],
    [
      'a model of nobody',
      'nobody/nothing',
      {},
      /must be a model that this account may read; got status 401.*a private model needs an accessToken/,
    ],
    ['a private model without a token', 'org/private', {}, /status 401 \(unauthorised\)/],
    ['a private model with a wrong token', 'org/private', { accessToken: 'hf_wrong' }, /that the token may read it/],
    [
      'a token that is none',
      'org/model',
      { accessToken: 'secret' },
      /accessToken must be a token of the hub, which starts with hf_; got 6 characters/,
    ],
    ['a gated model', 'org/gated', {}, /must be open to this account; got status 403 GatedRepo\. Accept its terms/],
    ['an id with too many parts', 'a/b/c', {}, /folder must be an existing folder; got "a\/b\/c"/],
    ['an id that climbs', '..', {}, /must be/],
    ['a name with blanks', 'my model', {}, /must be a model id such as owner\/name/],
  ])('refuses %s with one clear error', async (_case, id, options, message) => {
    const failed = load(options, id);
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toBeInstanceOf(SeqLoomError);
    expect(await readdir(cache)).toEqual([]);
  });

  it('opens a private model with its token, and shards', async () => {
    const folder = join(cache, 'sharded');
    await use(await fromPretrained(golden), ({ model, config }) => savePretrained(model, folder, { config, maxShardBytes: 30_000 }));
    const shards = await Promise.all((await readdir(folder)).map(async (file) => [file, await readFile(join(folder, file))] as const));
    expect(shards.length).toBeGreaterThan(4);
    hub.commits.set(FIRST, new Map(shards));
    await use(await load({ accessToken: 'hf_right' }, 'org/private'), ({ report }) => expect(report.parameters).toBe(24_736));
    const [, first] = [...hub.commits.get(FIRST)!.keys()].filter(isLarge);
    hub.commits.get(FIRST)!.delete(first!);
    hub.commits.set(SECOND, hub.commits.get(FIRST)!);
    hub.branches.set('main', SECOND);
    await expect(load()).rejects.toThrow(/must be there, since the index names it/);
  });

  it('is read by ranges alone where there is no disk, and never as a whole', async () => {
    const repository = await hubRepository('org/model', { hubUrl: hub.url });
    const { model, report, commit } = await loadPretrained(repository, defaultComponents);
    expect(report).toMatchObject({ missing: [], parameters: 24_736 });
    expect(commit).toBe(FIRST);
    expect(hub.requests.filter((request) => request.includes('safetensors')).every((request) => request.startsWith('bytes='))).toBe(true);
    model.dispose();
    expect(await repository.text('vocab.json')).toBeNull();
    hub.ignoresRanges = true;
    await expect(loadPretrained(repository, defaultComponents)).rejects.toThrow(/byte ranges are wanted/);
  });

  it('serves a folder as it serves a model', async () => {
    const folder = join(cache, 'folder');
    await cp(golden, folder, { recursive: true });
    await use(await fromPretrained(folder), ({ commit, report }) => {
      expect(commit).toBeNull();
      expect(report.unexpected).toEqual([]);
    });
    await rm(join(folder, 'model.safetensors'));
    await expect(fromPretrained(folder)).rejects.toThrow(/model\.safetensors must be there; got no such file/);
    await expect(fromPretrained('./no/such/folder')).rejects.toThrow(/folder must be an existing folder/);
    expect(hub.requests).toEqual([]);
  });
});
