import type { MechanismCard } from '@seqloom/core';

/** What is known about Mamba-2's state space duality. */
export const card: MechanismCard = {
  id: 'mamba2-ssd',
  title: 'Mamba-2 state space duality (SSD)',
  paper: {
    title: 'Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality',
    authors: 'Dao, Gu',
    year: 2024,
    id: 'arXiv:2405.21060',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'parallel', 'chunk', 'recurrent'],
  kernels: ['LinearAttention', 'CausalConv1d', 'RmsNorm'],
  decode: 'constant-state',
  // the recurrent memory, the window of the convolution over values and both matrices, and the position
  stateBytes: (_length, { heads = 2, headDim = 64, stateDim = 128, groups = 1, kernelSize = 4 }) =>
    4 * (heads * stateDim * headDim + (kernelSize - 1) * (heads * headDim + 2 * groups * stateDim) + 1),
  complexity: { train: 'O(T H (Q (N + P) + N P)) for chunks of Q', decode: 'O(H N P)' },
  reference: {
    repository: 'state-spaces/mamba',
    path: 'mamba_ssm/modules/mamba2.py; mamba_ssm/modules/ssd_minimal.py; mamba_ssm/ops/triton/ssd_combined.py',
    licence: 'Apache-2.0',
  },
  deviations: [
    'The memory is laid out as [N, P], the transpose of the original, which is how linear attention keeps keys and values.',
    'The window of the convolution holds the K - 1 inputs before the current one; the original keeps K.',
    'The limits of the step hold while decoding as well; the original applies them in training alone.',
    'At the start the biases of the convolution are zero and projections are normal with deviation 1 / sqrt(fan in); the original draws both evenly.',
  ],
  degenerate: [
    'With a transition of zero it is linear attention without normaliser, with query C, key B and value delta x.',
    'With the same step at every token it is retention: weights gamma^(i - j) C_i B_j.',
    'A group per head with equal matrices is one group.',
    'With heads of one channel it is the selective state space of Mamba with one transition per channel.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
