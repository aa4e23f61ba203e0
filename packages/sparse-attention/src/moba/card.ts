import type { MechanismCard } from '@seqloom/core';

/** Mixture of block attention. */
export const card: MechanismCard = {
  id: 'moba',
  title: 'Mixture of block attention (MoBA)',
  paper: {
    title: 'MoBA: Mixture of Block Attention for Long-Context LLMs',
    authors: 'Lu, Jiang, Liu, Du, Jiang, Hong, Liu, et al.',
    year: 2025,
    id: 'arXiv:2502.13189',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'decode'],
  kernels: ['BlockAttention', 'SoftmaxAttention', 'TopKRows', 'GatherRows', 'Rotary'],
  decode: 'full-cache',
  // keys, values, the mean key of every complete block, and the position
  stateBytes: (length, { kvHeads = 1, headDim = 1, blockSize = 512 }) =>
    4 * (2 * length * kvHeads * headDim + Math.floor(length / blockSize) * kvHeads * headDim + 1),
  complexity: { train: 'O(T·k·B·H·D + T²/B·H·D)', decode: 'O((t/B + k·B)·H·D)' },
  reference: { repository: 'MoonshotAI/MoBA', path: 'moba/moba_naive.py; moba/moba_efficient.py', licence: 'MIT' },
  deviations: [
    'Among equal scores the block with the lower index is chosen; the reference leaves ties to torch.topk.',
    'The efficient form keeps queries where they are and gives each one a list of blocks, where the reference sorts queries by block.',
  ],
  degenerate: [
    'With as many chosen blocks as there are blocks it is full causal attention.',
    'With one chosen block it is causal attention inside each block.',
    'With blocks of one token it attends to the best keys and to the query itself.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
