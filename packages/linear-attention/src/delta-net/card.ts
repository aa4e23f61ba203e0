import type { MechanismCard } from '@seqloom/core';

/** What is known about DeltaNet. */
export const card: MechanismCard = {
  id: 'delta-net',
  title: 'DeltaNet',
  paper: {
    title: 'Parallelizing Linear Transformers with the Delta Rule over Sequence Length',
    authors: 'Yang, Wang, Zhang, Shen, Kim',
    year: 2024,
    id: 'arXiv:2406.06484',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['LinearAttention', 'CausalConv1d', 'RmsNorm'],
  decode: 'constant-state',
  // headDim and valueDim are per head, kernelSize is that of the short convolutions (0: none); position is one more number
  stateBytes: (_length, { heads = 1, headDim = 64, valueDim = headDim, kernelSize = 4 }) =>
    4 * (heads * headDim * valueDim + Math.max(0, kernelSize - 1) * heads * (2 * headDim + valueDim) + 1),
  complexity: { train: 'O(T C (K + V) + T K V + T C^2)', decode: 'O(K V)' },
  reference: {
    repository: 'fla-org/flash-linear-attention',
    path: 'fla/ops/delta_rule/naive.py, fla/ops/delta_rule/chunk.py, fla/layers/delta_net.py',
    licence: 'MIT',
  },
  deviations: [
    'Several query heads may read one memory (query heads a multiple of key heads), which the reference does not offer.',
    'Features that are divided by their sum have 1e-4 added to it, since the sum of relu features can be zero; sum and signed activations together are refused.',
  ],
  degenerate: [
    'With beta of one and orthonormal keys every key reads its own value.',
    'A key that is written again with beta of one holds its new value alone.',
    'With beta of zero the memory stays as it was.',
    'With mutually orthogonal keys it is linear attention with values beta v.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
