import type { MechanismCard } from '@seqloom/core';

/** What is known about gated linear attention. */
export const card: MechanismCard = {
  id: 'gated-linear-attention',
  title: 'Gated linear attention (GLA)',
  paper: {
    title: 'Gated Linear Attention Transformers with Hardware-Efficient Training',
    authors: 'Yang, Wang, Shen, Panda, Kim',
    year: 2023,
    id: 'arXiv:2312.06635',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['LinearAttention', 'CausalConv1d', 'RmsNorm'],
  decode: 'constant-state',
  // windowChannels are those of the short convolutions, 0 without; position is one more number
  stateBytes: (_length, { heads = 1, keyDim = 1, valueDim = 1, windowChannels = 0, kernelSize = 4 }) =>
    4 * (heads * keyDim * valueDim + (kernelSize - 1) * windowChannels + 1),
  complexity: { train: 'O(T C (K + V) + T K V)', decode: 'O(K V)' },
  reference: {
    repository: 'fla-org/flash-linear-attention',
    path: 'fla/ops/gla/naive.py, fla/ops/simple_gla/naive.py, fla/layers/gla.py',
    licence: 'MIT',
  },
  deviations: [
    'The parallel form of the paper, which divides by products of decays, is left out: it overflows; chunks halve down to single tokens instead.',
    'Decays per head, [B, T, H], are taken beside those per key channel: the reference calls them simple GLA.',
    'The norm per head is the RMS norm of the reference; the paper has a layer norm.',
    'Feature maps on queries and keys, an option of the reference that is off by default, are left out.',
  ],
  degenerate: [
    'Without decay it is plain causal linear attention.',
    'A constant decay, equal in all channels of a head, is retention without rotation.',
    'A decay of minus infinity in all channels forgets everything before.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
