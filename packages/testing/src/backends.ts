import { setupBackend } from '@seqloom/core';
import type { BackendName } from '@seqloom/core';
import { beforeAll, describe, it } from 'vitest';

/** The backends that tests run on. */
export type TestedBackend = Extract<BackendName, 'cpu' | 'wasm' | 'webgpu'>;

/**
 * Declares a suite once per backend: `cpu` and `wasm` always, `webgpu` when the environment variable SEQLOOM_WEBGPU is 1; when it is
 * `only`, `webgpu` alone.
 *
 * Asked for, a WebGPU adapter that is missing is a failure; not asked for, the backend is reported as one skipped test.
 *
 * @param suite declares tests; the backend is set up before they run
 */
export function eachBackend(suite: (backend: TestedBackend) => void): void {
  for (const backend of ['cpu', 'wasm', 'webgpu'] as const) {
    const reason = leftOut(backend);
    describe(`on ${backend}`, () => (reason ? declareLeftOut(reason) : declareOn(backend, suite)));
  }
}

function declareLeftOut(reason: string): void {
  it(`is left out: ${reason}`, ({ skip }) => skip(reason));
}

function declareOn(backend: TestedBackend, suite: (backend: TestedBackend) => void): void {
  beforeAll(async () => {
    await setupBackend(backend);
  }, 120_000);
  suite(backend);
}

/** Why a backend is not tested here, or null. */
export function leftOut(backend: TestedBackend): string | null {
  const asked = process.env.SEQLOOM_WEBGPU;
  if (backend === 'webgpu') return asked === '1' || asked === 'only' ? null : 'SEQLOOM_WEBGPU is not 1';
  return asked === 'only' ? 'this run is for webgpu alone' : null;
}
