import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Tokenizer } from '@huggingface/tokenizers';
import { fail } from '@seqloom/core';
import type { Tokeniser } from './byte-tokeniser.ts';
import { canonicalJson, fingerprint } from './fingerprint.ts';

/** A tokeniser from a `tokenizer.json`. */
export interface FileTokeniser extends Tokeniser {
  /** the file it comes from */
  readonly path: string;
}

/**
 * Loads a `tokenizer.json` with `@huggingface/tokenizers`, an optional peer dependency.
 *
 * @param path the file, or its folder; a `tokenizer_config.json` beside it is read too
 * @throws SeqLoomError when the package or the file is missing, or the file is no tokeniser
 */
export async function loadTokeniser(path: string): Promise<FileTokeniser> {
  const file = path.endsWith('.json') ? path : join(path, 'tokenizer.json');
  const content = await readJson(file);
  if (content === null || !isRecord(content) || !isRecord(content['model'])) {
    const given = content === null ? 'no file there' : 'JSON without a model';
    fail({ mechanism: 'tokeniser', argument: file, wanted: 'a tokenizer.json', given, remedy: 'Give the path of a tokenizer.json.' });
  }
  const config = ((await readJson(join(dirname(file), 'tokenizer_config.json'))) ?? {}) as Record<string, unknown>;
  const { Tokenizer } = await importTokenizers();
  let inner: InstanceType<typeof Tokenizer>;
  try {
    inner = new Tokenizer(content, config);
  } catch (cause) {
    const given = cause instanceof Error ? cause.message : String(cause);
    return fail({
      mechanism: 'tokeniser',
      argument: file,
      wanted: 'a tokeniser that can be built',
      given,
      remedy: 'See the cause.',
      cause,
    });
  }
  const vocabulary = [...inner.get_vocab(true).values()];
  const endToken = config['eos_token'];
  const endText = typeof endToken === 'string' ? endToken : isRecord(endToken) ? String(endToken['content']) : null;
  return {
    path: file,
    fingerprint: await fingerprint(canonicalJson([content, config])),
    vocabSize: vocabulary.reduce((most, id) => Math.max(most, id + 1), 0),
    endId: endText === null ? undefined : inner.token_to_id(endText),
    encode: (text, options = {}) => Int32Array.from(inner.encode(text, { add_special_tokens: options.addSpecial ?? false }).ids),
    // the library refuses an empty list
    decode: (ids, options = {}) =>
      ids.length === 0
        ? ''
        : inner.decode(Array.from(ids), { skip_special_tokens: options.skipSpecial ?? true, clean_up_tokenization_spaces: false }),
  };
}

async function importTokenizers(): Promise<{ readonly Tokenizer: typeof Tokenizer }> {
  try {
    return await import('@huggingface/tokenizers');
  } catch (cause) {
    return fail({
      mechanism: 'tokeniser',
      argument: '@huggingface/tokenizers',
      wanted: 'installed',
      given: cause instanceof Error ? cause.message : String(cause),
      remedy: 'Run npm install @huggingface/tokenizers, or train on bytes.',
      cause,
    });
  }
}

async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw cause;
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    return fail({
      mechanism: 'tokeniser',
      argument: path,
      wanted: 'JSON',
      given: `${text.length} characters that are none`,
      remedy: 'Fetch the file again.',
      cause,
    });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
