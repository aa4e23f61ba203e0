import type { MechanismCard } from '@seqloom/core';

/** What is known about mixtures of experts. */
export const card: MechanismCard = {
  id: 'moe-channel-mixers',
  title: 'Mixture of experts',
  paper: {
    title: 'DeepSeek-V3 Technical Report',
    authors: 'DeepSeek-AI',
    year: 2024,
    id: 'arXiv:2412.19437',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'gathered'],
  kernels: ['ExpertMatMul', 'TopKRows', 'GatherRows', 'ScatterAddRows'],
  // a token is served by itself
  decode: 'none',
  stateBytes: () => 0,
  complexity: { train: 'O(T (k D F + E D)), k of E experts of width F', decode: 'O(k D F + E D)' },
  reference: { repository: 'deepseek-ai/DeepSeek-V3', path: 'inference/model.py', licence: 'MIT' },
  deviations: [
    'Of equal scores the lower expert goes first, where the original leaves the order to its library.',
    'Renormalised weights are divided by their sum plus 1e-20, as in the Hugging Face port; the original divides by the sum.',
    'Renormalisation is a setting of its own; in the original it comes with the sigmoid.',
    'The load-balance loss is taken per layer, where the Hugging Face ports average loads and probabilities over all layers first.',
    'With a capacity, places go to tokens in their order over the whole batch, so a row can depend on the rows before it.',
  ],
  degenerate: [
    'One expert of one is a dense feed-forward layer.',
    'Equal experts with renormalised weights are a dense feed-forward layer.',
    'All experts chosen, without renormalisation, are the soft mixture.',
    'An expert with a huge bias is always chosen, and weights are those of its unbiased score.',
    'With all groups kept there is no group limit.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
