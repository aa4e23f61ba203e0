import * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';
import { registerGradients } from '../gradient/index.ts';
import { isStrict, kernelRuns, setStrict } from '../kernel/report.ts';
import type { KernelRun } from '../kernel/report.ts';
import { backendLoaders } from './loaders.ts';
import type { BackendOptions, KernelPackage, KernelsInUse } from './loaders.ts';

/** The backends that SeqLoom knows, best first. */
export const BACKENDS = ['tensorflow', 'webgpu', 'wasm', 'cpu'] as const;
export type BackendName = (typeof BACKENDS)[number];

/** What became of one backend. */
export interface BackendCandidate {
  readonly backend: BackendName;
  readonly status: 'chosen' | 'unavailable' | 'not tried';
  readonly reason: string;
}

/** What runs where, and why. */
export interface Explanation {
  readonly backend: string;
  readonly reason: string;
  readonly candidates: readonly BackendCandidate[];
  /** kernel packages in use, e.g. `kernels-wasm (relaxed)` */
  readonly kernelPackages: readonly string[];
  readonly strict: boolean;
  /** every kernel implementation that ran so far, with its number of calls */
  readonly kernels: readonly KernelRun[];
}

/** Options of `setupBackend`. */
export interface SetupOptions extends BackendOptions {
  /** turn a fallback to a composed kernel into an error */
  readonly strict?: boolean;
  /**
   * kernel packages to use, e.g. `[useWasmKernels]`; default: those that are installed and belong to the backend. Bundlers need this
   * list, since they cannot see an optional import. `[]` uses none.
   */
  readonly kernels?: readonly KernelPackage[];
}

let current: { reason: string; candidates: BackendCandidate[]; packages: KernelsInUse[] } | undefined;

/**
 * Makes a tfjs backend ready, registers gradients and the kernel packages that belong to it.
 *
 * @param wanted a backend's name, or `auto` for the best that is present
 * @returns what was chosen and why, as `explain()` does
 * @throws SeqLoomError when the wanted backend is not available; the backend in use then stays as it was
 */
export async function setupBackend(wanted: BackendName | 'auto' = 'auto', options: SetupOptions = {}): Promise<Explanation> {
  const names: readonly BackendName[] = wanted === 'auto' ? BACKENDS : [wanted];
  if (wanted !== 'auto' && !BACKENDS.includes(wanted)) {
    fail({
      mechanism: 'setupBackend',
      argument: 'backend',
      wanted: `one of auto, ${BACKENDS.join(', ')}`,
      given: JSON.stringify(wanted),
      remedy: 'Pass one of these names.',
    });
  }
  const candidates: BackendCandidate[] = [];
  let chosen: { name: BackendName; reason: string } | undefined;
  for (const name of names) {
    const verdict = await backendLoaders[name](options, wanted === 'auto');
    if (verdict.ready) {
      chosen = { name, reason: verdict.reason };
      break;
    }
    candidates.push({ backend: name, status: 'unavailable', reason: verdict.reason });
    if (wanted !== 'auto') {
      fail({ mechanism: 'setupBackend', argument: 'backend', wanted: `available: ${name}`, given: verdict.reason, remedy: verdict.remedy });
    }
  }
  if (!chosen) {
    return fail({
      mechanism: 'setupBackend',
      argument: 'backend',
      wanted: 'at least one that works',
      given: candidates.map(({ backend, reason }) => `${backend}: ${reason}`).join('; '),
      remedy: 'Install @tensorflow/tfjs-backend-wasm and @tensorflow/tfjs-backend-cpu.',
    });
  }
  await tf.setBackend(chosen.name);
  await tf.ready();
  registerGradients();
  for (const used of current?.packages ?? []) used.undo();
  const packages = await backendLoaders[chosen.name].kernels(options.kernels);
  if (options.strict !== undefined) setStrict(options.strict);
  const rest = BACKENDS.filter((name) => name !== chosen.name && !candidates.some(({ backend }) => backend === name));
  const reason = wanted === 'auto' ? `best present: ${chosen.reason}` : `asked for: ${chosen.reason}`;
  current = {
    reason,
    candidates: [
      ...candidates,
      { backend: chosen.name, status: 'chosen', reason: chosen.reason },
      ...rest.map((backend) => ({
        backend,
        status: 'not tried' as const,
        reason: wanted === 'auto' ? 'a better one is present' : `${wanted} was asked for`,
      })),
    ],
    packages,
  };
  return explain();
}

/** A run with what its kernel package says about it. */
function withReason(run: KernelRun): KernelRun {
  const { kernel, implementation } = run;
  if (implementation.kind !== 'fused') return run;
  const why = current?.packages.find(({ label }) => label === implementation.label)?.why?.(kernel);
  return why === undefined ? run : { ...run, why };
}

/** Says which backend and which kernel implementations run, and why. */
export function explain(): Explanation {
  return {
    backend: tf.getBackend(),
    reason: current?.reason ?? 'setupBackend was not called; this is what tfjs chose',
    candidates: current?.candidates ?? [],
    kernelPackages: current?.packages.map(({ label }) => label) ?? [],
    strict: isStrict(),
    kernels: kernelRuns().map(withReason),
  };
}
