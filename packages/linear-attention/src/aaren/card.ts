import type { MechanismCard } from '@seqloom/core';

/** What is known about Aaren. */
export const card: MechanismCard = {
  id: 'aaren',
  title: 'Aaren (attention as an RNN)',
  paper: {
    title: 'Attention as an RNN',
    authors: 'Feng, Tung, Hajimirsadeghi, Ahmed, Bengio, Mori',
    year: 2024,
    id: 'arXiv:2405.13956',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'parallel', 'recurrent'],
  kernels: ['LinearScan'],
  decode: 'constant-state',
  // position is one more number
  stateBytes: (_length, { heads = 1, valueDim = 1 }) => 4 * (heads * (valueDim + 2) + 1),
  complexity: { train: 'O(T V)', decode: 'O(K + V)' },
  reference: { repository: 'none', path: 'equations of the paper; no original code was available', licence: 'none' },
  deviations: [
    'The empty memory has u = 0 and any m, where the paper has m = -Infinity, so that a new state is all zeros.',
    'The recurrent form finds all running maxima first and then runs u and w as a linear scan; the numbers are those of the paper.',
  ],
  degenerate: [
    'The output is softmax attention of the learned query over the tokens so far.',
    'Permuting earlier tokens leaves an output alone.',
    'A query of zeros gives the mean of the values so far.',
    'Logits that lie 1000 apart give the value of the largest one so far.',
  ],
  evidence: 'golden-rederived',
  since: '0.2.0',
};
