import { explain } from '@seqloom/core';
import { HybridModel } from '@seqloom/models';
import type { BackendFlags, ModelOptions } from '../model.ts';
import { loadModel, readConfig, startBackend } from '../model.ts';
import { print } from '../output.ts';
import { runTraining } from '../run.ts';

/** Flags of `seqloom train`. */
export interface TrainFlags extends ModelOptions, BackendFlags {
  readonly text: string;
  readonly out: string;
  readonly steps?: number;
  readonly minutes?: number;
  readonly batch?: number;
  readonly length?: number;
  readonly learningRate?: number;
  readonly seed?: number;
  readonly resume: boolean;
  readonly json: boolean;
}

/** `seqloom train`. */
export async function trainModel(flags: TrainFlags): Promise<void> {
  await startBackend(flags);
  const model =
    flags.checkpoint === undefined
      ? new HybridModel({ ...(await readConfig(flags)), ...(flags.seed === undefined ? {} : { seed: flags.seed }) })
      : (await loadModel(flags)).model;
  try {
    const { summary } = await runTraining(model, { ...flags, folder: flags.out, rows: flags.batch });
    const { backend, kernelPackages } = explain();
    print(flags.json, { ...summary, backend, kernelPackages, folder: flags.out }, () => [
      `${summary.reason === 'done' ? 'done' : 'stopped'} at step ${summary.step} of ${summary.total ?? '?'}: ` +
        `${summary.heldOutBitsPerByte?.toFixed(3) ?? '-'} bits/byte held out, ${Math.round(summary.tokensPerSecond).toLocaleString('en')} tokens/s on ${backend}`,
      `checkpoints and metrics are in ${flags.out}`,
      ...(summary.reason === 'done' ? [] : ['continue with the same command and --resume']),
    ]);
  } finally {
    model.dispose();
  }
}
