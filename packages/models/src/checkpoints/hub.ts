import { blobSource, fail } from '@seqloom/core';
import type { ByteSource } from '@seqloom/core';
import { hubFailure } from './hub-errors.ts';
import type { Repository } from './repository.ts';

/** The address of the public hub. */
export const HUB_URL = 'https://huggingface.co';

/** Which model of which hub. */
export interface HubOptions {
  /** branch, tag or commit, default `main` */
  readonly revision?: string;
  /** default the public hub */
  readonly hubUrl?: string;
  /** for private and gated models; it is sent to the hub alone */
  readonly accessToken?: string;
  readonly signal?: AbortSignal;
}

/** A file of a repository, as the hub lists it. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of a large file */
  readonly sha256: string | null;
  /** SHA-1 of a small one, as git computes it */
  readonly gitHash: string | null;
}

/** A model of a hub at one commit. */
export interface HubModel {
  readonly id: string;
  readonly commit: string;
  readonly files: ReadonlyMap<string, HubFile>;
  /** A file's bytes, fetched as they are read and sliced; null when there is none of this name. */
  blob(file: string): Promise<Blob | null>;
}

/** Whether a text has the form of a model id, `owner/name` or `name`. */
export function isModelId(text: string): boolean {
  return /^[\w.-]+(\/[\w.-]+)?$/.test(text) && !/^\.+(\/|$)|\/\.+$/.test(text);
}

/**
 * Asks a hub for a model's commit and files; everything later is of this very commit.
 *
 * @throws SeqLoomError on an id that is none, an unknown model or revision, a refusal, or an unreachable hub
 */
export async function openHubModel(id: string, options: HubOptions = {}): Promise<HubModel> {
  const { revision = 'main', hubUrl = HUB_URL, accessToken, signal } = options;
  if (!isModelId(id)) {
    const remedy = 'Write it as on its page; a folder must exist.';
    fail({
      mechanism: 'checkpoint',
      argument: 'id',
      wanted: 'a model id such as owner/name, or a folder',
      given: JSON.stringify(id),
      remedy,
    });
  }
  if (accessToken !== undefined && !accessToken.startsWith('hf_')) {
    const given = `${accessToken.length} characters`; // never the token itself
    const remedy = 'Copy it from the settings of the account.';
    fail({ mechanism: 'checkpoint', argument: 'accessToken', wanted: 'a token of the hub, which starts with hf_', given, remedy });
  }
  const { downloadFile, listFiles, modelInfo } = await import('@huggingface/hub');
  let code: string | null = null;
  const request = async (input: Parameters<typeof fetch>[0], init: RequestInit = {}): Promise<Response> => {
    const response = await fetch(input, signal ? { ...init, signal } : init);
    code = response.headers.get('x-error-code');
    const ranged = new Headers(init.headers).has('range');
    // a whole file in place of a part would be taken for the part; JSON is the hub's word on where the parts lie
    if (ranged && response.status === 200 && !response.headers.get('content-type')?.includes('json')) {
      await response.body?.cancel();
      throw new TypeError(`byte ranges are wanted; ${new URL(response.url).host} sent the whole file`);
    }
    return response;
  };
  const shared = { hubUrl, fetch: request as typeof fetch, ...(accessToken === undefined ? {} : { accessToken }) };
  const guard = async <T>(work: Promise<T>, file?: string): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      const what = { id, revision, hubUrl, code, withToken: accessToken !== undefined, ...(file === undefined ? {} : { file }) };
      return hubFailure(error, what, signal);
    }
  };
  const { sha: commit } = await guard(modelInfo({ ...shared, name: id, revision, additionalFields: ['sha'] }));
  if (typeof commit !== 'string' || !/^[0-9a-f]{40}$/.test(commit)) {
    const remedy = 'Check hubUrl.';
    fail({
      mechanism: 'checkpoint',
      argument: hubUrl,
      wanted: 'a hub that names commits',
      given: JSON.stringify(commit) ?? 'none',
      remedy,
    });
  }
  const list = async (): Promise<Map<string, HubFile>> => {
    const files = new Map<string, HubFile>();
    for await (const { type, path, size, oid, lfs } of listFiles({ ...shared, repo: { type: 'model', name: id }, revision: commit })) {
      if (type === 'file')
        files.set(path, { path, size: lfs?.size ?? size, sha256: lfs?.oid ?? null, gitHash: lfs ? null : (oid ?? null) });
    }
    return files;
  };
  const files = await guard(list());
  return {
    id,
    commit,
    files,
    async blob(file) {
      if (!files.has(file)) return null;
      return guard(downloadFile({ ...shared, repo: { type: 'model', name: id }, path: file, revision: commit }), file);
    },
  };
}

/**
 * A hub's model as a repository without a cache: weights are read by byte ranges, straight from the network, as a browser needs it.
 *
 * What is read is of one commit; hashes are checked only by the Node version, which keeps files.
 *
 * @throws SeqLoomError as `openHubModel`
 */
export async function hubRepository(id: string, options: HubOptions = {}): Promise<Repository> {
  const model = await openHubModel(id, options);
  const reach = async <T>(file: string, work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      const { revision = 'main', hubUrl = HUB_URL, accessToken, signal } = options;
      return hubFailure(error, { id, revision, hubUrl, code: null, withToken: accessToken !== undefined, file }, signal);
    }
  };
  return {
    label: id,
    commit: model.commit,
    async text(file) {
      const blob = await model.blob(file);
      return blob && reach(file, blob.text());
    },
    async open(file): Promise<ByteSource | null> {
      const blob = await model.blob(file);
      if (!blob) return null;
      const source = blobSource(blob, `${id} ${file}`);
      return {
        ...source,
        read: (offset, length) => (length === 0 ? Promise.resolve(new Uint8Array(0)) : reach(file, source.read(offset, length))),
      };
    },
  };
}
