import { createHash } from 'node:crypto';
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { SeqLoomError, setupBackend } from '@seqloom/core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { defaultComponents } from '../components.ts';
import { fromPretrained } from './from-pretrained.ts';
import type { FromPretrainedOptions, PretrainedFolder } from './from-pretrained.ts';
import { hubRepository } from './hub.ts';
import { loadPretrained } from './load-pretrained.ts';
import { savePretrained } from './save-pretrained.ts';

const golden = fileURLToPath(new URL('../../golden/models/llama', import.meta.url));
const FIRST = 'a'.repeat(40);
const SECOND = 'b'.repeat(40);

/** A hub on this machine: the two API calls and the file addresses, with what can go wrong there. */
interface Hub {
  readonly url: string;
  /** where it sends large files from */
  readonly contentUrl: string;
  /** branch to commit */
  readonly branches: Map<string, string>;
  /** commit to file name to content */
  readonly commits: Map<string, Map<string, Buffer>>;
  /** bytes of file bodies sent */
  served: number;
  readonly requests: string[];
  /** breaks the connection after this many bytes of weights, once */
  breakAfter: number | null;
  /** lets some answers pass, then calls back when this many bytes of weights were sent, and stalls */
  stall: { skip?: number; readonly after: number; readonly call: () => void } | null;
  /** sends these weights in place of the right ones */
  damaged: Uint8Array | null;
  /** hands large files out in chunks, as the hub does now: who asks is told where they lie */
  chunked: boolean;
  /** answers a range with the whole file */
  ignoresRanges: boolean;
  readonly servers: readonly Server[];
}

async function startHub(): Promise<Hub> {
  const listen = async (): Promise<Server> => {
    const server = createServer((request, response) => answer(hub, request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return server;
  };
  const servers = [await listen(), await listen()];
  const [url, contentUrl] = servers.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`) as [string, string];
  const hub: Hub = {
    url,
    contentUrl,
    branches: new Map([['main', FIRST]]),
    commits: new Map(),
    served: 0,
    requests: [],
    breakAfter: null,
    stall: null,
    damaged: null,
    chunked: false,
    ignoresRanges: false,
    servers,
  };
  return hub;
}

const isLarge = (file: string): boolean => file.endsWith('.safetensors');
const gitHash = (content: Uint8Array): string => createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
const sha256 = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex');

function answer(hub: Hub, request: IncomingMessage, response: ServerResponse): void {
  const { pathname } = new URL(request.url!, hub.url);
  hub.requests.push(`${request.headers.range ?? 'whole'} ${pathname}`);
  const refuse = (status: number, code?: string): void => {
    response.writeHead(status, { 'content-type': 'application/json', ...(code ? { 'x-error-code': code } : {}) });
    response.end(JSON.stringify({ error: `refused ${pathname}` }));
  };
  const match = /^\/(?:api\/models\/)?(\w+\/[\w-]+)\/(revision|tree|resolve)\/([^/]+)(?:\/(.+))?$/.exec(pathname);
  if (pathname.startsWith('/content/')) {
    // where a real hub sends large files from: another address, which must not see the token
    const [, , commit, file] = pathname.split('/');
    if (request.headers.authorization !== undefined || hub.url === `http://${request.headers.host}`) return refuse(400);
    return sendFile(hub, request, response, file!, hub.damaged ?? hub.commits.get(commit!)!.get(file!)!);
  }
  if (pathname.startsWith('/chunks/')) return answerChunks(hub, request, response, pathname);
  if (!match) return refuse(404, 'RepoNotFound');
  const [, id, kind, revision, file] = match as unknown as [string, string, string, string, string | undefined];
  const token = request.headers.authorization;
  if (id === 'org/private' && token !== 'Bearer hf_right') return refuse(401, 'RepoNotFound');
  if (id === 'org/gated') return refuse(403, 'GatedRepo');
  if (id !== 'org/model' && id !== 'org/private') return refuse(id.startsWith('org/') ? 404 : 401, 'RepoNotFound');
  const commit = hub.branches.get(decodeURIComponent(revision)) ?? revision;
  const files = hub.commits.get(commit);
  if (!files) return refuse(404, 'RevisionNotFound');
  if (kind === 'revision') {
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({ _id: 'x', id, sha: commit, private: false, gated: false, downloads: 0, likes: 0, lastModified: '2026-01-01' }),
    );
    return;
  }
  if (kind === 'tree') {
    const entries = [...files].map(([path, content]) => {
      const lfs = { oid: sha256(content), size: content.length, pointerSize: 134 };
      return { type: 'file', path, size: content.length, oid: gitHash(content), ...(isLarge(path) ? { lfs } : {}) };
    });
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(entries));
    return;
  }
  const content = files.get(file!);
  if (!content) return refuse(404, 'EntryNotFound');
  response.setHeader('x-repo-commit', commit);
  if (!isLarge(file!)) return sendFile(hub, request, response, file!, content);
  response.setHeader('x-linked-size', content.length);
  if (hub.chunked && request.headers.accept?.includes('xet-fileinfo')) {
    const at = `${hub.contentUrl}/chunks`;
    response.setHeader('x-linked-etag', `"${sha256(content)}"`);
    response.setHeader('x-xet-hash', commit);
    response.setHeader(
      'link',
      `<${hub.url}/chunks/token>; rel="xet-auth", <${at}/v1/reconstructions/${commit}>; rel="xet-reconstruction-info"`,
    );
    response.setHeader('content-type', 'application/vnd.xet-fileinfo+json');
    response.end('{}');
    return;
  }
  response.setHeader('x-linked-etag', `"${sha256(content)}"`);
  response.writeHead(302, { location: `${hub.contentUrl}/content/${commit}/${file}` });
  response.end();
}

const CHUNK = 16_384;

/** A file cut into chunks, each behind a header of 8 bytes: version, stored length, no compression, length. */
function packChunks(content: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < content.length; at += CHUNK) {
    const body = content.subarray(at, at + CHUNK);
    const header = Buffer.alloc(8);
    header.writeUIntLE(body.length, 1, 3);
    header.writeUIntLE(body.length, 5, 3);
    parts.push(header, body);
  }
  return Buffer.concat(parts);
}

/** The protocol of chunked storage: a token, where the chunks of a range lie, and the chunks. */
function answerChunks(hub: Hub, request: IncomingMessage, response: ServerResponse, pathname: string): void {
  const [, , kind, ...rest] = pathname.split('/');
  const json = (value: unknown): void => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(value));
  };
  if (kind === 'token') return json({ accessToken: 'chunks', exp: Date.now() / 1000 + 3600, casUrl: `${hub.contentUrl}/chunks` });
  // v2/reconstructions/<hash>, and stored/<hash>/<chunk>
  const hash = kind === 'stored' ? rest[0]! : rest[1]!;
  const content = hub.commits.get(hash)!.get('model.safetensors')!;
  if (kind === 'stored')
    return sendFile(hub, request, response, 'model.safetensors', packChunks(hub.damaged ? Buffer.from(hub.damaged) : content));
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range!)!;
  const [from, to] = [Number(range[1]), Math.min(Number(range[2]), content.length - 1)];
  const [first, end] = [Math.floor(from / CHUNK), Math.floor(to / CHUNK) + 1];
  const each = Array.from({ length: end - first }, (_, place) => {
    const [start, length] = [first + place, Math.min(CHUNK, content.length - (first + place) * CHUNK)];
    const chunks = { start, end: start + 1 };
    const bytes = { start: start * (CHUNK + 8), end: start * (CHUNK + 8) + length + 7 };
    return {
      hash: `x${start}`,
      length,
      chunks,
      entry: { url: `${hub.contentUrl}/chunks/stored/${hash}/${start}`, ranges: [{ chunks, bytes }] },
    };
  });
  json({
    offset_into_first_range: from - first * CHUNK,
    terms: each.map(({ hash, length, chunks }) => ({ hash, unpacked_length: length, range: chunks })),
    xorbs: Object.fromEntries(each.map(({ hash, entry }) => [hash, [entry]])),
  });
}

function sendFile(hub: Hub, request: IncomingMessage, response: ServerResponse, file: string, content: Uint8Array): void {
  const range = hub.ignoresRanges ? null : /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  const [from, to] = range ? [Number(range[1]), Math.min(Number(range[2]) + 1, content.length)] : [0, content.length];
  response.setHeader('etag', `"${gitHash(content)}"`);
  response.setHeader('content-length', to - from);
  if (range) response.setHeader('content-range', `bytes ${from}-${to - 1}/${content.length}`);
  response.writeHead(range ? 206 : 200);
  const body = content.subarray(from, to);
  const passes = body.length === 1 || (hub.stall?.skip ?? 0) > 0;
  if (isLarge(file) && body.length > 1 && hub.stall?.skip) hub.stall.skip--;
  const limit = isLarge(file) && !passes ? (hub.breakAfter ?? hub.stall?.after) : undefined;
  if (limit === undefined || limit >= body.length) {
    hub.served += body.length;
    response.end(body);
    return;
  }
  hub.served += limit;
  response.write(body.subarray(0, limit), () => {
    const { stall } = hub;
    hub.breakAfter = null;
    hub.stall = null;
    // the receiver has what was sent before the end comes
    setTimeout(() => (stall ? stall.call() : response.destroy()), 50);
  });
}

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
    for (const server of hub.servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
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

  it('may be asked for one model twice at a time', async () => {
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
