import type { MechanismCard } from '@seqloom/core';

/** Native sparse attention. */
export const card: MechanismCard = {
  id: 'native-sparse-attention',
  title: 'Native sparse attention (NSA)',
  paper: {
    title: 'Native Sparse Attention: Hardware-Aligned and Natively Trainable Sparse Attention',
    authors: 'Yuan, Gao, Dai, Luo, Zhao, Zhang, Xie, et al.',
    year: 2025,
    id: 'arXiv:2502.11089',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'decode'],
  kernels: ['BlockAttention', 'SoftmaxAttention', 'TopKRows', 'GatherRows', 'Rotary'],
  decode: 'full-cache',
  // keys and values, those of every complete window, and the position
  stateBytes: (length, { kvHeads = 1, headDim = 1, compressionLength = 32, compressionStride = 16 }) => {
    const windows = length < compressionLength ? 0 : Math.floor((length - compressionLength) / compressionStride) + 1;
    return 4 * (2 * (length + windows) * kvHeads * headDim + 1);
  },
  complexity: { train: 'O(T·(T/s + n·l′ + W)·H·D)', decode: 'O((t/s + n·l′ + W)·H·D)' },
  reference: { repository: 'fla-org/flash-linear-attention', path: 'fla/ops/nsa/naive.py', licence: 'MIT' },
  deviations: [
    'The three branches share their keys and values, as in flash-linear-attention; the paper projects them apart.',
    'The importance of a selection block is the sum over compressed blocks of the tokens they share, divided by the stride; the index in the paper’s equation 9 points to earlier blocks.',
    'The own block is chosen before all others, then the first and local ones, whatever their importance; the reference sets their scores to 1.',
    'Among equal importances the block with the lower index is chosen; the reference leaves ties to torch.topk.',
  ],
  degenerate: [
    'With as many selected blocks as there are blocks the selected branch is full causal attention.',
    'With gates of 0, 0 and 1 it is sliding-window attention.',
    'With compression windows of one token the compressed branch is full causal attention.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
