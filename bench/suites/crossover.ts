import * as tf from '@tensorflow/tfjs-core';
import { linearAttentionUpdate, softmaxAttention } from '@seqloom/core';
import type { LinearAttentionInputs, LinearAttentionRule } from '@seqloom/core';
import type { Candidate, Case, Outputs, Prepared } from '../measure/candidate.ts';
import { uniform } from '../measure/inputs.ts';
import { crossing } from '../measure/statistics.ts';
import type { Bench, CaseResult, Suite } from '../measure/suite.ts';
import { ourCandidates, tensorsOf } from '../measure/tfjs.ts';
import { onnxGroupQueryAttention, onnxLinearAttention } from '../peers/onnx-calls.ts';
import { linearAttentionInputs, oneHeadChecks } from './linear-attention.ts';
import { lastRowChecks } from './softmax-attention.ts';

const rules: readonly (readonly [LinearAttentionRule, 'none' | 'channel'])[] = [
  ['linear', 'none'],
  ['gated_delta', 'channel'],
];

function renamed(candidate: Candidate, kind: 'linear' | 'softmax'): Candidate {
  return {
    ...candidate,
    name: `${candidate.name} ${kind}`,
    // the two kinds have different outputs, which are not to be compared
    outputs: async () => Object.fromEntries(Object.entries(await candidate.outputs()).map(([name, values]) => [`${kind} ${name}`, values])),
  };
}

/** A check on the outputs of one kind, whose names carry it. */
function ofKind(check: (outputs: Outputs) => string | null, kind: string): (outputs: Outputs) => string | null {
  const start = `${kind} `;
  return (outputs) =>
    check(
      Object.fromEntries(
        Object.entries(outputs).flatMap(([name, values]) => (name.startsWith(start) ? [[name.slice(start.length), values] as const] : [])),
      ),
    );
}

async function prepare(
  rule: LinearAttentionRule,
  decay: 'none' | 'channel',
  length: number,
  heads: number,
  dim: number,
  { peers }: Bench,
): Promise<Prepared> {
  const linear = linearAttentionInputs({ rule, decay, length, heads, dim });
  const query = uniform([1, length, heads, dim], 11, -2, 2);
  const soft = { query, key: uniform(query.shape, 12, -2, 2), value: uniform(query.shape, 13) };
  const [linearTensors, softTensors] = [tensorsOf(linear), tensorsOf(soft)];
  const linearCall = () => linearAttentionUpdate(linearTensors as unknown as LinearAttentionInputs, { updateRule: rule });
  const softCall = () => softmaxAttention(softTensors, { causal: true });
  // the composed forms take seconds beyond this length
  const mine = (call: Parameters<typeof ourCandidates>[0]): Candidate[] => ourCandidates(call).slice(0, length <= 1024 ? 2 : 1);
  const candidates = [
    ...mine(linearCall).map((candidate) => renamed(candidate, 'linear')),
    ...mine(softCall).map((candidate) => renamed(candidate, 'softmax')),
  ];
  if (peers.onnxRuntime) {
    const native = await peers.onnxRuntime.candidate(onnxLinearAttention(linear, rule));
    const grouped = await peers.onnxRuntime.candidate(onnxGroupQueryAttention(soft));
    candidates.push(renamed(native, 'linear'), renamed(grouped, 'softmax'));
  }
  const checks = [
    ...oneHeadChecks(linear, rule).map((check) => ofKind(check, 'linear')),
    ...lastRowChecks(soft).map((check) => ofKind(check, 'softmax')),
  ];
  return { candidates, checks, dispose: () => tf.dispose([linearTensors, softTensors]) };
}

const makers = ['seqloom', 'composed', 'onnxruntime'];

function notes(results: readonly CaseResult[]): string[] {
  const found: string[] = [];
  for (const series of new Set(results.map((result) => result.series))) {
    const members = results.filter((result) => result.series === series);
    for (const maker of makers) {
      const points = members.flatMap(({ x, rows }) => {
        const time = (kind: string): number | undefined => rows.find(({ candidate }) => candidate === `${maker} ${kind}`)?.ms;
        const [linear, softmax] = [time('linear'), time('softmax')];
        return linear === undefined || softmax === undefined ? [] : [{ x: x!, linear, softmax }];
      });
      if (points.length < 2) continue;
      const [first, last] = [points[0]!.x, points.at(-1)!.x];
      const xs = points.map(({ x }) => x);
      const where = crossing(
        xs,
        points.map(({ linear }) => linear),
        points.map(({ softmax }) => softmax),
      );
      const said =
        where === null
          ? `not faster up to T = ${last}`
          : where === first
            ? `faster from T = ${first} or below`
            : `faster from T = ${Math.round(where)}`;
      found.push(`${series}, ${maker}: linear attention is ${said}`);
    }
  }
  return found;
}

/** Where linear attention overtakes softmax attention. */
export const crossover: Suite = {
  name: 'crossover',
  title: 'Crossover of linear and softmax attention',
  about: 'Forward of a whole sequence, causal, B = 1, H = 8, D = 64: at which length the linear form becomes the faster one.',
  peers: ['onnxruntime'],
  cases: (bench): Case[] =>
    rules.flatMap(([rule, decay]) =>
      (bench.quick ? [16, 64] : [32, 64, 128, 256, 512, 1024, 2048, 4096]).map((length) => ({
        name: `${rule} against softmax, T = ${length}`,
        series: `${rule} against softmax`,
        x: length,
        work: { tokens: length },
        prepare: () => prepare(rule, decay, length, bench.quick ? 2 : 8, bench.quick ? 16 : 64, bench),
      })),
    ),
  notes,
};
