import type { MechanismCard } from '@seqloom/core';

/** What is known about Mamba's selective state space. */
export const card: MechanismCard = {
  id: 'mamba-s6',
  title: 'Mamba selective state space (S6)',
  paper: {
    title: 'Mamba: Linear-Time Sequence Modeling with Selective State Spaces',
    authors: 'Gu, Dao',
    year: 2023,
    id: 'arXiv:2312.00752',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['SelectiveScan', 'CausalConv1d'],
  decode: 'constant-state',
  // the recurrent memory, the window of the convolution, and the position
  stateBytes: (_length, { innerDim = 128, stateDim = 16, kernelSize = 4 }) => 4 * (innerDim * (stateDim + kernelSize - 1) + 1),
  complexity: { train: 'O(T C N), memory O(T C)', decode: 'O(C N)' },
  reference: {
    repository: 'state-spaces/mamba',
    path: 'mamba_ssm/modules/mamba_simple.py; mamba_ssm/ops/selective_scan_interface.py',
    licence: 'Apache-2.0',
  },
  deviations: [
    'The input matrix is discretised to first order (delta B), as the original code does; the paper writes the zero-order hold.',
    'The window of the convolution holds the K - 1 inputs before the current one; the original keeps K.',
    'The final state has a gradient, and any initial state may be given; the original has neither.',
    'At the start the biases of the convolution are zero and projections are normal with deviation 1 / sqrt(fan in); the original draws both evenly.',
  ],
  degenerate: [
    'With steps of almost no time the output is the skip connection.',
    'With a transition of zero it is linear attention without normaliser, with query C, key B and value delta x.',
    'Groups with equal matrices are one group.',
    'The output is a lower-triangular matrix times the input, with entries sum_n C_i B_j delta_j exp(A sum of delta after j up to i).',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
