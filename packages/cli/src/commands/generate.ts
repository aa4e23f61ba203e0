import { generate } from '@seqloom/models';
import type { SamplingOptions } from '@seqloom/models';
import { ByteTokeniser } from '@seqloom/train';
import type { BackendFlags, ModelOptions } from '../model.ts';
import { loadModel, startBackend } from '../model.ts';
import { print } from '../output.ts';

/** Flags of `seqloom generate`. */
export interface GenerateFlags extends ModelOptions, BackendFlags, SamplingOptions {
  readonly prompt: string;
  readonly tokens: number;
  readonly stop?: readonly string[];
  readonly json: boolean;
}

/** `seqloom generate`: writes on from a prompt; text appears as it is made. */
export async function generateText(flags: GenerateFlags): Promise<void> {
  const { backend } = await startBackend(flags);
  const { model, step } = await loadModel(flags);
  const { temperature, topK, topP, minP, repetitionPenalty, seed } = flags;
  const sampling = Object.fromEntries(
    Object.entries({ temperature, topK, topP, minP, repetitionPenalty, seed }).filter(([, value]) => value !== undefined),
  ) as SamplingOptions;
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop);
  try {
    const ids: number[] = [];
    let text = '';
    let finishReason = '';
    const started = performance.now();
    const stream = generate(model, {
      ...sampling,
      prompt: flags.prompt,
      maxNewTokens: flags.tokens,
      codec: new ByteTokeniser(),
      signal: controller.signal,
      ...(flags.stop ? { stopStrings: flags.stop } : {}),
    });
    for await (const event of stream) {
      if (event.id !== null) ids.push(event.id);
      text += event.text;
      finishReason = event.finishReason ?? finishReason;
      if (!flags.json) process.stdout.write(event.text);
    }
    const tokensPerSecond = ids.length / ((performance.now() - started) / 1000);
    if (flags.json) print(true, { prompt: flags.prompt, text, ids, finishReason, tokensPerSecond, backend, step }, () => []);
    else process.stdout.write('\n');
  } finally {
    process.off('SIGINT', stop);
    model.dispose();
  }
}
