import { gpujsTimes, measuredOn } from './measured-writings.ts';

/** Which writing of a kernel runs on tfjs's backend `webgpu`, and why. */
export interface GpuWriting {
  /** name of the contract's kernel; its gradient runs in the same writing */
  readonly kernel: string;
  readonly writing: 'wgsl';
  /** time of the gpu.js writing over that of WGSL, as the benchmark measured it; null where it did not */
  readonly gpujsTime: number | null;
  /** the adapter that this was measured on */
  readonly adapter: string;
  /** whether that adapter is emulated on a processor, so that its times say little about a GPU's */
  readonly emulated: boolean;
  readonly reason: string;
}

/**
 * The writing of every kernel on tfjs's backend `webgpu`: WGSL for all, since a kernel of tfjs returns its tensors at once and a kernel of gpu.js
 * answers by a promise; and how much longer gpu.js takes on the same device, by `npm run bench -- gpu`.
 *
 * @returns a row per kernel; `explain()` shows the reason of those that ran
 */
export function gpuWritings(): readonly GpuWriting[] {
  const { adapter, emulated } = measuredOn;
  return Object.entries(gpujsTimes).map(([kernel, time]) => {
    const measured =
      time === null ? '' : `; on ${adapter}${emulated ? ' (emulated)' : ''} gpu.js takes ${Number(time.toPrecision(2))}x the time of WGSL`;
    return {
      kernel,
      writing: 'wgsl',
      gpujsTime: time,
      adapter,
      emulated,
      reason: `tfjs needs tensors at once, gpu.js answers by promises${measured}`,
    };
  });
}

/** Why a kernel, or its gradient, runs in the writing that it runs in. */
export function reasonOfWriting(kernel: string): string | undefined {
  const contract = kernel.replace(/Grad$/, '');
  return gpuWritings().find((row) => row.kernel === contract)?.reason;
}
