import * as tf from '@tensorflow/tfjs-core';
import { Mlp, valueAndGradients } from '@seqloom/core';
import type { ChannelMixer } from '@seqloom/core';
import { MixtureOfExperts } from '@seqloom/models';
import type { Case, Prepared } from '../measure/candidate.ts';
import { COMPOSED, OURS } from '../measure/candidate.ts';
import { uniform } from '../measure/inputs.ts';
import type { Suite } from '../measure/suite.ts';
import { floor, rowOf } from '../measure/suite.ts';
import { FUSED_BACKEND, PLAIN_BACKEND, tensorsOf, tfCandidate, useBackend } from '../measure/tfjs.ts';

const TOTAL = 'mlp of the total width';
const ACTIVE = 'mlp of the active width';

interface Sizes {
  readonly dim: number;
  readonly experts: number;
  readonly topK: number;
  readonly hidden: number;
}

const usual: Sizes = { dim: 128, experts: 32, topK: 2, hidden: 64 };
const tiny: Sizes = { dim: 16, experts: 8, topK: 2, hidden: 8 };

async function prepare(tokens: number, { dim, experts, topK, hidden }: Sizes, backward: boolean): Promise<Prepared> {
  await useBackend(FUSED_BACKEND);
  const layers = {
    moe: new MixtureOfExperts({ dim, experts, topK, hidden, seed: 3 }),
    total: new Mlp({ dim, hidden: experts * hidden, seed: 3 }),
    active: new Mlp({ dim, hidden: topK * hidden, seed: 3 }),
  };
  const { x } = tensorsOf({ x: uniform([1, tokens, dim], 1) });
  const call = (layer: ChannelMixer, of: string) => (): Record<string, tf.Tensor> => {
    if (!backward) return { [`output of ${of}`]: layer.forward(x as tf.Tensor3D) };
    const variables = layer.parameters().map(({ value }) => value);
    const { value, gradients } = valueAndGradients(() => tf.sum(tf.square(layer.forward(x as tf.Tensor3D))), variables);
    return { [`loss of ${of}`]: value, ...Object.fromEntries(gradients.map((gradient, i) => [`gradient ${i} of ${of}`, gradient!])) };
  };
  return {
    candidates: [
      tfCandidate(OURS, FUSED_BACKEND, call(layers.moe, 'moe')),
      tfCandidate(COMPOSED, PLAIN_BACKEND, call(layers.moe, 'moe')),
      tfCandidate(TOTAL, FUSED_BACKEND, call(layers.total, TOTAL), 'as many parameters'),
      tfCandidate(ACTIVE, FUSED_BACKEND, call(layers.active, ACTIVE), 'as much work per token'),
    ],
    // held to the specification by the mechanism's laws
    checks: [],
    // a token whose second and third expert score alike may go to either
    agreement: 0.05,
    dispose: () => {
      x.dispose();
      for (const layer of Object.values(layers)) layer.dispose();
    },
  };
}

const nameOf = (backward: boolean, tokens: number): string => `${backward ? 'forward + backward' : 'forward'}, ${tokens} tokens`;

/** A mixture of experts beside the dense layers of its total and of its active width. */
export const moe: Suite = {
  name: 'moe',
  title: 'Mixture of experts',
  about:
    'A layer of 32 experts, of which a token visits two, by the number of tokens in a call: fused and composed, beside a gated MLP with as many parameters (16 times the work per token) and one with as much work per token (a sixteenth of the parameters). D = 128, experts of width 64.',
  peers: [],
  cases: ({ quick }) => {
    const sizes = quick ? tiny : usual;
    return [false, true].flatMap((backward) =>
      (quick ? [1, 32] : [1, 16, 128, 1024, 4096]).map((tokens): Case => {
        const flops = tokens * (6 * sizes.topK * sizes.dim * sizes.hidden + 2 * sizes.dim * sizes.experts) * (backward ? 3 : 1);
        const series = backward ? 'forward + backward' : 'forward';
        return {
          name: nameOf(backward, tokens),
          series,
          x: tokens,
          work: { tokens, flops },
          prepare: () => prepare(tokens, sizes, backward),
        };
      }),
    );
  },
  floors: (results) =>
    [false, true].map((backward) =>
      floor(
        `mlp of the total width over the mixture, ${nameOf(backward, 1024)}`,
        'at least',
        4,
        rowOf(results, nameOf(backward, 1024), TOTAL)?.ratio,
      ),
    ),
};
