import * as tf from '@tensorflow/tfjs-core';
import { HybridModel } from '@seqloom/models';
import { AdamW, clipScale } from '@seqloom/train';
import { presets } from '../../packages/cli/src/presets.ts';
import { runDefaults } from '../../packages/cli/src/run.ts';
import { batchLoss } from '../../packages/train/src/evaluate.ts';
import { GradientSum } from '../../packages/train/src/optimiser/gradient-sum.ts';
import type { Candidate, Case, Outputs } from '../measure/candidate.ts';
import { COMPOSED, OURS } from '../measure/candidate.ts';
import { uniform } from '../measure/inputs.ts';
import type { Suite } from '../measure/suite.ts';
import { floor, rowOf } from '../measure/suite.ts';
import { FUSED_BACKEND, PLAIN_BACKEND } from '../measure/tfjs.ts';

/** A training step as the trainer makes it: loss, gradient, clipping by its norm, AdamW. */
function trainingCandidate(name: string, backend: string, rows: number, length: number): Candidate {
  const model = new HybridModel(presets.quickstart);
  const optimiser = new AdamW(model.namedParameters(), { beta2: 0.98, weightDecay: 0.05 });
  const gradients = new GradientSum(optimiser.rules);
  const bytes = Int32Array.from(uniform([rows, length + 1], 1, 0, 256).data);
  const cut = (from: number): Int32Array =>
    Int32Array.from({ length: rows * length }, (_, place) => bytes[Math.floor(place / length) * (length + 1) + (place % length) + from]!);
  const batch = { ids: cut(0), labels: cut(1), rows, length, tokens: rows * length };
  const step = async (read?: () => Promise<void>): Promise<{ loss: number; norm: number }> => {
    gradients.add(() => batchLoss(model, batch, true), batch.tokens);
    const measured = await gradients.measure();
    await read?.();
    optimiser.step(gradients.gradients, { learningRate: 1e-4, gradientScale: clipScale(measured.norm, 1) / gradients.tokens });
    gradients.reset();
    return measured;
  };
  return {
    name,
    backend,
    run: async () => void (await step()),
    async outputs() {
      const found: Record<string, ArrayLike<number>> = {};
      const { loss, norm } = await step(async () => {
        for (const [parameter, gradient] of gradients.gradients) found[`gradient of ${parameter}`] = await gradient.data();
      });
      return { ...found, loss: [loss], norm: [norm] } satisfies Outputs;
    },
    dispose() {
      gradients.reset();
      optimiser.dispose();
      model.dispose();
    },
  };
}

const nameOf = (rows: number, length: number): string => `quickstart model, ${rows} rows of ${length}`;

function caseOf(rows: number, length: number): Case {
  return {
    name: nameOf(rows, length),
    profiled: true,
    work: { tokens: rows * length, flops: flopsOf(rows, length) },
    prepare: () => ({
      candidates: [trainingCandidate(OURS, FUSED_BACKEND, rows, length), trainingCandidate(COMPOSED, PLAIN_BACKEND, rows, length)],
      // each model starts from the same seed: the first step's loss and gradients must agree
      checks: [],
      agreement: 1e-3,
    }),
  };
}

/** Three forwards' worth, without the optimiser. */
function flopsOf(rows: number, length: number): number {
  return tf.tidy(() => {
    const model = new HybridModel(presets.quickstart);
    const flops = 3 * rows * length * model.flopsPerToken(length);
    model.dispose();
    return flops;
  });
}

/** One optimiser step of the quickstart model. */
export const trainStep: Suite = {
  name: 'train-step',
  title: 'Training step',
  about:
    "The quickstart's model and batch: loss, gradient, clipping and AdamW. Loss and every gradient of the first step must agree between the two candidates; the layers' own tests hold them to the float64 oracles.",
  peers: [],
  cases: ({ quick }) => [quick ? caseOf(1, 16) : caseOf(runDefaults.rows, runDefaults.length)],
  floors(results) {
    const composed = rowOf(results, nameOf(runDefaults.rows, runDefaults.length), COMPOSED);
    return [floor('quickstart step against the same step on composed kernels', 'at least', 4, composed?.ratio)];
  },
  notes: (results) =>
    results.flatMap(({ name, rows }) =>
      rows.map(
        ({ candidate, tokensPerSecond, implementation }) =>
          `${name}: ${candidate}: ${Math.round(tokensPerSecond ?? 0)} tokens/s (${implementation})`,
      ),
    ),
};
