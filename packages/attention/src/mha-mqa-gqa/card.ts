import type { MechanismCard } from '@seqloom/core';

/** Multi-head, multi-query and grouped-query attention. */
export const card: MechanismCard = {
  id: 'mha-mqa-gqa',
  title: 'Multi-head, multi-query and grouped-query attention',
  paper: {
    title: 'GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints',
    authors: 'Joshua Ainslie, James Lee-Thorp, Michiel de Jong, Yury Zemlyanskiy, Federico Lebrón, Sumit Sanghai',
    year: 2023,
    id: 'arXiv:2305.13245',
  },
  patterns: ['causal-self', 'noncausal-self', 'causal-cross', 'noncausal-cross'],
  forms: ['naive', 'parallel', 'decode'],
  kernels: ['SoftmaxAttention', 'Rotary', 'RmsNorm'],
  decode: 'full-cache',
  stateBytes: (length, { kvHeads = 1, headDim = 1, valueHeadDim = headDim }) => 4 * (length * kvHeads * (headDim + valueHeadDim) + 1),
  complexity: { train: 'O(T²·H·D)', decode: 'O(t·H·D)' },
  reference: { repository: 'fla-org/flash-linear-attention', path: 'fla/ops/attn/naive.py', licence: 'MIT' },
  deviations: [
    'A row that sees nothing has output 0 and log-sum-exp -Infinity, where a plain softmax would give NaN.',
    'A causal cross layer lets the query at position p see context tokens 0 to p; papers leave the alignment to the caller.',
  ],
  degenerate: [
    'With as many key heads as query heads it is multi-head attention.',
    'With key and value weights copied over a group it equals multi-head attention.',
    'With the weights of its producer a layer of given keys and values equals it.',
    'Permuting keys and values together changes nothing without a mask.',
  ],
  evidence: 'golden-original',
  since: '0.1.0',
};
