import type { MechanismCard } from '@seqloom/core';

/** Sliding-window attention with sinks and a rolling cache. */
export const card: MechanismCard = {
  id: 'sliding-window-attention',
  title: 'Sliding-window attention with sinks',
  paper: {
    title: 'Efficient Streaming Language Models with Attention Sinks',
    authors: 'Guangxuan Xiao, Yuandong Tian, Beidi Chen, Song Han, Mike Lewis',
    year: 2023,
    id: 'arXiv:2309.17453',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'chunk', 'decode'],
  kernels: ['SoftmaxAttention', 'Rotary', 'RmsNorm'],
  decode: 'bounded-cache',
  stateBytes: (_length, { kvHeads = 1, headDim = 1, valueHeadDim = headDim, window = 1, sinks = 0 }) =>
    4 * ((window - 1 + sinks) * kvHeads * (headDim + valueHeadDim) + 1),
  complexity: { train: 'O(T·(W+S)·H·D)', decode: 'O((W+S)·H·D)' },
  reference: { repository: 'mit-han-lab/streaming-llm', path: 'streaming_llm/kv_cache.py', licence: 'MIT' },
  deviations: [
    'The window counts the query itself (W keys), as Mistral does; flash-attention counts the keys to its left (W - 1).',
    "The rolling cache keeps W - 1 tokens, since the query's own key is always new, and keeps keys rotated: distances within the window are the same at any origin, so under 'cache' positions only the query is rotated again for the sinks.",
    'Several tokens at once see what they would see one by one; StreamingLLM evicts before a block, so its earlier tokens see fewer keys.',
  ],
  degenerate: [
    'With a window of at least T and no sinks it is causal attention.',
    'With a window of 1 and no sinks every output is its own value.',
    "While the cache is not full, 'cache' positions equal 'absolute' ones.",
  ],
  evidence: 'golden-original',
  since: '0.1.0',
};
