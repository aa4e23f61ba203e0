import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** The commit that `main` stands at, and another. */
export const FIRST = 'a'.repeat(40);
export const SECOND = 'b'.repeat(40);

/** A hub on this machine: the two API calls and the file addresses, with what can go wrong there. */
export interface Hub {
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

/** Opens a hub without models: put them into `commits`. */
export async function startHub(): Promise<Hub> {
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

/** Whether a hub keeps a file outside its repository. */
export const isLarge = (file: string): boolean => file.endsWith('.safetensors');
/** Closes a hub and whatever is open to it. */
export async function stopHub({ servers }: Hub): Promise<void> {
  for (const server of servers) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

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

/** Bytes of a file that one chunk holds. */
export const CHUNK = 16_384;

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
