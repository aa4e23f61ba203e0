import * as tf from '@tensorflow/tfjs-core';
import { disposeState } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { architectures, filledState, HybridModel } from '@seqloom/models';
import type { HybridConfig } from '@seqloom/models';
import type { Panel } from '@seqloom/train';
import type { Case, Prepared } from '../measure/candidate.ts';
import { relativeError } from '../measure/parity.ts';
import { bytesText, digits } from '../measure/statistics.ts';
import type { CaseResult, Row, Suite } from '../measure/suite.ts';
import { rowOf } from '../measure/suite.ts';
import { FUSED_BACKEND, PLAIN_BACKEND, tfCandidate, useBackend } from '../measure/tfjs.ts';

const STATE_BYTES = 'state bytes';
const BASELINE = 'llama';
const vocabSize = 8192;
const { based, hymba, 'kimi-linear': kimiLinear, 'transformer-pp': transformerPp } = architectures;

/** The four architectures at one width and about one size. */
function configs(quick: boolean): Readonly<Record<string, HybridConfig>> {
  const [dim, heads, headDim, hidden] = quick ? [32, 2, 16, 64] : [384, 6, 64, 1024];
  const meta = quick ? 4 : 128;
  return {
    [BASELINE]: transformerPp.config({ vocabSize, dim, depth: 10, heads, kvHeads: 2, hidden, tied: true }),
    hymba: hymba.config({
      ...{ vocabSize, dim, depth: 8, heads, kvHeads: 2, hidden, metaTokens: meta, window: 8 * meta + 1 },
      ...{
        globalLayers: [0, 4, 7],
        keyValueGroups: [
          [1, 2, 3],
          [5, 6],
        ],
      },
    }),
    'kimi-linear': kimiLinear.config({
      ...{ vocabSize, dim, depth: 8, fullLayers: [3, 7], heads, deltaHeadDim: headDim, hidden, tied: true },
      ...{ latentDim: 2 * headDim, contentDim: headDim, sharedKeyDim: headDim / 2, valueHeadDim: headDim },
      ...{ experts: 8, topK: 2, expertHidden: hidden / 8 },
    }),
    based: based.config({ vocabSize, dim, heads, depth: 10, mixers: '(conv, linear, window, conv*2)*2' }),
  };
}

/** Fused against composed kernels: logits after some tokens that were really read. */
async function parity(name: string, model: HybridModel): Promise<string | null> {
  const ids = tf.tensor2d(
    Int32Array.from({ length: 40 }, (_, t) => (t * 977) % vocabSize),
    [1, 40],
    'int32',
  );
  const found: Float32Array[] = [];
  for (const backend of [FUSED_BACKEND, PLAIN_BACKEND]) {
    await useBackend(backend);
    const { logits, state } = model.next(ids);
    found.push(await logits.data<'float32'>());
    logits.dispose();
    disposeState(state);
  }
  ids.dispose();
  await useBackend(FUSED_BACKEND);
  const error = relativeError(found[0]!, found[1]!);
  return error <= 1e-3 ? null : `${name}: fused differs from composed by ${error.toExponential(2)}`;
}

async function prepare(context: number, quick: boolean): Promise<Prepared> {
  await useBackend(FUSED_BACKEND);
  const token = tf.tensor2d([104], [1, 1], 'int32');
  const models: [string, HybridModel, State, string | null][] = [];
  for (const [name, config] of Object.entries(configs(quick))) {
    const model = new HybridModel(config);
    const fault = await parity(name, model);
    models.push([name, model, filledState(model, 1, context), fault]);
  }
  const faults = models.map(([, , , fault]) => fault).filter((fault) => fault !== null);
  const states = new Map(models.map(([name, , state]) => [name, state]));
  return {
    candidates: models.map(([name, model]) => ({
      ...tfCandidate(name, FUSED_BACKEND, () => {
        const { logits, state } = model.next(token, { state: states.get(name)! });
        disposeState(state);
        return { [`${name}: logits`]: logits };
      }),
      // a decoder goes on from where it is
      run() {
        const before = states.get(name)!;
        const { logits, state } = model.next(token, { state: before });
        states.set(name, state);
        disposeState(before);
        logits.dispose();
      },
    })),
    checks: [() => faults[0] ?? null],
    facts: Object.fromEntries(
      models.map(([name, model]) => [name, { [STATE_BYTES]: model.stateBytes(1, context), parameters: model.countParameters() }]),
    ),
    dispose() {
      token.dispose();
      for (const state of states.values()) disposeState(state);
      for (const [, model] of models) model.dispose();
    },
  };
}

function curve(results: readonly CaseResult[], title: string, yLabel: string, value: (row: Row) => number): Panel {
  const names = [...new Set(results.flatMap(({ rows }) => rows.map(({ candidate }) => candidate)))];
  const points = (name: string) =>
    results.flatMap(({ x, rows }) => rows.filter(({ candidate }) => candidate === name).map((row) => ({ x: x!, y: value(row) })));
  return { title, xLabel: 'tokens of context', yLabel, lines: names.map((label) => ({ label, points: points(label) })) };
}

const nameOf = (context: number): string => `one token after ${context} tokens`;
const contextsOf = (quick: boolean): number[] => (quick ? [16, 40] : [1024, 4096, 16_384, 65_536]);

/** One token of four architectures after contexts of growing length. */
export const decodeModels: Suite = {
  name: 'decode-models',
  title: 'Decoding with Hymba, Kimi Linear, BASED and Llama',
  about:
    'Whole language models of about 20 million parameters (width 384, 8192 ids; Hymba with 128 meta tokens, windows of 1025 and three global layers; Kimi Linear with two layers of latent attention and 8 experts; Llama with two key-value heads): time of one token, and bytes of state, after a context. Caches are filled with random numbers instead of a text that was read: a token costs what their extents cost. Each call decodes the token after that of the call before.',
  peers: [],
  baseline: BASELINE,
  cases: ({ quick }) =>
    contextsOf(quick).map((context): Case => ({
      name: nameOf(context),
      series: 'one token',
      x: context,
      work: { tokens: 1 },
      prepare: () => prepare(context, quick),
    })),
  panels: (results) => [
    curve(results, 'Decoding', 'tokens per second', (row) => 1000 / row.ms),
    curve(results, 'Memory of one sequence', 'MiB of state', (row) => row.facts[STATE_BYTES]! / 2 ** 20),
  ],
  notes(results) {
    const [short, long] = [1024, 65_536];
    return Object.keys(configs(true)).flatMap((name) => {
      const [first, last] = [rowOf(results, nameOf(short), name), rowOf(results, nameOf(long), name)];
      const llama = rowOf(results, nameOf(long), BASELINE);
      if (!first || !last || !llama) return [];
      return [
        `${name}, ${(first.facts.parameters! / 1e6).toFixed(1)} million parameters: ${digits(1000 / first.ms)} tokens/s after ${short} tokens and ${digits(1000 / last.ms)} after ${long} (${digits(llama.ms / last.ms)}x Llama), with ${bytesText(first.facts[STATE_BYTES]!)} and ${bytesText(last.facts[STATE_BYTES]!)} of state`,
      ];
    });
  },
};
