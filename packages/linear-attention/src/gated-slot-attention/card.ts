import type { MechanismCard } from '@seqloom/core';

/** What is known about gated slot attention, with ABC as its base. */
export const card: MechanismCard = {
  id: 'gated-slot-attention',
  title: 'Gated slot attention (GSA, ABC)',
  paper: {
    title: 'Gated Slot Attention for Efficient Linear-Time Sequence Modeling',
    authors: 'Zhang, Yang, Zhu, Zhang, Cui, Wang, Wang, Shi, Wang, Bi, Zhou, Fu',
    year: 2024,
    id: 'arXiv:2409.07146',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['LinearAttention'],
  decode: 'constant-state',
  // normalised is 1 for ABC, which carries a log normaliser per slot; position is one more number
  stateBytes: (_length, { heads = 1, slots = 64, keyDim = 1, valueDim = 1, normalised = 0 }) =>
    4 * (heads * slots * (keyDim + valueDim + normalised) + 1),
  complexity: { train: 'O(T C (K + M + V) + T M (K + V))', decode: 'O(M (K + V))' },
  reference: {
    repository: 'fla-org/flash-linear-attention',
    path: 'fla/ops/gsa/naive.py, fla/ops/abc/naive.py, fla/layers/gsa.py, fla/layers/abc.py',
    licence: 'MIT',
  },
  deviations: [
    'Key slots are kept as [M, K], the layout of value slots; the reference keeps [K, M].',
    'ABC carries its normaliser per slot, so that pieces equal the whole; the reference adds a given state without decay and then forgets it.',
    'The first pass runs as the query gradient of the gated rule on write weights and keys, and not as a rule with a gate on values.',
  ],
  degenerate: [
    'With one slot the output is a gated running average of the values, whatever queries and keys are.',
    'With values of c the output is c (1 - product of the decays), where the slots of a head decay alike.',
    'Permuting the slots leaves the output alone.',
    'ABC with one huge slot logit per token keeps the last value that each slot was given.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
