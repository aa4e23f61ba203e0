import type { MechanismCard } from '@seqloom/core';

/** Multi-head latent attention. */
export const card: MechanismCard = {
  id: 'multi-head-latent-attention',
  title: 'Multi-head latent attention (MLA)',
  paper: {
    title: 'DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model',
    authors: 'DeepSeek-AI',
    year: 2024,
    id: 'arXiv:2405.04434',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'parallel', 'decode'],
  kernels: ['SoftmaxAttention', 'Rotary', 'RmsNorm'],
  decode: 'full-cache',
  stateBytes: (length, { latentDim = 1, rotaryDim = 0 }) => 4 * (length * (latentDim + rotaryDim) + 1),
  complexity: { train: 'O(T²·H·(Dn+Dr+Dv) + T·C·H·(Dn+Dv))', decode: 'O(t·H·(2C+Dr) + C·H·(Dn+Dv))' },
  reference: { repository: 'deepseek-ai/DeepSeek-V3', path: 'inference/model.py', licence: 'MIT' },
  deviations: [
    'The cache is joined into one key per token at each call, since the state holds latent and rotary key apart.',
    "YaRN's temperature multiplies the scores' scale by its square, as the original inference code does, and leaves cos and sin alone.",
  ],
  degenerate: [
    'The absorbed form equals the expanded one.',
    'Without rotary part and with the identity as up-projection it is multi-head attention, whose keys and values the latent holds.',
    'Without rotation, permuting the tokens before the last leaves its output alone.',
  ],
  evidence: 'golden-original',
  since: '0.3.0',
};
