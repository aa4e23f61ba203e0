import * as tf from '@tensorflow/tfjs-core';
import { Mlp, valueAndGradients } from '@seqloom/core';
import { MemoryLayer, SparseAdamW, titansNeuralMemory } from '@seqloom/memory';
import type { TitansState } from '@seqloom/memory';
import { AdamW } from '@seqloom/train';
import { naiveTitans } from '../../packages/memory/src/titans-neural-memory/naive.ts';
import type { Candidate, Case, Prepared } from '../measure/candidate.ts';
import { OURS } from '../measure/candidate.ts';
import { gainNote, seriesOf } from '../measure/gains.ts';
import { uniform, unitRows } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { CaseResult, Suite } from '../measure/suite.ts';
import { floor, rowOf } from '../measure/suite.ts';
import { replayCases, replayNotes } from './memory-replay.ts';
import { FUSED_BACKEND, gradientCall, tensorsOf, tfCandidate, useBackend } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';

const SEQUENTIAL = 'sequential';
const DENSE = 'dense gradient';
const MLP = 'mlp';

/** Sizes of the neural memory: two layers, H heads. */
interface MemorySizes {
  readonly heads: number;
  readonly dim: number;
  readonly hidden: number;
  readonly chunkSize: number;
}

const usual: MemorySizes = { heads: 4, dim: 32, hidden: 64, chunkSize: 32 };
const tiny: MemorySizes = { heads: 2, dim: 4, hidden: 8, chunkSize: 8 };
// the oracle of one head takes seconds up to here
const ORACLE_LENGTH = 256;

const WEIGHTS = ['weight1', 'weight2'] as const;
const TOKENS = ['query', 'key', 'value', 'stepSize', 'logDecay', 'logMomentum'] as const;
type TitansName = (typeof WEIGHTS)[number] | (typeof TOKENS)[number];

function titansInputs(length: number, { heads, dim, hidden }: MemorySizes): Record<TitansName, HostArray> {
  const gates = (seed: number, low: number, high: number): HostArray => uniform([1, length, heads], seed, low, high);
  return {
    query: unitRows([1, length, heads, dim], 1),
    key: unitRows([1, length, heads, dim], 2),
    value: uniform([1, length, heads, dim], 3),
    stepSize: gates(4, 0.005, 0.02),
    logDecay: gates(5, -0.02, 0),
    logMomentum: gates(6, -2, -0.5),
    weight1: uniform([1, heads, dim, hidden], 7, -0.3, 0.3),
    weight2: uniform([1, heads, hidden, dim], 8, -0.3, 0.3),
  };
}

function titansCall(tensors: Readonly<Record<string, tf.Tensor>>, form: 'chunk' | 'recurrent', { chunkSize }: MemorySizes) {
  const state = Object.fromEntries(WEIGHTS.map((name) => [name, tensors[name]!])) satisfies TitansState;
  const tokens = Object.fromEntries(TOKENS.map((name) => [name, tensors[name]!])) as Record<(typeof TOKENS)[number], tf.Tensor>;
  return titansNeuralMemory(tokens, { state, form, chunkSize });
}

/** The first head's output by the specification. */
function titansOracle(inputs: Record<TitansName, HostArray>, length: number, { heads, dim, hidden, chunkSize }: MemorySizes): Float64Array {
  const rows = (name: TitansName): Float64Array[] =>
    Array.from({ length }, (_, t) => Float64Array.from(inputs[name].data.subarray(t * heads * dim, t * heads * dim + dim)));
  const gates = (name: TitansName): Float64Array => Float64Array.from({ length }, (_, t) => inputs[name].data[t * heads]!);
  const matrix = (name: TitansName, wide: number, out: number): Float64Array[] =>
    Array.from({ length: wide }, (_, i) => Float64Array.from(inputs[name].data.subarray(i * out, (i + 1) * out)));
  const weights = [matrix('weight1', dim, hidden), matrix('weight2', hidden, dim)];
  const { output } = naiveTitans(
    {
      query: rows('query'),
      key: rows('key'),
      value: rows('value'),
      stepSize: gates('stepSize'),
      logDecay: gates('logDecay'),
      logMomentum: gates('logMomentum'),
    },
    { weights, momenta: weights.map((weight) => weight.map((row) => row.map(() => 0))), references: weights },
    { chunkSize, activation: 'gelu', norm: null },
  );
  return Float64Array.from(output.flatMap((row) => [...row]));
}

function titansForward(length: number, sizes: MemorySizes): Prepared {
  const inputs = titansInputs(length, sizes);
  const tensors = tensorsOf(inputs);
  const call = (form: 'chunk' | 'recurrent') => (): Record<string, tf.Tensor> => {
    const { output, state } = titansCall(tensors, form, sizes);
    return { output, weight1: state['weight1']!, weight2: state['weight2']! };
  };
  const { heads, dim } = sizes;
  const first = (values: ArrayLike<number>): number[] =>
    Array.from({ length: length * dim }, (_, i) => values[Math.floor(i / dim) * heads * dim + (i % dim)]!);
  return {
    candidates: [tfCandidate(OURS, FUSED_BACKEND, call('chunk')), tfCandidate(SEQUENTIAL, FUSED_BACKEND, call('recurrent'))],
    checks: length <= ORACLE_LENGTH ? [equals('output', titansOracle(inputs, length, sizes), { part: first })] : [],
    dispose: () => tf.dispose(tensors),
  };
}

function titansBackward(length: number, sizes: MemorySizes): Prepared {
  const tensors = tensorsOf(titansInputs(length, sizes));
  const cotangent = tensorsOf({ output: uniform([1, length, sizes.heads, sizes.dim], 9) });
  const call = (form: 'chunk' | 'recurrent') =>
    gradientCall((given) => ({ output: titansCall(given, form, sizes).output }), { ...tensors }, cotangent);
  return {
    candidates: [tfCandidate(OURS, FUSED_BACKEND, call('chunk')), tfCandidate(SEQUENTIAL, FUSED_BACKEND, call('recurrent'))],
    // gradients of both forms are held to the specification by the mechanism's laws
    checks: [],
    agreement: 1e-3,
    dispose: () => tf.dispose([tensors, cotangent]),
  };
}

/** Sizes of a memory layer beside its slots. */
interface LayerSizes {
  readonly dim: number;
  readonly valueDim: number;
  readonly heads: number;
  readonly topK: number;
  readonly tokens: number;
}

const usualLayer: LayerSizes = { dim: 64, valueDim: 16, heads: 2, topK: 16, tokens: 128 };
const tinyLayer: LayerSizes = { dim: 8, valueDim: 4, heads: 2, topK: 4, tokens: 8 };

function memoryLayer(halfKeys: number, { dim, valueDim, heads, topK }: LayerSizes, sparse: boolean): MemoryLayer {
  return new MemoryLayer({ dim, valueDim, heads, topK, halfKeys, sparse, seed: 3 });
}

async function layerForward(halfKeys: number, sizes: LayerSizes): Promise<Prepared> {
  await useBackend(FUSED_BACKEND);
  const layer = memoryLayer(halfKeys, sizes, true);
  const mlp = new Mlp({ dim: sizes.dim, seed: 3 });
  const { x } = tensorsOf({ x: uniform([1, sizes.tokens, sizes.dim], 1) });
  return {
    candidates: [
      tfCandidate(OURS, FUSED_BACKEND, () => ({ output: layer.forward(x as tf.Tensor3D) })),
      tfCandidate(MLP, FUSED_BACKEND, () => ({ 'output of the mlp': mlp.forward(x as tf.Tensor3D) }), 'the layer that it replaces'),
    ],
    // held to the specification by the mechanism's laws
    checks: [],
    dispose: () => {
      x.dispose();
      layer.dispose();
      mlp.dispose();
    },
  };
}

/** Loss, gradients, AdamW of all but the table, and the table's own step; or AdamW of all. */
function trainingCandidate(name: string, halfKeys: number, sizes: LayerSizes, x: tf.Tensor3D): Candidate {
  const sparse = name === OURS;
  const layer = memoryLayer(halfKeys, sizes, sparse);
  const optimiser = new AdamW(layer.namedParameters());
  const table = sparse ? new SparseAdamW(layer.table) : null;
  const step = async (): Promise<Float32Array> => {
    const variables = optimiser.rules.map(({ parameter }) => parameter.variable);
    const { value, gradients } = valueAndGradients(() => tf.mean(tf.square(layer.forward(x))), variables);
    const named = new Map(optimiser.rules.flatMap(({ name: key }, i) => (gradients[i] ? [[key, gradients[i]] as const] : [])));
    optimiser.step(named, { learningRate: 1e-3 });
    await table?.step({ learningRate: 1e-3 });
    const loss = Float32Array.from(await value.data());
    tf.dispose([value, ...named.values()]);
    return loss;
  };
  return {
    name,
    backend: FUSED_BACKEND,
    run: async () => void (await step()),
    outputs: async () => ({ loss: await step() }),
    dispose: () => {
      optimiser.dispose();
      layer.dispose();
    },
  };
}

async function layerTraining(halfKeys: number, sizes: LayerSizes): Promise<Prepared> {
  await useBackend(FUSED_BACKEND);
  const { x } = tensorsOf({ x: uniform([1, sizes.tokens, sizes.dim], 1) });
  return {
    candidates: [OURS, DENSE].map((name) => trainingCandidate(name, halfKeys, sizes, x as tf.Tensor3D)),
    // both start from the same seed: the first loss must agree
    checks: [],
    dispose: () => tf.dispose(x),
  };
}

const forwardName = (slots: number): string => `memory layer, 2^${slots} slots, forward`;
const trainingName = (slots: number): string => `memory layer, 2^${slots} slots, training step`;

function cases(quick: boolean): Case[] {
  const sizes = quick ? tiny : usual;
  const perToken = 12 * sizes.heads * 2 * sizes.dim * sizes.hidden;
  const titans = (quick ? [16, 40] : [64, 256, 1024, 4096]).flatMap((length): Case[] => [
    {
      name: `titans, forward, T = ${length}`,
      series: 'titans, forward',
      x: length,
      work: { tokens: length, flops: length * perToken },
      prepare: () => titansForward(length, sizes),
    },
    ...(length <= 1024
      ? [
          {
            name: `titans, forward + backward, T = ${length}`,
            series: 'titans, forward + backward',
            x: length,
            work: { tokens: length },
            prepare: () => titansBackward(length, sizes),
          },
        ]
      : []),
  ]);
  const layer = quick ? tinyLayer : usualLayer;
  const slots = (quick ? [6, 10] : [10, 12, 14, 16, 18, 20]).flatMap((power): Case[] => [
    {
      name: forwardName(power),
      series: 'memory layer, forward',
      x: 2 ** power,
      work: { tokens: layer.tokens },
      prepare: () => layerForward(2 ** (power / 2), layer),
    },
    {
      name: trainingName(power),
      series: 'memory layer, training step',
      x: 2 ** power,
      work: { tokens: layer.tokens },
      prepare: () => layerTraining(2 ** (power / 2), layer),
    },
  ]);
  return [...titans, ...slots, ...replayCases(quick)];
}

/** Says how much each form gains on the other along its curve. */
function notes(results: readonly CaseResult[]): string[] {
  const compared = seriesOf(results).filter((series) => series !== 'memory replay');
  const gains = compared.map((series) =>
    gainNote(results, series, series.startsWith('titans') ? SEQUENTIAL : series.endsWith('step') ? DENSE : MLP),
  );
  return [...gains, ...replayNotes(results)];
}

/** Memory that learns while it reads, and memory layers by the number of their slots. */
export const memory: Suite = {
  name: 'memory',
  title: 'Neural memory and memory layers',
  about:
    "Titans' two-layer memory in chunks beside the same recurrence token by token, whose outputs must agree and, up to T = 256, equal the float64 specification; and a Memory+ layer from 2^10 to 2^20 slots: forward beside the MLP that it replaces, and a training step with row-wise updates beside one whose gradient is as large as the table, with equal losses. The half keys, which are the square root of the table, still grow. Memformer's memory replay beside plain back-propagation through time: same gradients, peak heap over the number of segments.",
  peers: [],
  cases: ({ quick }) => cases(quick),
  floors(results) {
    const growth = (nameOf: (slots: number) => string): number | null => {
      const [least, most] = [10, 20].map((slots) => rowOf(results, nameOf(slots), OURS)?.ms);
      return least && most ? most / least : null;
    };
    return [
      floor('training step at 2^20 slots over 2^10', 'at most', 4, growth(trainingName)),
      floor(
        'titans in chunks over token by token, T = 1024',
        'at least',
        4,
        rowOf(results, 'titans, forward, T = 1024', SEQUENTIAL)?.ratio,
      ),
    ];
  },
  notes,
};
