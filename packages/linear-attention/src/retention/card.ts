import type { MechanismCard } from '@seqloom/core';

/** What is known about retention. */
export const card: MechanismCard = {
  id: 'retention',
  title: 'Retention (RetNet)',
  paper: {
    title: 'Retentive Network: A Successor to Transformer for Large Language Models',
    authors: 'Sun, Dong, Huang, Ma, Xia, Xue, Wang, Wei',
    year: 2023,
    id: 'arXiv:2307.08621',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'parallel', 'chunk', 'recurrent'],
  kernels: ['LinearAttention', 'Rotary', 'RmsNorm'],
  decode: 'constant-state',
  // of the causal pattern; position is one more number
  stateBytes: (_length, { heads = 1, keyDim = 1, valueDim = 2 }) => 4 * (heads * keyDim * valueDim + 1),
  complexity: { train: 'O(T C (K + V) + T K V)', decode: 'O(K V)' },
  reference: {
    repository: 'fla-org/flash-linear-attention',
    path: 'fla/ops/retention/naive.py, fla/layers/multiscale_retention.py; microsoft/torchscale torchscale/component/multiscale_retention.py',
    licence: 'MIT',
  },
  deviations: [
    'The three rescalings of the paper, which the norm after them takes out again, are left out, as in flash-linear-attention; the state is the plain sum.',
    'The norm per head is an RMS norm with weights, as in flash-linear-attention; torchscale has none and the paper a group norm.',
    'The noncausal pattern, scores times gamma^|n - m|, is not in the paper; it is two causal passes, one of them backwards, and needs no state.',
    'The projections start with normal numbers of the variance that torchscale gives its uniform ones.',
  ],
  degenerate: [
    'With decays of one and without rotation it is plain causal linear attention.',
    'Shifting all positions by a constant changes no output.',
    'Noncausal retention with decays of one sees every token alike.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
