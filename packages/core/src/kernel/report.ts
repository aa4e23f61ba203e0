import { fail } from '../error.ts';

/** Which implementation ran: a fused one, or the composed default with the reason for it. */
export type ImplementationSource =
  { readonly kind: 'fused'; readonly label: string } | { readonly kind: 'composed'; readonly reason: string };

/** One line of `explain().kernels`. */
export interface KernelRun {
  readonly kernel: string;
  readonly backend: string;
  readonly implementation: ImplementationSource;
  readonly calls: number;
  /** why it runs in this form, where its package offers several */
  readonly why?: string;
}

const runs = new Map<string, { kernel: string; backend: string; implementation: ImplementationSource; calls: number }>();
let strict = false;

/**
 * Turns strict mode on or off: in strict mode a kernel that would fall back to its composed default throws instead.
 *
 * @returns the previous setting
 */
export function setStrict(on: boolean): boolean {
  const before = strict;
  strict = on;
  return before;
}

/** Whether strict mode is on. */
export function isStrict(): boolean {
  return strict;
}

/** Records which implementation a kernel call uses; in strict mode refuses a composed one. */
export function noteRun(kernel: string, backend: string, implementation: ImplementationSource): void {
  if (strict && implementation.kind === 'composed') {
    fail({
      mechanism: kernel,
      argument: 'implementation',
      wanted: `fused on backend ${backend} (strict mode is on)`,
      given: `the composed fallback: ${implementation.reason}`,
      remedy: 'Install a kernel package for this backend and call its use function, or turn strict mode off.',
    });
  }
  const key = `${kernel} ${backend} ${implementation.kind === 'fused' ? implementation.label : implementation.reason}`;
  const entry = runs.get(key);
  if (entry) entry.calls++;
  else runs.set(key, { kernel, backend, implementation, calls: 1 });
}

/** Every kernel and implementation that ran since the start or since `resetKernelRuns()`. */
export function kernelRuns(): KernelRun[] {
  return [...runs.values()].map((entry) => ({ ...entry }));
}

/** Forgets the recorded runs. */
export function resetKernelRuns(): void {
  runs.clear();
}
