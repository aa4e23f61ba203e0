import { BACKENDS, SeqLoomError, setupBackend } from '@seqloom/core';
import { print, table } from '../output.ts';

/** What `doctor` found out about one backend. */
export interface BackendReport {
  readonly backend: string;
  readonly available: boolean;
  readonly reason: string;
  readonly kernelPackages: readonly string[];
  /** command or step that would make it available; empty when it is */
  readonly remedy: string;
}

/** What `doctor` prints as JSON. */
export interface DoctorReport {
  readonly node: string;
  readonly platform: string;
  readonly auto: string;
  readonly backends: readonly BackendReport[];
}

/** Tries every backend and says what each has and what is missing. */
export async function examine(): Promise<DoctorReport> {
  const backends: BackendReport[] = [];
  for (const backend of BACKENDS) {
    try {
      const { candidates, kernelPackages } = await setupBackend(backend);
      const reason = candidates.find((candidate) => candidate.backend === backend)!.reason;
      backends.push({ backend, available: true, reason, kernelPackages, remedy: '' });
    } catch (error) {
      if (!(error instanceof SeqLoomError)) throw error;
      backends.push({ backend, available: false, reason: error.given, kernelPackages: [], remedy: error.remedy });
    }
  }
  const { backend: auto } = await setupBackend('auto');
  return { node: process.version, platform: `${process.platform}-${process.arch}`, auto, backends };
}

/** `seqloom doctor`. */
export async function doctor({ json }: { readonly json: boolean }): Promise<void> {
  const found = await examine();
  print(json, found, () => [
    `node ${found.node} on ${found.platform}; setupBackend('auto') chooses ${found.auto}`,
    '',
    ...table([
      ['backend', 'available', 'kernels', 'why'],
      ...found.backends.map(({ backend, available, kernelPackages, reason }) => [
        backend,
        available ? 'yes' : 'no',
        available ? kernelPackages.join(', ') || 'composed' : '-',
        reason,
      ]),
    ]),
    '',
    ...found.backends.filter(({ available }) => !available).map(({ backend, remedy }) => `To get ${backend}: ${remedy}`),
  ]);
}
