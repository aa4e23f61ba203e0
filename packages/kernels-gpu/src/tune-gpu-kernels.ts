import { fail, rmsNorm, softmaxAttention, softmaxCrossEntropy } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { measuredTuning, storeTuning } from './tuning-store.ts';
import type { MeasuredTuning } from './tuning-store.ts';
import { gpuTuning } from './use-gpu-kernels.ts';
import { deviceOf } from './wgsl/device.ts';
import type { GpuBackend } from './wgsl/device.ts';
import { candidates, kernelsAreInUse, requestTuning, tileName, tunings } from './wgsl/tuning.ts';
import type { GpuTuning } from './wgsl/tuning.ts';

/** A setting that can be measured. */
export type TunedSetting = keyof MeasuredTuning;

/** Options of `tuneGpuKernels`. */
export interface TuneOptions {
  /** seconds of measuring, beside the time that shaders take to compile (4) */
  readonly seconds?: number;
  /** by which share of its time a candidate must be faster than the table's, so that noise decides nothing (0.05) */
  readonly margin?: number;
  /** settings to measure; all of them when left out */
  readonly settings?: readonly TunedSetting[];
  /** whether the result is kept for the next `useGpuKernels` (true) */
  readonly store?: boolean;
}

/** One candidate's result. */
export interface TimedCandidate {
  readonly setting: TunedSetting;
  /** `64x64x16/4x4`, `32x32`, `true` */
  readonly candidate: string;
  /** median of one call, NaN when it was not measured */
  readonly milliseconds: number;
  /** why it was not measured */
  readonly refused?: string;
  readonly chosen: boolean;
}

/** What `tuneGpuKernels` found. */
export interface TuneReport {
  readonly adapter: string;
  /** `timestamps` of the GPU, or the `wall clock` until it says that it is done */
  readonly clock: 'timestamps' | 'wall clock';
  /** for `useGpuKernels({ tuning })` */
  readonly tuning: MeasuredTuning;
  readonly timed: readonly TimedCandidate[];
  /** where the result is kept */
  readonly stored?: string;
  /** why it is not kept */
  readonly storeFault?: string;
}

interface Candidate {
  readonly name: string;
  readonly tuning: Partial<GpuTuning>;
}

/** What is measured for one setting: `step` makes the next input from the last one, so that no two calls overlap on the GPU. */
interface Subject {
  readonly candidates: readonly Candidate[];
  readonly start: tf.Tensor;
  readonly step: (input: tf.Tensor) => tf.Tensor;
  /** tensors beside `start` that are freed at the end */
  readonly kept: readonly tf.Tensor[];
}

/** A random tensor of some length per row, so that chains of products neither grow nor vanish. */
const random = (shape: number[], seed: number, deviation = 1): tf.Tensor => tf.randomNormal(shape, 0, deviation, 'float32', seed);

function product(rows: number, inner: number): Omit<Subject, 'candidates'> {
  const right = random([inner, inner], 2, 1 / Math.sqrt(inner));
  return { start: random([rows, inner], 1), kept: [right], step: (left) => tf.matMul(left as tf.Tensor2D, right as tf.Tensor2D) };
}

/** Sizes are those of a layer of a small model; a software adapter gets smaller ones. */
const subjects: Readonly<Record<TunedSetting, (software: boolean) => Subject>> = {
  matMul: (software) => ({
    ...product(software ? 256 : 2048, software ? 256 : 1024),
    candidates: candidates.matMul.map((tile) => ({ name: tileName(tile), tuning: { matMul: tile, smallMatMul: tile } })),
  }),
  smallMatMul: (software) => ({
    ...product(software ? 64 : 128, software ? 128 : 512),
    candidates: candidates.matMul.map((tile) => ({ name: tileName(tile), tuning: { matMul: tile, smallMatMul: tile } })),
  }),
  attention: (software) => {
    const shape = software ? [1, 64, 2, 32] : [1, 1024, 8, 64];
    const [key, value] = [random(shape, 2), random(shape, 3)] as tf.Tensor4D[];
    const forward = (query: tf.Tensor) =>
      tf.sum(softmaxAttention({ query: query as tf.Tensor4D, key: key!, value: value! }, { causal: true }).output);
    return {
      start: random(shape, 1),
      kept: [key!, value!],
      step: tf.grad(forward),
      candidates: candidates.attention.map((tile) => ({ name: tileName(tile), tuning: { attention: tile } })),
    };
  },
  subgroups: (software) => {
    const [rows, width] = software ? [64, 256] : [2048, 1024];
    const labels = tf.zeros([rows], 'int32') as tf.Tensor1D;
    return {
      start: random([rows, width], 1),
      kept: [labels],
      step: (input) => {
        const output = rmsNorm({ input });
        softmaxCrossEntropy({ logits: output as tf.Tensor2D, labels });
        return output;
      },
      candidates: [false, true].map((subgroups) => ({ name: String(subgroups), tuning: { subgroups } })),
    };
  },
};

/** Runs a chain of calls as one candidate is written; returns its last output. */
function chain({ start, step }: Subject, candidate: Candidate, calls: number): tf.Tensor {
  const undo = requestTuning({ given: candidate.tuning });
  try {
    let output = start;
    for (let call = 0; call < calls; call++) {
      const next = tf.tidy(() => step(output));
      if (output !== start) output.dispose();
      output = next;
    }
    return output;
  } finally {
    undo();
  }
}

async function finished(gpu: GpuBackend): Promise<void> {
  gpu.endComputePassEncoder();
  gpu.ensureCommandEncoderReady();
  gpu.submitQueue();
  await gpu.device.queue.onSubmittedWorkDone();
}

/** Milliseconds of a chain, by the GPU's clock if it has one. */
async function timeOf(gpu: GpuBackend, subject: Subject, candidate: Candidate, calls: number): Promise<number> {
  await finished(gpu);
  if (gpu.supportTimestampQuery) {
    let output: tf.Tensor | undefined;
    const { kernelMs } = await gpu.time(() => void (output = chain(subject, candidate, calls)));
    output?.dispose();
    return kernelMs as number;
  }
  const before = performance.now();
  const output = chain(subject, candidate, calls);
  await finished(gpu);
  const after = performance.now();
  output.dispose();
  return after - before;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

/** Why a candidate cannot be used, or nothing: the device compiles it, and it gives the numbers of the candidate in use. */
async function faultOf(
  gpu: GpuBackend,
  subject: Subject,
  candidate: Candidate,
  wanted: Float32Array | undefined,
): Promise<string | undefined> {
  let output: tf.Tensor | undefined;
  try {
    output = chain(subject, candidate, 1);
    const given = await output.data<'float32'>();
    await finished(gpu);
    // says what the device had against the shader
    deviceOf(gpu, 'tuneGpuKernels');
    if (!wanted) return undefined;
    let [error, size] = [0, 0];
    for (const [index, value] of given.entries()) {
      error += (value - wanted[index]!) ** 2;
      size += wanted[index]! ** 2;
    }
    return Math.sqrt(error / size) < 1e-4 ? undefined : `gives other numbers, relative error ${Math.sqrt(error / size)}`;
  } catch (error) {
    return (error as Error).message;
  } finally {
    output?.dispose();
  }
}

/** Chooses among a subject's candidates: `incumbent` unless another one is faster by the margin. */
async function choose(
  gpu: GpuBackend,
  setting: TunedSetting,
  subject: Subject,
  incumbent: string,
  { seconds, margin }: { seconds: number; margin: number },
): Promise<{ timed: TimedCandidate[]; chosen: Candidate }> {
  const first = subject.candidates.find(({ name }) => name === incumbent)!;
  const reference = chain(subject, first, 1);
  const wanted = await reference.data<'float32'>();
  reference.dispose();
  const faults = new Map<Candidate, string>();
  for (const candidate of subject.candidates) {
    const fault = await faultOf(gpu, subject, candidate, wanted);
    if (fault !== undefined) faults.set(candidate, fault);
  }
  const usable = subject.candidates.filter((candidate) => !faults.has(candidate));
  // so many calls that clocks of 0.1 ms and the way to the GPU count little
  const calls = Math.max(1, Math.min(64, Math.ceil(20 / Math.max(0.05, await timeOf(gpu, subject, first, 1)))));
  const times = new Map(usable.map((candidate) => [candidate, [] as number[]]));
  const end = performance.now() + 1000 * seconds;
  // in turns, so that a GPU that warms up or slows down treats all alike
  for (let round = 0; round < 3 || (round < 25 && performance.now() < end); round++) {
    for (const [candidate, list] of times) list.push((await timeOf(gpu, subject, candidate, calls)) / calls);
  }
  const timeFor = (candidate: Candidate): number => median(times.get(candidate) ?? []);
  const best = usable.reduce((left, right) => (timeFor(right) < timeFor(left) ? right : left), first);
  const chosen = timeFor(best) < (1 - margin) * timeFor(first) ? best : first;
  const timed = subject.candidates.map((candidate): TimedCandidate => {
    const refused = faults.get(candidate);
    return {
      setting,
      candidate: candidate.name,
      milliseconds: timeFor(candidate),
      chosen: candidate === chosen,
      ...(refused !== undefined && { refused }),
    };
  });
  return { timed, chosen };
}

/**
 * Measures how the kernels are best written for the adapter in use: tiles of matrix products and of attention, subgroup operations.
 *
 * A few seconds on a GPU, longer where compiling is slow. Candidates whose numbers differ from those of the table's are left out. The result is
 * kept (in the user's cache folder, `XDG_CACHE_HOME` or the system's own; in a browser in `localStorage`) until the package's shaders change, and
 * `useGpuKernels`, which `setupBackend('webgpu')` calls, finds it. Kernels in use stay as they are.
 *
 * @returns what was measured and chosen
 * @throws SeqLoomError when the kernels of this package are not in use
 */
export async function tuneGpuKernels(options: TuneOptions = {}): Promise<TuneReport> {
  const { seconds = 4, margin = 0.05, settings = Object.keys(subjects) as TunedSetting[], store = true } = options;
  const inUse = gpuTuning();
  if (!inUse || !kernelsAreInUse()) {
    return fail({
      mechanism: 'tuneGpuKernels',
      argument: 'backend',
      wanted: 'webgpu, with the kernels of this package',
      given: inUse ? 'webgpu without them' : tf.getBackend(),
      remedy: "Call setupBackend('webgpu', { kernels: [useGpuKernels] }) first.",
    });
  }
  const gpu = tf.backend() as GpuBackend;
  const { adapter, adapterClass } = inUse;
  const { matMul, smallMatMul, attention, subgroups } = tunings[adapterClass];
  const has = gpu.device.features.has('subgroups');
  const table: MeasuredTuning = { matMul, smallMatMul, attention, subgroups: subgroups && has };
  let tuning: MeasuredTuning = { ...table, ...measuredTuning(gpu.device) };
  const timed: TimedCandidate[] = [];
  for (const setting of settings) {
    if (setting === 'subgroups' && !has) continue;
    const subject = subjects[setting](adapterClass === 'software');
    try {
      const found = await choose(gpu, setting, subject, nameOf(table[setting]), { seconds: seconds / settings.length, margin });
      timed.push(...found.timed);
      tuning = { ...tuning, [setting]: found.chosen.tuning[setting] };
    } finally {
      tf.dispose([subject.start, ...subject.kept]);
    }
  }
  const report = { adapter, clock: gpu.supportTimestampQuery ? ('timestamps' as const) : ('wall clock' as const), tuning, timed };
  if (!store) return report;
  try {
    return { ...report, stored: storeTuning(gpu.device, tuning) };
  } catch (error) {
    return { ...report, storeFault: (error as Error).message };
  }
}

const nameOf = (setting: MeasuredTuning[TunedSetting]): string => (typeof setting === 'boolean' ? String(setting) : tileName(setting));
