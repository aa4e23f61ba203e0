import type { MechanismCard } from '@seqloom/core';

/** What is known about memory layers. */
export const card: MechanismCard = {
  id: 'memory-layers-at-scale',
  title: 'Memory layers: product keys and Memory+',
  paper: {
    title: 'Memory Layers at Scale',
    authors: 'Vincent-Pierre Berges, Barlas Oguz, Daniel Haziza, Wen-tau Yih, Luke Zettlemoyer, Gargi Ghosh',
    year: 2024,
    id: 'arXiv:2412.09764',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'gathered'],
  kernels: ['TopKRows', 'GatherRows'],
  // a token is served by itself
  decode: 'none',
  stateBytes: () => 0,
  complexity: { train: 'O(T H (n K + k^2 + k D)), n half keys for n^2 slots', decode: 'O(H (n K + k^2 + k D))' },
  reference: { repository: 'facebookresearch/memory', path: 'lingua/product_key/memory.py', licence: 'CC-BY-NC-4.0' },
  deviations: [
    'Norms of queries and keys, which the paper names for stability and the released configuration does not have, are an option.',
    'The query batch norm of the first product-key memory is left out, since a token would see the batch.',
    'The released gradient of the table is dense unless a custom kernel is built; here a sparse table keeps the looked-up rows of a backward pass and SparseAdamW updates those alone.',
    'PEER, whose slots are networks of one neuron, is left out.',
  ],
  degenerate: [
    'The slots found by halves are those that a search through all n^2 keys finds, and the output is softmax attention to them.',
    'With one best slot the output is that slot, whatever its score.',
    'Two layers of one table add up their gradients in it.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
