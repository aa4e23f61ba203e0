import type { MechanismCard } from '@seqloom/core';

/** What is known about Transformer-XL's segment recurrence. */
export const card: MechanismCard = {
  id: 'transformer-xl-recurrence',
  title: 'Transformer-XL segment recurrence',
  paper: {
    title: 'Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context',
    authors: 'Zihang Dai, Zhilin Yang, Yiming Yang, Jaime Carbonell, Quoc V. Le, Ruslan Salakhutdinov',
    year: 2019,
    id: 'arXiv:1901.02860',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'parallel', 'chunk'],
  kernels: ['SoftmaxAttention'],
  decode: 'bounded-cache',
  // memory of layer inputs; with segments also the tokens of the unfinished one
  stateBytes: (_length, { dim = 1, memoryLength = 1, segmentLength = 1 }) => 4 * ((memoryLength + segmentLength - 1) * dim + 1),
  complexity: { train: 'O(T (M + C) D)', decode: 'O(M D^2), O(M D) with cached keys' },
  reference: { repository: 'kimiyoung/transformer-xl', path: 'pytorch/mem_transformer.py', licence: 'Apache-2.0' },
  deviations: [
    'Without segments every token sees itself and the M tokens before it, however the sequence is cut into pieces; with segmentLength L a token sees the M tokens before its segment and its segment so far, as the reference trains, counted from the start of the sequence.',
    "The reference's same_length counts the query among its mem_len keys: it is memoryLength = mem_len - 1 here.",
    'The memory is detached only with detachMemory: true; a state that comes from an earlier step is a constant on the tape anyway.',
    'The biases u and v belong to each layer; the reference shares them over layers unless they are untied.',
    'The cache can hold keys and values instead of layer inputs, which decodes faster and is right as long as the weights stay.',
    'There is no dropout, also not on the position embeddings.',
  ],
  degenerate: [
    'With relative keys and biases of zeros it is causal softmax attention.',
    'With a reach of 0 every output is its own value.',
    'With a reach of all keys it is the form without a reach.',
    'The relative shift is the brute-force (q_i + v) r_(i - j).',
  ],
  evidence: 'properties-only',
  since: '0.2.0',
};
