import type { MechanismCard } from '@seqloom/core';

/** What is known about lightning attention. */
export const card: MechanismCard = {
  id: 'lightning-attention',
  title: 'Lightning attention',
  paper: {
    title: 'Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention',
    authors: 'Qin, Sun, Li, Shen, Sun, Zhong',
    year: 2024,
    id: 'arXiv:2405.17381',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'parallel', 'chunk', 'recurrent'],
  kernels: ['LinearAttention', 'RmsNorm'],
  decode: 'constant-state',
  // of the causal pattern; position is one more number
  stateBytes: (_length, { heads = 1, headDim = 1 }) => 4 * (heads * headDim * headDim + 1),
  complexity: { train: 'O(T C D + T D^2)', decode: 'O(D^2)' },
  reference: {
    repository: 'OpenNLPLab/lightning-attention',
    path: 'lightning_attn/utils/utils.py, ops/triton/lightning_attn2.py; huggingface/transformers models/minimax/modeling_minimax.py; fla-org/flash-linear-attention fla/ops/lightning_attn/chunk.py',
    licence: 'MIT; Apache-2.0',
  },
  deviations: [
    'The memory belongs to the last token seen, as in MiniMax; the Triton kernel keeps it decayed to the next token, which gives the same outputs.',
    'Padding lets nothing decay; MiniMax zeroes its values but counts it in the distances.',
    'Query, key and value are three matrices; MiniMax packs them into one, head by head.',
    'For a single layer, where the schedule of TransNormerLLM divides by zero, its layer factor is that of the first of several layers.',
    'LRPE, which stands in the first layer of TransNormerLLM, is a setting of any layer, and counts from the first token that is no padding.',
  ],
  degenerate: [
    'Without decay it is plain causal linear attention.',
    'It is retention with gamma = exp(-rate) and a scale of one.',
    'The noncausal pattern is Q (K^T V).',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
