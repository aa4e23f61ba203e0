import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fail } from '@seqloom/core';
import { ByteTokeniser, memoryStore, perplexity } from '@seqloom/train';
import type { CurvePanel, Perplexity, TokenStore } from '@seqloom/train';
import { loadTokeniser, openByteFile, openTokenFile } from '@seqloom/train/node';
import type { BackendFlags, ModelOptions } from '../model.ts';
import { loadModel, startBackend } from '../model.ts';
import { table } from '../output.ts';
import { deliver } from './evaluation.ts';
import type { EvaluationFlags } from './evaluation.ts';

/** Flags of `seqloom eval perplexity`. */
export interface EvalPerplexityFlags extends ModelOptions, BackendFlags, EvaluationFlags {
  readonly text?: string;
  readonly literal?: string;
  readonly heldOut: boolean;
  readonly tokeniser?: string;
  readonly window?: number;
  readonly stride?: number;
  readonly rows?: number;
}

/** `seqloom eval perplexity`: how well a model foretells a text, and how that depends on the context it has. */
export async function evalPerplexity(flags: EvalPerplexityFlags): Promise<void> {
  const { text, literal, window, stride, rows } = flags;
  if ((text === undefined) === (literal === undefined)) {
    const given = text === undefined ? 'neither' : 'both';
    fail({ mechanism: 'seqloom', argument: 'text', wanted: 'one of --text and --literal', given, remedy: 'Name a file or write a text.' });
  }
  const { backend } = await startBackend(flags);
  const { model, step, pretrained } = await loadModel(flags);
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop);
  try {
    const own = pretrained ? join(pretrained.folder, 'tokenizer.json') : null;
    const tokeniser = flags.tokeniser ?? (own !== null && existsSync(own) ? own : 'bytes');
    const store = await openText(flags, tokeniser);
    try {
      if (store.vocabSize > model.config.vocabSize) {
        fail({
          mechanism: 'seqloom',
          argument: '--tokeniser',
          wanted: `one of at most the model's ${model.config.vocabSize} ids`,
          given: `${tokeniser}, ${store.vocabSize} ids`,
          remedy: 'Pass the tokenizer.json that the model was trained with.',
        });
      }
      let told = performance.now();
      const result = await perplexity(model, store, {
        part: flags.heldOut ? 'held-out' : 'all',
        ...(window === undefined ? {} : { window }),
        ...(stride === undefined ? {} : { stride }),
        ...(rows === undefined ? {} : { rows }),
        signal: controller.signal,
        onProgress: (done, total) => {
          if (flags.json === true || performance.now() - told < 5000) return;
          told = performance.now();
          process.stderr.write(`${done.toLocaleString('en')} of ${total.toLocaleString('en')} tokens\n`);
        },
      });
      const parameters = model.countParameters();
      const found = {
        backend,
        parameters,
        step,
        text: text ?? { literal },
        part: flags.heldOut ? 'held-out' : 'all',
        tokeniser,
        window: window ?? null,
        stride: window === undefined ? null : (stride ?? Math.ceil(window / 2)),
        complete: !controller.signal.aborted,
        ...result,
      };
      await deliver(flags, found, () => lines(found), {
        title: `seqloom eval perplexity: ${text ?? 'a text'}, ${parameters.toLocaleString('en')} parameters`,
        panels: [panel(result)],
      });
    } finally {
      await store.close();
    }
  } finally {
    process.off('SIGINT', stop);
    model.dispose();
  }
}

async function openText({ text, literal, heldOut }: EvalPerplexityFlags, name: string): Promise<TokenStore> {
  // all of the text in one part, unless the part that training held out is asked for
  const split = heldOut ? {} : { heldOut: 0 };
  const tokeniser = name === 'bytes' ? new ByteTokeniser() : await loadTokeniser(name);
  if (literal !== undefined) return memoryStore(literal, { tokeniser, ...split });
  if (name === 'bytes') return openByteFile(text!, split);
  return openTokenFile(text!, { tokeniser, cache: join(tmpdir(), 'seqloom-tokens'), ...split });
}

type Found = Perplexity & { readonly complete: boolean; readonly window: number | null; readonly stride: number | null };

function lines({ loss, perplexity: value, bitsPerByte, tokens, complete, window, stride, leastContext, positions }: Found): string[] {
  const context =
    window === null
      ? 'one state through the whole text'
      : `windows of ${window} tokens, a new one every ${stride}, so that each token but the first has at least ${leastContext} before it`;
  return [
    `${bitsPerByte.toFixed(4)} bits/byte, ${loss.toFixed(4)} nats/token, perplexity ${value.toFixed(3)}`,
    `${tokens.toLocaleString('en')} tokens${complete ? '' : ', then stopped'}; ${context}`,
    '',
    ...table([
      ['tokens before it', 'nats/token', 'tokens'],
      ...positions.map((group) => [
        group.from === group.to ? String(group.from) : `${group.from} to ${group.to}`,
        group.loss.toFixed(4),
        group.tokens,
      ]),
    ]),
  ];
}

function panel({ positions }: Perplexity): CurvePanel {
  return {
    title: 'Loss by context',
    xLabel: 'tokens before the one that is foretold',
    yLabel: 'nats per token',
    yRange: [0, Math.max(1, Math.ceil(Math.max(...positions.map(({ loss }) => loss))))],
    lines: [
      {
        label: 'mean of the tokens with so much context',
        points: positions.map(({ from, to, loss }) => ({ x: Math.sqrt(from * to), y: loss })),
      },
    ],
  };
}
