import type { MechanismCard } from '@seqloom/core';

/** What is known about HGRN2. */
export const card: MechanismCard = {
  id: 'hgrn2',
  title: 'HGRN2',
  paper: {
    title: 'HGRN2: Gated Linear RNNs with State Expansion',
    authors: 'Qin, Yang, Sun, Shen, Li, Sun, Zhong',
    year: 2024,
    id: 'arXiv:2404.07904',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['LinearAttention', 'CausalConv1d', 'RmsNorm'],
  decode: 'constant-state',
  // windowChannels are those of the short convolutions, 0 without; position is one more number
  stateBytes: (_length, { heads = 1, keyDim = 128, valueDim = 128, windowChannels = 0, kernelSize = 4 }) =>
    4 * (heads * keyDim * valueDim + (kernelSize - 1) * windowChannels + 1),
  complexity: { train: 'O(T C (K + V) + T K V)', decode: 'O(K V)' },
  reference: {
    repository: 'fla-org/flash-linear-attention',
    path: 'fla/layers/hgrn2.py, fla/ops/gla/naive.py; OpenNLPLab/HGRN2 README',
    licence: 'MIT',
  },
  deviations: [
    'The key 1 - f is computed without a difference of near numbers; the reference subtracts, and its slowest gates write with an error of per cents.',
    'The log of a bounded gate keeps the digits of slow gates by a term of its own; the logaddexp of the reference rounds them away.',
    'A layer above the first that is given no bounds of the model learns its own.',
  ],
  degenerate: [
    'It is gated linear attention with the key 1 - f.',
    'With one channel per head it is the elementwise recurrence of HGRN, times the query.',
    'A forget gate of one writes nothing, and a gate of zero replaces the row by the value.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
