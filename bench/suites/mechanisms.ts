import { readFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import { disposeState, valueAndGradients } from '@seqloom/core';
import type { SequenceMixer } from '@seqloom/core';
import { defaultComponents } from '@seqloom/models';
import type { Candidate, Case, Outputs, Prepared } from '../measure/candidate.ts';
import { uniform } from '../measure/inputs.ts';
import { relativeError } from '../measure/parity.ts';
import { bytesText, crossing, digits } from '../measure/statistics.ts';
import type { Bench, CaseResult, Row, Suite } from '../measure/suite.ts';
import { FUSED_BACKEND, PLAIN_BACKEND, tfCandidate, useBackend } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';

const BASELINE = 'mha-mqa-gqa';
const STATE_BYTES = 'state bytes';
/** Tokens that are also computed alone, and on composed kernels, for parity. */
const PREFIX = 65;

// layers whose config is not dim and heads alone
const settings: Readonly<Record<string, Readonly<Record<string, unknown>>>> = { hgrn: {} };

/** Ids of a package's mechanisms that mix a sequence causally by itself, from their cards. */
export function causalMechanisms(name: string): string[] {
  const file = new URL('../../mechanisms.json', import.meta.url);
  const cards = JSON.parse(readFileSync(file, 'utf8')) as { id: string; package: string; patterns: string[] }[];
  return cards
    .filter((card) => card.package === `@seqloom/${name}` && card.patterns.includes('causal-self') && card.id in defaultComponents.mixers)
    .map(({ id }) => id);
}

function build(id: string, dim: number, heads: number): SequenceMixer {
  return defaultComponents.mixers[id]!({ dim, seed: 1, ...(settings[id] ?? { heads }) });
}

/** Output of a layer over a whole sequence; with a gradient, that of input and parameters for a random upstream gradient. */
function call(layer: SequenceMixer, x: tf.Tensor, backward: boolean): Record<string, tf.Tensor> {
  const forward = (): tf.Tensor => {
    const { output, state } = layer.forward(x, { training: backward });
    disposeState(state);
    return output;
  };
  if (!backward) return { output: forward() };
  const variables = layer.parameters().map((parameter) => parameter.variable);
  // a loss whose upstream gradient is not constant: the mean of squares
  const { value, gradients } = valueAndGradients(() => tf.mean(tf.square(forward())), [x, ...variables]);
  value.dispose();
  tf.dispose(gradients.slice(1).filter((gradient) => gradient !== null));
  return { 'gradient of x': gradients[0]! };
}

const renamed = (id: string, candidate: Candidate): Candidate => ({
  ...candidate,
  // outputs of different mechanisms are not to be compared
  outputs: async () => Object.fromEntries(Object.entries(await candidate.outputs()).map(([name, values]) => [`${id} ${name}`, values])),
});

/**
 * Holds each mechanism to its composed form: forward on the first tokens, whose outputs no later token may change; gradients on a
 * sequence of that length alone, since a gradient depends on everything.
 */
async function parity(id: string, layer: SequenceMixer, x: HostArray, backward: boolean): Promise<string | null> {
  const width = x.shape[2]!;
  const start = tf.tensor(x.data.slice(0, PREFIX * width), [1, Math.min(PREFIX, x.shape[1]!), width]);
  const results: Float32Array[] = [];
  for (const backend of [FUSED_BACKEND, PLAIN_BACKEND]) {
    await useBackend(backend);
    const [output] = Object.values(call(layer, start, backward));
    results.push(await output!.data<'float32'>());
    output!.dispose();
  }
  start.dispose();
  await useBackend(FUSED_BACKEND);
  const error = relativeError(results[0]!, results[1]!);
  return error <= 1e-3 ? null : `${id}: fused differs from composed by ${error.toExponential(2)}`;
}

async function prepare(ids: readonly string[], length: number, dim: number, heads: number, backward: boolean): Promise<Prepared> {
  await useBackend(FUSED_BACKEND);
  const input = uniform([1, length, dim], 1);
  const x = tf.tensor(input.data, [...input.shape], 'float32');
  const layers = ids.map((id) => [id, build(id, dim, heads)] as const);
  const faults = new Map<string, string | null>();
  for (const [id, layer] of layers) faults.set(id, await parity(id, layer, input, backward));
  return {
    candidates: layers.map(([id, layer]) =>
      renamed(
        id,
        tfCandidate(id, FUSED_BACKEND, () => call(layer, x, backward)),
      ),
    ),
    checks: [
      (outputs: Outputs) => {
        const id = Object.keys(outputs)[0]!.split(' ')[0]!;
        const finite = Object.values(outputs).every((values) => Array.prototype.every.call(values, Number.isFinite));
        return faults.get(id) ?? (finite ? null : 'not finite');
      },
    ],
    facts: Object.fromEntries(layers.map(([id, layer]) => [id, { [STATE_BYTES]: layer.stateBytes(1, length) }])),
    dispose() {
      x.dispose();
      for (const [, layer] of layers) layer.dispose();
    },
  };
}

function notes(results: readonly CaseResult[]): string[] {
  const found: string[] = [];
  for (const series of new Set(results.map((result) => result.series))) {
    const members = results.filter((result) => result.series === series).toSorted((a, b) => a.x! - b.x!);
    const curve = (id: string): Map<number, Row> =>
      new Map(members.flatMap(({ x, rows }) => rows.filter(({ candidate }) => candidate === id).map((row): [number, Row] => [x!, row])));
    const soft = curve(BASELINE);
    for (const id of new Set<string>(members.flatMap(({ rows }) => rows.map(({ candidate }) => candidate)))) {
      if (id === BASELINE) continue;
      const own = curve(id);
      const xs = [...own.keys()].filter((x) => soft.has(x));
      if (xs.length < 2) continue;
      const time = (of: typeof own): number[] => xs.map((x) => of.get(x)!.ms);
      const where = crossing(xs, time(own), time(soft));
      const last = xs.at(-1)!;
      const said =
        where === null
          ? `not faster than softmax attention up to T = ${last}`
          : `faster than softmax attention from T = ${Math.round(where)}${where === xs[0] ? ' or below' : ''}`;
      const [mine, theirs] = [own.get(last)!, soft.get(last)!];
      found.push(
        `${series}, ${id}: ${said}; ${digits(theirs.ms / mine.ms)}x at T = ${last}, with ${bytesText(mine.facts[STATE_BYTES]!)} of state against ${bytesText(theirs.facts[STATE_BYTES]!)}`,
      );
    }
  }
  return found;
}

/** A suite over all causal layers of a package, beside softmax attention. */
export function layerSuite(suite: Pick<Suite, 'name' | 'title'> & { readonly family: string }): Suite {
  const { family, ...names } = suite;
  return {
    ...names,
    about:
      'Whole layers with their projections, convolutions, gates and norms at their default settings, B = 1, width 128, two heads where they have heads: output of a sequence, and gradients of input and parameters. `mha-mqa-gqa` is softmax attention with 64 channels per head. Red parity (fused against composed) is not timed.',
    peers: [],
    baseline: BASELINE,
    cases(bench: Bench): Case[] {
      const ids = [BASELINE, ...causalMechanisms(family)];
      const [dim, heads] = bench.quick ? [16, 2] : [128, 2];
      return [false, true].flatMap((backward) =>
        (bench.quick ? [32, 70] : [512, 2048, 8192, 32_768]).map((length): Case => {
          const direction = backward ? 'forward + backward' : 'forward';
          return {
            name: `${direction}, T = ${length}`,
            series: direction,
            x: length,
            work: { tokens: length },
            prepare: () => prepare(ids, length, dim!, heads!, backward),
          };
        }),
      );
    },
    notes,
  };
}

/** Every linear-attention layer. */
export const mechanisms: Suite = layerSuite({
  name: 'mechanisms',
  title: 'Linear-attention layers beside softmax attention',
  family: 'linear-attention',
});
