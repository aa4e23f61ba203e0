import { OURS } from '../measure/candidate.ts';
import type { CaseResult } from '../measure/suite.ts';
import { rowOf } from '../measure/suite.ts';
import { contracts } from './contracts.ts';

/** The kernel's own writing in gpu.js, on the same device, as a candidate. */
export const GPUJS = 'gpu.js webgpu';
/** Word in the names of cases without gradients. */
export const FORWARD = 'forward';

/**
 * Time of the gpu.js writing over that of WGSL by kernel, forward; of several cases of a kernel the one that speaks most for gpu.js.
 *
 * @returns null for a kernel that gpu.js was not timed for
 */
export function gpujsTimes(results: readonly CaseResult[]): Record<string, number | null> {
  return Object.fromEntries(
    contracts.map(({ kernel }) => {
      const ratios = results
        .filter(({ name }) => name.split(/[ ,]/)[0] === kernel && name.includes(`, ${FORWARD},`))
        .flatMap(({ name }) => {
          const [ours, theirs] = [OURS, GPUJS].map((candidate) => rowOf(results, name, candidate)?.ms);
          return ours && theirs ? [Number((theirs / ours).toPrecision(3))] : [];
        });
      return [kernel, ratios.length > 0 ? Math.min(...ratios) : null];
    }),
  );
}
