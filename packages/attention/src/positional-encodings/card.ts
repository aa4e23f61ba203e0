import type { MechanismCard } from '@seqloom/core';

/** Positional encodings: rotary and its extensions, ALiBi, xPos, sinusoidal and learned tables. */
export const card: MechanismCard = {
  id: 'positional-encodings',
  title: 'Positional encodings',
  paper: {
    title: 'RoFormer: Enhanced Transformer with Rotary Position Embedding',
    authors: 'Jianlin Su, Yu Lu, Shengfeng Pan, Ahmed Murtadha, Bo Wen, Yunfeng Liu',
    year: 2021,
    id: 'arXiv:2104.09864',
  },
  patterns: ['causal-self', 'noncausal-self', 'causal-cross', 'noncausal-cross'],
  forms: ['naive', 'parallel'],
  kernels: ['Rotary', 'SoftmaxAttention'],
  decode: 'none',
  stateBytes: () => 0,
  complexity: { train: 'O(T·R)', decode: 'O(R)' },
  reference: { repository: 'deepseek-ai/DeepSeek-V3', path: 'inference/model.py', licence: 'MIT' },
  deviations: [
    'Dynamic NTK takes the length once per request, because a cache holds rotated keys that a growing base would invalidate.',
    'ALiBi without causality is the symmetric -slope |i - j|.',
  ],
  degenerate: [
    'Factor 1: linear, NTK and YaRN scaling are plain rotary embedding.',
    'Interleaved and half-split layouts give the same scores after a permutation of channels.',
    'xPos scores depend on the distance alone.',
  ],
  evidence: 'golden-original',
  since: '0.1.0',
};
