import type { MechanismCard } from '@seqloom/core';

/** What is known about the real-gated linear recurrent unit and Griffin's recurrent block. */
export const card: MechanismCard = {
  id: 'rglru-griffin',
  title: 'RG-LRU and the recurrent block of Griffin',
  paper: {
    title: 'Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language Models',
    authors:
      'De, Smith, Fernando, Botev, Cristian-Muraru, Gu, Haroun, Berrada, Chen, Srinivasan, Desjardins, Doucet, Budden, Teh, Pascanu, de Freitas, Gulcehre',
    year: 2024,
    id: 'arXiv:2402.19427',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['LinearScan', 'CausalConv1d'],
  decode: 'constant-state',
  // the recurrent state, the window of the convolution, and the position
  stateBytes: (_length, { innerDim = 64, kernelSize = 4 }) => 4 * (innerDim * kernelSize + 1),
  complexity: { train: 'O(T W)', decode: 'O(W)' },
  reference: {
    repository: 'google-deepmind/recurrentgemma',
    path: 'recurrentgemma/torch/layers.py; recurrentgemma/torch/modules.py',
    licence: 'Apache-2.0',
  },
  deviations: [
    '1 - a^2 is computed from log a so that it keeps its digits where a is close to 1; the original subtracts.',
    'Taps of the convolution start evenly within 1 / sqrt(K); the original draws them normally.',
  ],
  degenerate: [
    'A closed recurrence gate freezes the state: nothing decays, nothing is written.',
    'With both gates open it is a linear recurrence with the constant decay exp(-8 softplus(Lambda)), scaled to keep its variance.',
    'A reset gives what separate runs of both parts give.',
    'The first token of a sequence is taken in whole.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
