import { fail, SeqLoomError } from '@seqloom/core';

/** What a failed request to a hub was for. */
export interface HubRequest {
  readonly id: string;
  readonly revision: string;
  readonly hubUrl: string;
  /** the error code that the hub sent last, such as `RepoNotFound` */
  readonly code: string | null;
  readonly withToken: boolean;
  /** the file at hand, if any */
  readonly file?: string;
}

/** Turns an error of the hub's library, or of the network, into one clear one; an abort passes as it is. */
export function hubFailure(error: unknown, request: HubRequest, signal: AbortSignal | undefined): never {
  signal?.throwIfAborted();
  if (error instanceof SeqLoomError) throw error;
  const { id, revision, hubUrl, code, withToken, file } = request;
  const status = (error as { statusCode?: unknown }).statusCode;
  const refuse = (argument: string, wanted: string, given: string, remedy: string): never =>
    fail({ mechanism: 'checkpoint', argument, wanted, given, remedy, cause: error });
  const name = file === undefined ? JSON.stringify(id) : `${JSON.stringify(id)} ${file}`;
  if (typeof status !== 'number') {
    const given = causes(error);
    return refuse(
      name,
      `reachable at ${hubUrl}`,
      given,
      'Check the connection and call again, which goes on where it stopped; offline: true uses the cache alone.',
    );
  }
  if (code === 'RevisionNotFound')
    return refuse(
      'revision',
      `a branch, tag or commit of ${JSON.stringify(id)}`,
      JSON.stringify(revision),
      'Name one that the repository has.',
    );
  if (code === 'GatedRepo' || status === 403) {
    const remedy = withToken
      ? 'Accept its terms on its page, with the account of the token.'
      : 'Accept its terms on its page and pass accessToken.';
    return refuse(name, 'open to this account', `status ${status}${code === null ? '' : ` ${code}`}`, remedy);
  }
  // a hub answers 401 for what does not exist as well, so as not to tell what is private
  if (status === 401) {
    const remedy = withToken ? 'Check the id, and that the token may read it.' : 'Check the id; a private model needs an accessToken.';
    return refuse(name, 'a model that this account may read', 'status 401 (unauthorised)', remedy);
  }
  if (status === 404) return refuse(name, `a model on ${hubUrl}`, 'status 404 (not found)', 'Check the id: owner/name, as on its page.');
  return refuse(name, `served by ${hubUrl}`, `status ${status}`, 'Try again later; what was downloaded is kept.');
}

function causes(error: unknown): string {
  const texts: string[] = [];
  for (let at = error; at instanceof Error && texts.length < 4; at = at.cause) texts.push(at.message || at.name);
  return texts.length > 0 ? texts.join(': ') : String(error);
}
