import type { MechanismCard } from '@seqloom/core';

/** Landmark attention. */
export const card: MechanismCard = {
  id: 'landmark-attention',
  title: 'Landmark attention',
  paper: {
    title: 'Landmark Attention: Random-Access Infinite Context Length for Transformers',
    authors: 'Mohtashami, Jaggi',
    year: 2023,
    id: 'arXiv:2305.16300',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'decode'],
  kernels: ['SoftmaxAttention', 'BlockAttention', 'TopKRows', 'GatherRows', 'Rotary'],
  decode: 'full-cache',
  stateBytes: (length, { kvHeads = 1, headDim = 1 }) => 4 * (2 * length * kvHeads * headDim + 1),
  complexity: { train: 'O(T²·H·D)', decode: 'O((t/ℓ + k·ℓ)·H·D)' },
  reference: { repository: 'epfml/landmark-attention', path: 'llama/llama_mem.py', licence: 'Apache-2.0' },
  deviations: [
    'Every query chooses among all complete blocks before its own, so pieces of any size give one result; the reference treats a whole input segment as local.',
    'Every token and head chooses for itself; the modes that share a choice between tokens or heads are left out.',
    'Without retrieval the grouped softmax is computed block by block and merged by log-sum-exp, where the reference forms a matrix of T by T.',
    'Among equal landmark scores the block with the lower index is retrieved; the reference leaves ties to torch.topk.',
    'The random jumps of positions at training time are left out.',
  ],
  degenerate: [
    'A sequence shorter than a block is ordinary causal attention.',
    'With landmark logits equal to the log-sum-exp of their blocks it is full attention over ordinary tokens.',
    'Retrieving as many blocks as there are gives the grouped softmax of training.',
    'Stingy positions equal absolute ones while there are no more earlier blocks than are retrieved.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
