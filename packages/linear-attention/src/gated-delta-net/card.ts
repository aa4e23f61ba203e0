import type { MechanismCard } from '@seqloom/core';

/** What is known about Gated DeltaNet. */
export const card: MechanismCard = {
  id: 'gated-delta-net',
  title: 'Gated DeltaNet',
  paper: {
    title: 'Gated Delta Networks: Improving Mamba2 with Delta Rule',
    authors: 'Yang, Kautz, Hatamizadeh',
    year: 2024,
    id: 'arXiv:2412.06464',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['LinearAttention', 'CausalConv1d', 'RmsNorm'],
  decode: 'constant-state',
  // headDim and valueDim are per head, kernelSize is that of the short convolutions (0: none); position is one more number
  stateBytes: (_length, { heads = 1, headDim = 256, valueHeads = heads, valueDim = 2 * headDim, kernelSize = 4 }) =>
    4 * (valueHeads * headDim * valueDim + Math.max(0, kernelSize - 1) * (2 * heads * headDim + valueHeads * valueDim) + 1),
  complexity: { train: 'O(T C (K + V) + T K V + T C^2)', decode: 'O(K V)' },
  reference: {
    repository: 'fla-org/flash-linear-attention',
    path: 'fla/ops/gated_delta_rule/naive.py, fla/ops/gated_delta_rule/gate.py, fla/layers/gated_deltanet.py',
    licence: 'MIT',
  },
  deviations: [
    'The rates of decay are drawn from [2^-20, 16) in the place of [0, 16), whose log can be minus infinity.',
    'Without an output gate the heads default to the width of the input, as the parameter budget of the reference says, instead of 256 channels.',
  ],
  degenerate: [
    'Without decay it is DeltaNet.',
    'With beta of zero the memory only decays.',
    'A decay of exp(-100) leaves the newest write alone.',
    'Grouped values are the same as repeated queries and keys.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
