import type { MechanismCard } from '@seqloom/core';

/** What is known about routing attention. */
export const card: MechanismCard = {
  id: 'routing-transformer',
  title: 'Routing attention (online k-means)',
  paper: {
    title: 'Efficient Content-Based Sparse Attention with Routing Transformers',
    authors: 'Aurko Roy, Mohammad Saffar, Ashish Vaswani, David Grangier',
    year: 2020,
    id: 'arXiv:2003.05997',
  },
  patterns: ['causal-self', 'noncausal-self', 'noncausal-cross'],
  forms: ['naive', 'parallel', 'gathered', 'decode'],
  kernels: ['SoftmaxAttention', 'BlockAttention', 'GatherRows', 'ScatterAddRows', 'TopKRows'],
  decode: 'bounded-cache',
  stateBytes: (_length, { clusters = 1, window = 1, heads = 2, localHeads = 1, localWindow = 1, headDim = 1 }) =>
    4 * ((heads - localHeads) * clusters * window * (2 * headDim + 1) + 2 * localHeads * (localWindow - 1) * headDim + 1),
  complexity: { train: 'O(T·C·H·D + T·w·H·D), T^1.5 with C and w near the root of T', decode: 'O((C + w)·H·D), a copy of the C·w members' },
  reference: {
    repository: 'lucidrains/routing-transformer',
    path: 'routing_transformer/routing_transformer.py',
    licence: 'MIT',
  },
  deviations: [
    'The published causal form (routingAttention with causal: true) takes the best w tokens of the whole sequence into each cluster, so that a later token can push an earlier one out and the outputs of a prefix change; it has no decoding.',
    'The causal layer therefore routes each query and key to its nearest centroid and reads the last w members of that cluster up to the query (recentRouting), which is strictly causal and decodes.',
    'Centroids begin as random directions; the k-means of the first batch is an explicit call (fitCentroids), and they move in forward with training: true, where the reference waits for the backward pass.',
    'Centroids get no gradient: nearest clusters and best tokens are choices, and the commitment loss holds centroids fixed.',
    'Vectors are normalised by their length, as in the reference; the pseudocode of the paper uses a layer norm without scale.',
    'Local heads read a sliding window; the reference reads the own block and the one before.',
    'noncausal-cross is an op without a layer: balanced clusters mix queries, so a sequence of queries cannot be fed in pieces.',
  ],
  degenerate: [
    'One cluster that holds every token is full attention, up to the 1e-5 in the mean over clusters.',
    'One recent cluster with a window as long as the sequence is causal attention.',
    'Without positions, permuted tokens give permuted outputs.',
    'A window of 1 with shared queries and keys gives every token of a cluster its own value.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
