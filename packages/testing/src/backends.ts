import { setupBackend } from '@seqloom/core';
import type { BackendName } from '@seqloom/core';
import { beforeAll, describe, it } from 'vitest';
import { testPlace } from './place.ts';

/** The backends that tests run on. */
export type TestedBackend = Extract<BackendName, 'cpu' | 'wasm' | 'webgpu'>;

/** What a suite tests; of each kind a sampling run takes one per file. */
export type SuiteKind = 'op' | 'mixer' | 'golden' | 'other';

const sampled = new Set<SuiteKind>();

/**
 * Declares a suite once per backend: `cpu` and `wasm` always, `webgpu` as the environment variable SEQLOOM_WEBGPU says.
 *
 * `1`: beside the others; `only`: alone; `sample`: alone, of every kind the first suite of each file, and of it the laws that depend on the
 * backend's arithmetic, for machines that emulate the GPU.
 * Asked for, a WebGPU adapter that is missing is a failure; not asked for, the backend is reported as one skipped test.
 *
 * @param suite declares tests; the backend is set up before they run
 * @param kind what the suite tests
 */
export function eachBackend(suite: (backend: TestedBackend) => void, kind: SuiteKind = 'other'): void {
  for (const backend of ['cpu', 'wasm', 'webgpu'] as const) {
    const reason = leftOut(backend) ?? notSampled(backend, kind);
    describe(`on ${backend}`, () => (reason ? declareLeftOut(reason) : declareOn(backend, suite)));
  }
}

/** Whether this is a sampling run: it keeps to the laws whose outcome depends on the backend's arithmetic. */
export function isSampling(): boolean {
  return testPlace().environment.SEQLOOM_WEBGPU === 'sample';
}

function notSampled(backend: TestedBackend, kind: SuiteKind): string | null {
  if (backend !== 'webgpu' || !isSampling()) return null;
  if (sampled.has(kind)) return 'this run takes one suite per file and kind, SEQLOOM_WEBGPU=only takes all';
  sampled.add(kind);
  return null;
}

function declareLeftOut(reason: string): void {
  it(`is left out: ${reason}`, ({ skip }) => skip(reason));
}

function declareOn(backend: TestedBackend, suite: (backend: TestedBackend) => void): void {
  beforeAll(async () => {
    const { environment, setup } = testPlace();
    // SEQLOOM_KERNELS=none: the composed kernels are what is tested
    await setupBackend(backend, environment.SEQLOOM_KERNELS === 'none' ? { ...setup, kernels: [] } : setup);
  }, 120_000);
  suite(backend);
}

/** Why a backend is not tested here, or null. */
export function leftOut(backend: TestedBackend): string | null {
  const asked = testPlace().environment.SEQLOOM_WEBGPU ?? '';
  const alone = asked === 'only' || asked === 'sample';
  if (backend === 'webgpu') return asked === '1' || alone ? null : 'SEQLOOM_WEBGPU is not 1';
  return alone ? 'this run is for webgpu alone' : null;
}
