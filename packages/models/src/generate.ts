import * as tf from '@tensorflow/tfjs-core';
import { disposeState, fail, selectRows } from '@seqloom/core';
import type { State } from '@seqloom/core';
import type { LanguageModelOptions } from './hybrid.ts';
import { checkSampling, sampleToken } from './sampling.ts';
import type { SamplingOptions } from './sampling.ts';
import { TextStream } from './text-stream.ts';
import type { TextCodec } from './text-stream.ts';

/** What generation needs of a model; `Hybrid` has it. */
export interface LanguageModel {
  readonly config: { readonly vocabSize: number };
  /** tokens that a sequence may have, where the model knows no more positions; null: any number */
  readonly maxLength?: number | null;
  next(ids: tf.Tensor, options?: LanguageModelOptions): { logits: tf.Tensor2D; state: State };
}

/** Options of `generate`. */
export interface GenerateOptions extends SamplingOptions {
  /** one prompt or several, as text (needs a codec) or as ids; lengths may differ */
  readonly prompt: string | readonly number[] | readonly (string | readonly number[])[];
  /** tokens to write per row, default 256 */
  readonly maxNewTokens?: number;
  /** ids that end a row; they are in the ids but not in the text */
  readonly endIds?: readonly number[];
  /** texts that end a row; the text is cut before them. Needs a codec */
  readonly stopStrings?: readonly string[];
  /** turns ids into text */
  readonly codec?: TextCodec;
  /** ends generation at the next token; what was written stays */
  readonly signal?: AbortSignal;
  /** tokens per prefill call, default 512 */
  readonly prefillChunk?: number;
  /** continue from this state instead of from the start; it stays the caller's */
  readonly state?: State;
  /** receives the state after the last token when generation ends (one row that was not stopped early); it is then the receiver's */
  readonly onState?: (state: State) => void;
}

/** One step of one row. */
export interface GenerateEvent {
  readonly row: number;
  /** the new token; null in the closing event of an aborted row */
  readonly id: number | null;
  /** text that became certain with it, empty without a codec */
  readonly text: string;
  /** present in the last event of a row */
  readonly finishReason?: 'end' | 'length' | 'stop' | 'abort';
}

interface Row {
  readonly index: number;
  readonly seen: number[];
  readonly stream: TextStream | null;
  written: number;
}

/**
 * Writes on from prompts, as a stream: prefill by chunks, then one token at a time with the state.
 *
 * A row's tokens do not depend on its neighbours: each draws from (seed, row, step), and shorter prompts are padded on the left.
 *
 * @returns an async iterator over events; leaving it early frees everything
 * @throws SeqLoomError on an empty prompt, an id outside the vocabulary, an option out of range, or more tokens than the model has positions
 *
 * @example
 * for await (const { text } of generate(model, { prompt: 'Call me', codec, maxNewTokens: 400 })) process.stdout.write(text);
 */
export async function* generate(model: LanguageModel, options: GenerateOptions): AsyncGenerator<GenerateEvent, void, undefined> {
  const { maxNewTokens = 256, endIds = [], stopStrings = [], codec, signal, prefillChunk = 512 } = options;
  checkSampling(options);
  const prompts = readPrompts(model, options);
  if (stopStrings.length > 0 && !codec) refuse('stopStrings', 'used with a codec', 'no codec', 'Pass the codec of the model.');
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 1)
    refuse('maxNewTokens', 'at least 1', String(maxNewTokens), 'Ask for one token or more.');
  if (options.onState && prompts.length > 1)
    refuse('onState', 'used with one prompt', `${prompts.length} prompts`, 'Generate each row by itself.');
  await checkLength(model, prompts, maxNewTokens, options.state);
  let rows: Row[] = prompts.map((ids, index) => ({
    index,
    seen: [...ids],
    stream: codec ? new TextStream(codec, stopStrings) : null,
    written: 0,
  }));
  let state: State | undefined;
  let logits: tf.Tensor2D | undefined;
  try {
    ({ state, logits } = await prefill(model, prompts, prefillChunk, options.state, signal));
    while (logits && state) {
      if (signal?.aborted) break;
      const scores = (await logits.data()) as Float32Array;
      const width = logits.shape[1];
      const going: number[] = [];
      const tokens: number[] = [];
      for (const [place, row] of rows.entries()) {
        const id = sampleToken(scores.subarray(place * width, (place + 1) * width), row.seen, options, row.index, row.written);
        row.seen.push(id);
        row.written++;
        const event = closeStep(row, id, endIds, maxNewTokens);
        if (event.finishReason === undefined) {
          going.push(place);
          tokens.push(id);
        }
        yield event;
      }
      if (going.length === 0) {
        if (options.onState) {
          options.onState(state);
          state = undefined;
        }
        return;
      }
      if (going.length < rows.length) {
        const fewer = selectRows(state, going);
        disposeState(state);
        state = fewer;
        rows = going.map((place) => rows[place]!);
      }
      const after = step(model, state, tokens);
      disposeState(state);
      logits.dispose();
      ({ state, logits } = after);
      await breathe();
    }
    for (const row of rows) yield { row: row.index, id: null, text: row.stream?.flush() ?? '', finishReason: 'abort' };
  } finally {
    logits?.dispose();
    if (state) disposeState(state);
  }
}

async function checkLength(
  { maxLength = null }: LanguageModel,
  prompts: readonly (readonly number[])[],
  maxNewTokens: number,
  state: State | undefined,
): Promise<void> {
  if (maxLength === null) return;
  const before = state ? Math.max(...(await state.position.data())) : 0;
  const read = before + Math.max(...prompts.map((ids) => ids.length));
  // the last token is written, not read
  const room = maxLength - read + 1;
  if (maxNewTokens > room)
    refuse(
      'maxNewTokens',
      `at most ${Math.max(room, 0)}: the model has ${maxLength} positions, ${read} are read`,
      String(maxNewTokens),
      'Shorten the prompt, or write less.',
    );
}

type Live = { logits: tf.Tensor2D; state: State };

function step(model: LanguageModel, state: State, tokens: readonly number[]): Live {
  const ids = tf.tensor2d([...tokens], [tokens.length, 1], 'int32');
  try {
    return model.next(ids, { state });
  } finally {
    ids.dispose();
  }
}

function closeStep(row: Row, id: number, endIds: readonly number[], maxNewTokens: number): GenerateEvent {
  const base = { row: row.index, id };
  if (endIds.includes(id)) return { ...base, text: row.stream?.flush() ?? '', finishReason: 'end' };
  const { text, stopped } = row.stream?.push(id) ?? { text: '', stopped: false };
  if (stopped) return { ...base, text, finishReason: 'stop' };
  if (row.written >= maxNewTokens) return { ...base, text: text + (row.stream?.flush() ?? ''), finishReason: 'length' };
  return { ...base, text };
}

/** Runs the prompts, padded on the left, chunk by chunk. */
async function prefill(
  model: LanguageModel,
  prompts: readonly (readonly number[])[],
  chunk: number,
  start: State | undefined,
  signal: AbortSignal | undefined,
): Promise<Partial<Live>> {
  const batch = prompts.length;
  const length = Math.max(...prompts.map((ids) => ids.length));
  const ragged = prompts.some((ids) => ids.length < length);
  let live: Live | undefined;
  for (let from = 0; from < length; from += chunk) {
    const size = Math.min(chunk, length - from);
    const ids = new Int32Array(batch * size);
    const mask = new Float32Array(batch * size);
    for (const [row, prompt] of prompts.entries()) {
      for (let t = 0; t < size; t++) {
        const at = from + t - (length - prompt.length);
        ids[row * size + t] = at >= 0 ? prompt[at]! : 0;
        mask[row * size + t] = at >= 0 ? 1 : 0;
      }
    }
    const tensors = [tf.tensor2d(ids, [batch, size], 'int32'), ...(ragged ? [tf.tensor2d(mask, [batch, size])] : [])];
    try {
      const state = live?.state ?? start;
      const result = model.next(tensors[0]!, { ...(state ? { state } : {}), ...(tensors[1] ? { mask: tensors[1] } : {}) });
      if (live) release(live);
      live = result;
    } catch (error) {
      if (live) release(live);
      throw error;
    } finally {
      tf.dispose(tensors);
    }
    await breathe();
    if (signal?.aborted) {
      release(live);
      return {};
    }
  }
  return live ?? {};
}

function release(live: Live): void {
  live.logits.dispose();
  disposeState(live.state);
}

function readPrompts(model: LanguageModel, options: GenerateOptions): number[][] {
  const { prompt, codec } = options;
  const list = (typeof prompt === 'string' || typeof prompt[0] === 'number' || prompt.length === 0 ? [prompt] : prompt) as readonly (
    string | readonly number[]
  )[];
  return list.map((item, row) => {
    if (typeof item === 'string' && !codec) refuse('prompt', 'ids, or text together with a codec', 'text without a codec', 'Pass a codec.');
    const ids = typeof item === 'string' ? Array.from(codec!.encode(item)) : [...item];
    if (ids.length === 0) refuse(`prompt ${row}`, 'at least one token', 'an empty prompt', 'Start with a text or with the begin id.');
    const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= model.config.vocabSize);
    if (wrong !== undefined) refuse(`prompt ${row}`, `ids in [0, ${model.config.vocabSize})`, String(wrong), "Use the model's own codec.");
    return ids;
  });
}

function refuse(argument: string, wanted: string, given: string, remedy: string): never {
  return fail({ mechanism: 'generate', argument, wanted, given, remedy });
}

/** Lets timers, signals and other work run between tokens. */
function breathe(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === 'function') setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
}
