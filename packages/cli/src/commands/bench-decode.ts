import { measureDecode } from '@seqloom/models';
import { loadModel, startBackend } from '../model.ts';
import type { BackendFlags, ModelOptions } from '../model.ts';
import { print, readableBytes, table } from '../output.ts';

/** `seqloom bench decode`. */
export interface BenchDecodeOptions extends ModelOptions, BackendFlags {
  readonly contexts: readonly number[];
  readonly tokens: number;
  readonly batch: number;
  readonly json: boolean;
}

/** Times one-token steps of a model over the length of what stands before them. */
export async function benchDecode(options: BenchDecodeOptions): Promise<void> {
  const { backend } = await startBackend(options);
  const { model } = await loadModel(options);
  try {
    const rows = await measureDecode(model, options);
    print(options.json, { backend, parameters: model.countParameters(), rows }, () => [
      `${model.countParameters().toLocaleString('en')} parameters on ${backend}, batch ${options.batch}; median of ${options.tokens} tokens`,
      'The state of each context is filled, not read: a token costs what its extents cost.',
      '',
      ...table([
        ['context', 'ms per token', 'tokens/s', 'state'],
        ...rows.map(({ context, millisecondsPerToken, tokensPerSecond, stateBytes }) => [
          context,
          Number(millisecondsPerToken.toFixed(2)),
          Number(tokensPerSecond.toFixed(1)),
          readableBytes(stateBytes),
        ]),
      ]),
    ]);
  } finally {
    model.dispose();
  }
}
