import { generate } from '@seqloom/models';
import type { SamplingOptions, TextCodec } from '@seqloom/models';
import { fail } from '@seqloom/core';
import type { BackendFlags, ModelOptions } from '../model.ts';
import { openCodec } from '../codec.ts';
import { loadModel, startBackend } from '../model.ts';
import { print } from '../output.ts';

/** Flags of `seqloom generate`. */
export interface GenerateFlags extends ModelOptions, BackendFlags, SamplingOptions {
  readonly prompt?: string;
  readonly promptIds?: readonly number[];
  readonly tokens: number;
  readonly stop?: readonly string[];
  readonly json: boolean;
}

/** `seqloom generate`: writes on from a prompt; text appears as it is made. */
export async function generateText(flags: GenerateFlags): Promise<void> {
  const { backend } = await startBackend(flags);
  const loaded = await loadModel(flags);
  const { model, step } = loaded;
  const { temperature, topK, topP, minP, repetitionPenalty, seed } = flags;
  const sampling = Object.fromEntries(
    Object.entries({ temperature, topK, topP, minP, repetitionPenalty, seed }).filter(([, value]) => value !== undefined),
  ) as SamplingOptions;
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop);
  try {
    const { codec, endIds } = await openCodec(loaded);
    const prompt = readPrompt(flags, codec);
    const ids: number[] = [];
    let text = '';
    let finishReason = '';
    const started = performance.now();
    const stream = generate(model, {
      ...sampling,
      prompt,
      maxNewTokens: flags.tokens,
      endIds,
      ...(codec ? { codec } : {}),
      signal: controller.signal,
      ...(flags.stop ? { stopStrings: flags.stop } : {}),
    });
    for await (const event of stream) {
      if (event.id !== null) ids.push(event.id);
      text += event.text;
      finishReason = event.finishReason ?? finishReason;
      if (!flags.json) process.stdout.write(codec ? event.text : `${event.id ?? ''} `);
    }
    const tokensPerSecond = ids.length / ((performance.now() - started) / 1000);
    if (flags.json) print(true, { prompt, text, ids, finishReason, tokensPerSecond, backend, step }, () => []);
    else process.stdout.write('\n');
  } finally {
    process.off('SIGINT', stop);
    model.dispose();
  }
}

/** The prompt as text, or as ids, which need no tokeniser. */
function readPrompt({ prompt, promptIds }: GenerateFlags, codec: TextCodec | null): string | readonly number[] {
  const refuse = (wanted: string, given: string, remedy: string): never =>
    fail({ mechanism: 'seqloom', argument: 'prompt', wanted, given, remedy });
  if (prompt !== undefined && promptIds) return refuse('one of --prompt and --prompt-ids', 'both', 'Leave one of them out.');
  if (promptIds) return promptIds;
  if (codec) return prompt ?? '\n';
  return refuse('given as --prompt-ids', 'a model without tokenizer.json', 'Name the ids, such as --prompt-ids 1,17,4.');
}
