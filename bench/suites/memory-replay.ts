import * as tf from '@tensorflow/tfjs-core';
import { disposeState } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { Memformer } from '@seqloom/memory';
import { replayBackward } from '@seqloom/train';
import type { Candidate, Case, Prepared } from '../measure/candidate.ts';
import { OURS } from '../measure/candidate.ts';
import { uniform } from '../measure/inputs.ts';
import { bytesText } from '../measure/statistics.ts';
import type { CaseResult } from '../measure/suite.ts';
import { rowOf } from '../measure/suite.ts';
import { FUSED_BACKEND, tfCandidate, useBackend } from '../measure/tfjs.ts';

const PLAIN = 'plain BPTT';
const SERIES = 'memory replay';

interface ReplaySizes {
  readonly dim: number;
  readonly heads: number;
  readonly slots: number;
  readonly segmentLength: number;
}

const usual: ReplaySizes = { dim: 64, heads: 4, slots: 16, segmentLength: 32 };
const tiny: ReplaySizes = { dim: 8, heads: 2, slots: 3, segmentLength: 4 };

const nameOf = (segments: number): string => `${SERIES}, Memformer over ${segments} segments, forward + backward`;

/** Gradients of all parameters by replay, and by back-propagation that keeps every segment alive. */
async function prepare(segments: number, { dim, heads, slots, segmentLength }: ReplaySizes): Promise<Prepared> {
  await useBackend(FUSED_BACKEND);
  const layer = new Memformer({ dim, heads, slots, segmentLength, seed: 1 });
  const { shape, data } = uniform([1, segments * segmentLength, dim], 1);
  const x = tf.tensor(data, [...shape], 'float32');
  const step = (segment: number, state: State): { loss: tf.Scalar; state: State } => {
    const { output, state: next } = layer.forward(tf.slice(x, [0, segment * segmentLength, 0], [1, segmentLength, dim]), { state });
    return { loss: tf.mean(tf.square(tf.sub(output, 0.3))), state: next };
  };
  const call = (checkpointEvery: number) => (): Record<string, tf.Tensor> => {
    const start = layer.initialState(1);
    const result = replayBackward(step, { parameters: layer.namedParameters(), segments, state: start, checkpointEvery });
    disposeState(start);
    disposeState(result.state);
    tf.dispose([...result.stateGradients.values()]);
    return { loss: result.loss, ...Object.fromEntries(result.gradients) };
  };
  const candidates: Candidate[] = [tfCandidate(OURS, FUSED_BACKEND, call(1)), tfCandidate(PLAIN, FUSED_BACKEND, call(segments))];
  return {
    candidates,
    checks: [],
    agreement: 1e-3,
    dispose() {
      x.dispose();
      layer.dispose();
    },
  };
}

/** Memory replay beside plain back-propagation through time, over the number of segments. */
export function replayCases(quick: boolean): Case[] {
  const sizes = quick ? tiny : usual;
  return (quick ? [2, 4] : [4, 16, 64]).map((segments) => ({
    name: nameOf(segments),
    series: SERIES,
    x: segments,
    work: { tokens: segments * sizes.segmentLength },
    prepare: () => prepare(segments, sizes),
  }));
}

/** Says what replay costs in time and saves in memory. */
export function replayNotes(results: readonly CaseResult[]): string[] {
  return results.flatMap(({ name, series }) => {
    const [ours, plain] = [rowOf(results, name, OURS), rowOf(results, name, PLAIN)];
    if (series !== SERIES || !ours?.peakHeapBytes || !plain?.peakHeapBytes) return [];
    const time = (ours.ms / plain.ms).toPrecision(2);
    return [`${name}: peak heap ${bytesText(ours.peakHeapBytes)} against ${bytesText(plain.peakHeapBytes)}, in ${time} times the time`];
  });
}
