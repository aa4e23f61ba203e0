import * as tf from '@tensorflow/tfjs-core';
import { linearAttentionUpdate } from '@seqloom/core';
import type { LinearAttentionInputs, LinearAttentionRule } from '@seqloom/core';
import { naiveLinearAttention, weightedSum64 } from '../../packages/testing/src/oracle/index.ts';
import type { Array64 } from '../../packages/testing/src/oracle/index.ts';
import type { Candidate, Case, Outputs, Prepared, Work } from '../measure/candidate.ts';
import { COMPOSED, OURS } from '../measure/candidate.ts';
import { bytesOf, directionCheck, doubles, headOf, pickHead, uniform, unitRows } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { Bench, CaseResult, Suite } from '../measure/suite.ts';
import { bothOverForward, floor, rowOf } from '../measure/suite.ts';
import { forwardAlone, FUSED_BACKEND, gradientCall, ourCandidates, tensorsOf, tfCandidate } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';
import { onnxLinearAttention } from '../peers/onnx-calls.ts';

type Decay = 'none' | 'head' | 'channel';

interface Shape {
  readonly rule: LinearAttentionRule;
  readonly decay: Decay;
  readonly length: number;
  readonly heads: number;
  readonly dim: number;
}

const variants: readonly (readonly [LinearAttentionRule, Decay])[] = [
  ['linear', 'none'],
  ['gated', 'head'],
  ['gated', 'channel'],
  ['delta', 'none'],
  ['gated_delta', 'head'],
  ['gated_delta', 'channel'],
];

const title = ({ rule, decay }: Pick<Shape, 'rule' | 'decay'>): string => (decay === 'none' ? rule : `${rule}, decay per ${decay}`);
const forwardName = (shape: Shape): string => `${title(shape)}, forward, T = ${shape.length}`;
const bothName = (shape: Shape): string => `${title(shape)}, forward + backward, T = ${shape.length}`;
const lengths = [1024, 4096, 16_384, 65_536];
const lengthsName = (shape: Shape): string => `${title(shape)}, forward, ${shape.length} tokens in calls of each length`;
const callsOf = (calls: number, length: number): string => `${calls} calls of T = ${length}`;
const at = (rule: LinearAttentionRule, decay: Decay, length: number): Shape => ({ rule, decay, length, heads: 8, dim: 64 });

/** Inputs of a shape, one batch row; keys have unit length, so that delta rules stay bounded. */
export function linearAttentionInputs({ rule, decay, length, heads, dim }: Shape): Record<string, HostArray> {
  const row = [1, length, heads, dim];
  return {
    query: uniform(row, 1),
    key: unitRows(row, 2),
    value: uniform(row, 3),
    ...(decay !== 'none' && { logDecay: uniform(decay === 'head' ? row.slice(0, 3) : row, 4, -0.2, 0) }),
    ...(rule.endsWith('delta') && { beta: uniform(row.slice(0, 3), 5, 0, 1) }),
  };
}

const tooLong = { name: COMPOSED, reason: 'takes minutes at this length' };

/**
 * Operations that the recurrence needs per token and head: decay of the state, recall (delta rules), write and read, each Dk x Dv; what a
 * chunked method does beyond that is its own affair.
 */
function flopsOf({ rule, decay, length, heads, dim }: Shape): number {
  const products = 4 + (rule.endsWith('delta') ? 2 : 0);
  return length * heads * dim * dim * (products + (decay === 'none' ? 0 : 1));
}

/** Checks of the last head in full length by the oracle; the other heads are held to it by the other candidates. */
export function oneHeadChecks(
  inputs: Readonly<Record<string, HostArray>>,
  rule: LinearAttentionRule,
  suffix = '',
): ((outputs: Outputs) => string | null)[] {
  const { shape } = inputs['value']!;
  const [, , heads, dim] = shape as [number, number, number, number];
  const head = heads - 1;
  const one = Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, headOf(array, head)]));
  const wanted = naiveLinearAttention(one as unknown as Parameters<typeof naiveLinearAttention>[0], { updateRule: rule });
  return [
    equals(`output${suffix}`, wanted.output.data, { part: (values) => pickHead(values, shape, head) }),
    equals(`state${suffix}`, wanted.state.data, { part: (values) => Array.prototype.slice.call(values, head * dim * dim) as number[] }),
  ];
}

async function forward(shape: Shape, { peers }: Bench, composedToo: boolean): Promise<Prepared> {
  const { rule } = shape;
  const inputs = linearAttentionInputs(shape);
  const tensors = tensorsOf(inputs);
  const [ours, composed] = ourCandidates(() => linearAttentionUpdate(tensors as unknown as LinearAttentionInputs, { updateRule: rule }));
  const candidates: Candidate[] = composedToo ? [ours, composed] : [ours];
  const native = await peers.onnxRuntime?.candidate(onnxLinearAttention(inputs, rule));
  if (native) candidates.push(native);
  return {
    candidates,
    checks: oneHeadChecks(inputs, rule),
    skipped: composedToo ? [] : [tooLong],
    dispose: () => tf.dispose(tensors),
  };
}

function both(shape: Shape, composedToo: boolean): Prepared {
  const { rule } = shape;
  const inputs = linearAttentionInputs(shape);
  const cotangents = { output: uniform(inputs['value']!.shape, 6) };
  const tensors = tensorsOf(inputs);
  const weights = tensorsOf(cotangents);
  const call = gradientCall((given) => linearAttentionUpdate(given as LinearAttentionInputs, { updateRule: rule }), tensors, weights);
  const weights64 = { output: doubles(cotangents.output) };
  const loss = (given: Record<string, Array64>): number =>
    weightedSum64(
      naiveLinearAttention(given as unknown as Parameters<typeof naiveLinearAttention>[0], { updateRule: rule }) as never,
      weights64,
    );
  return {
    candidates: [
      ...ourCandidates(call).slice(0, composedToo ? 2 : 1),
      forwardAlone(
        () => linearAttentionUpdate(tensors as unknown as LinearAttentionInputs, { updateRule: rule }),
        workOf(shape, 'forward'),
      ),
    ],
    checks: [directionCheck(inputs, loss)],
    agreement: 1e-3,
    skipped: composedToo ? [] : [tooLong],
    dispose: () => tf.dispose([tensors, weights]),
  };
}

function workOf(shape: Shape, direction: 'forward' | 'both'): Work {
  const inputs = { row: { shape: [1, shape.length, shape.heads, shape.dim] }, head: { shape: [1, shape.length, shape.heads] } };
  const read = bytesOf([
    inputs.row,
    inputs.row,
    inputs.row,
    ...(shape.decay === 'none' ? [] : [shape.decay === 'head' ? inputs.head : inputs.row]),
    ...(shape.rule.endsWith('delta') ? [inputs.head] : []),
  ]);
  const written = bytesOf([inputs.row, { shape: [1, shape.heads, shape.dim, shape.dim] }]);
  const forwardOnly = direction === 'forward';
  return {
    tokens: shape.length,
    // a gradient is twice the work of its forward
    flops: flopsOf(shape) * (forwardOnly ? 1 : 3),
    bytes: forwardOnly ? read + written : 2 * read + written,
  };
}

function caseOf(shape: Shape, direction: 'forward' | 'both', bench: Bench): Case {
  const forwardOnly = direction === 'forward';
  return {
    name: forwardOnly ? forwardName(shape) : bothName(shape),
    series: `${title(shape)}, ${forwardOnly ? 'forward' : 'forward + backward'}`,
    x: shape.length,
    work: workOf(shape, direction),
    prepare: () => (forwardOnly ? forward(shape, bench, shape.length <= 4096) : both(shape, shape.length <= 1024)),
  };
}

/** The same tokens in calls of every length, in turns: what a token costs in a long sequence and in a short one. */
function lengthsCase(shapes: readonly Shape[]): Case {
  const longest = shapes.at(-1)!;
  const tokens = longest.length;
  return {
    name: lengthsName(longest),
    work: workOf(longest, 'forward'),
    // one length is to be within 15 % of another, and a call takes half a second
    budgets: 4,
    prepare() {
      const sets = shapes.map((shape) => {
        const inputs = linearAttentionInputs(shape);
        return { shape, inputs, tensors: tensorsOf(inputs) as unknown as LinearAttentionInputs };
      });
      const candidates = sets.map(({ shape: { rule, length }, inputs, tensors }): Candidate => {
        const once = tfCandidate(length === tokens ? OURS : callsOf(tokens / length, length), FUSED_BACKEND, () =>
          linearAttentionUpdate(tensors, { updateRule: rule }),
        );
        const run = (): void => {
          for (let done = 0; done < tokens; done += length) void once.run();
        };
        // a result per length, each under its own name
        const outputs = async (): Promise<Outputs> =>
          Object.fromEntries(Object.entries(await once.outputs()).map(([name, values]) => [`${name}, T = ${length}`, values]));
        return { ...once, run, outputs, checks: oneHeadChecks(inputs, rule, `, T = ${length}`) };
      });
      return { candidates, checks: [], dispose: () => tf.dispose(sets.map(({ tensors }) => Object.values(tensors) as tf.Tensor[])) };
    },
  };
}

function notes(results: readonly CaseResult[]): string[] {
  const forwardAt = (rule: LinearAttentionRule, decay: Decay) => rowOf(results, forwardName(at(rule, decay, 4096)), OURS);
  return variants.flatMap(([rule, decay]) => {
    const row = forwardAt(rule, decay);
    return row
      ? [`${title({ rule, decay })}: ${((row.ms * 1000) / 4096).toFixed(2)} µs per token forward at T = 4096 (${row.implementation})`]
      : [];
  });
}

/** Linear attention, all rules. */
export const linearAttention: Suite = {
  name: 'linear-attention',
  title: 'Linear attention',
  about:
    'The `LinearAttention` contract, B = 1, H = 8, Dk = Dv = 64. `onnxruntime` is its native `com.microsoft.LinearAttention` on one thread.',
  peers: ['onnxruntime'],
  cases(bench) {
    if (bench.quick) {
      const tiny = (rule: LinearAttentionRule, decay: Decay, length: number): Shape => ({ rule, decay, length, heads: 2, dim: 16 });
      return [
        ...variants.map(([rule, decay]) => caseOf(tiny(rule, decay, 70), 'forward', bench)),
        caseOf(tiny('gated_delta', 'channel', 140), 'forward', bench),
        caseOf(tiny('gated_delta', 'channel', 70), 'both', bench),
        lengthsCase([35, 70].map((length) => tiny('gated', 'head', length))),
      ];
    }
    return [
      ...variants.flatMap(([rule, decay]) => [256, ...lengths].map((length) => caseOf(at(rule, decay, length), 'forward', bench))),
      ...variants.flatMap(([rule, decay]) => [1024, 4096].map((length) => caseOf(at(rule, decay, length), 'both', bench))),
      ...variants.map(([rule, decay]) => lengthsCase(lengths.map((length) => at(rule, decay, length)))),
    ];
  },
  floors(results) {
    const row = (rule: LinearAttentionRule, decay: Decay, candidate: string) =>
      rowOf(results, forwardName(at(rule, decay, 4096)), candidate);
    const spread = (rule: LinearAttentionRule, decay: Decay): number | undefined => {
      const rows = results.find(({ name }) => name === lengthsName(at(rule, decay, lengths.at(-1)!)))?.rows ?? [];
      const ratios = rows.flatMap(({ ratio }) => ratio ?? []);
      return ratios.length === lengths.length ? Math.max(...ratios) / Math.min(...ratios) : undefined;
    };
    return [
      ...variants.map(([rule, decay]) =>
        floor(`${title({ rule, decay })}, T = 4096, against onnxruntime`, 'at least', 1, row(rule, decay, 'onnxruntime')?.ratio),
      ),
      floor('gated_delta, decay per channel, T = 4096, against composed', 'at least', 10, row('gated_delta', 'channel', COMPOSED)?.ratio),
      ...variants.map(([rule, decay]) => {
        const both = bothOverForward(results, bothName(at(rule, decay, 4096)));
        return floor(`${title({ rule, decay })}, forward + backward over forward, T = 4096`, 'at most', 4, both);
      }),
      ...variants.map(([rule, decay]) =>
        floor(`${title({ rule, decay })}, largest over smallest time per token, T = 1024 to 65536`, 'at most', 1.15, spread(rule, decay)),
      ),
    ];
  },
  notes,
};
