import { describe, it } from 'vitest';
import { eachBackend, isSampling } from '../backends.ts';
import { badConfigLaw, badInputLaw } from './bad-input.ts';
import { batchLaw } from './batch.ts';
import { causalityLaw } from './causality.ts';
import { costLaw } from './cost.ts';
import { gradientLaw } from './gradient.ts';
import { dirtyMemoryLaw, hardNumericsLaw } from './hard-numerics.ts';
import { lawTitle } from './law.ts';
import type { Law } from './law.ts';
import type { MixerSubject } from './mixer-subject.ts';
import { faultLaw, leakLaw } from './no-leak.ts';
import { junkPaddingLaw, paddingGradientLaw, paddingLaw, unusedStateLaw } from './padding.ts';
import { segmentLaw } from './segments.ts';
import { splitLaw } from './split.ts';
import { stateBytesLaw, stateReuseLaw } from './state.ts';

/** The laws of a mixer, in the order of their numbers. Laws 2, 3 and 7 belong to ops: see `opLaws` and `goldenSuite`. */
export const MIXER_LAWS: readonly Law<MixerSubject>[] = [
  splitLaw,
  causalityLaw,
  gradientLaw,
  paddingLaw,
  junkPaddingLaw,
  paddingGradientLaw,
  unusedStateLaw,
  batchLaw,
  segmentLaw,
  leakLaw,
  faultLaw,
  stateBytesLaw,
  stateReuseLaw,
  hardNumericsLaw,
  dirtyMemoryLaw,
  badInputLaw,
  badConfigLaw,
  costLaw,
];

/**
 * Declares the laws of a mixer as tests, on every backend.
 *
 * @param subject the mixer's card, how to build it, and its sizes; one call per pattern and notable variant
 */
export function mixerLaws(subject: MixerSubject): void {
  describe(`laws of ${subject.name ?? subject.card.id}`, () => {
    eachBackend(() => {
      for (const law of MIXER_LAWS) declareLaw(law, subject, subject.leaveOut?.[law.number]);
    }, 'mixer');
  });
}

/** Declares one law as a test; one that does not apply is a skipped test that says why. */
export function declareLaw<Subject>(law: Law<Subject>, subject: Subject, leaveOut?: string): void {
  it(`law ${lawTitle(law.number, law.title)}`, async ({ skip }) => {
    if (leaveOut) skip(leaveOut);
    if (law.sampled === false && isSampling()) skip('a sampling run leaves it out, SEQLOOM_WEBGPU=only takes all');
    const verdict = law.applies?.(subject) ?? true;
    if (verdict !== true) skip(verdict);
    await law.check(subject);
  });
}
