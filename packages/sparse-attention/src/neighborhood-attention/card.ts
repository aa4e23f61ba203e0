import type { MechanismCard } from '@seqloom/core';

/** What is known about neighborhood attention. */
export const card: MechanismCard = {
  id: 'neighborhood-attention',
  title: 'Neighborhood attention (1-D, 2-D, 3-D)',
  paper: {
    title: 'Neighborhood Attention Transformer',
    authors: 'Ali Hassani, Steven Walton, Jiachen Li, Shen Li, Humphrey Shi',
    year: 2022,
    id: 'arXiv:2204.07143',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'parallel', 'gathered', 'decode'],
  kernels: ['SoftmaxAttention', 'GatherRows'],
  decode: 'bounded-cache',
  stateBytes: (_length, { window = 1, dilation = 1, kvHeads = 1, headDim = 1 }) =>
    4 * (2 * dilation * (window - 1) * kvHeads * headDim + 1),
  complexity: { train: 'O(N·Πw·H·D)', decode: 'O(δ·w·H·D)' },
  reference: {
    repository: 'SHI-Labs/NATTEN',
    path: 'csrc/include/natten/cuda/reference/mask.hpp, src/natten/backends/flex.py',
    licence: 'MIT',
  },
  deviations: [
    'An axis (or a residue class of it) that is shorter than the window is seen whole; NATTEN refuses it.',
    'A window of 1 is allowed and gives every token its own value; NATTEN refuses it.',
    'The causal layer takes no stride: in NATTEN the last, incomplete stride group moves its window with the length of the input, so that a prefix would not give the prefix of the outputs; the op has it.',
    'Grouped key heads and optional rotary positions (1-D layer) are additions.',
  ],
  degenerate: [
    'With a window as long as every axis, dilation 1 and no causality it is full attention.',
    'With one causal axis, a window as long as it and stride 1 it is causal attention.',
    'With dilation it is independent neighborhood attention on each of the sub-grids.',
    'With a stride equal to a window that divides the axis it is attention in blocks.',
    'With a window of 1 every output is its own value.',
  ],
  evidence: 'golden-rederived',
  since: '0.2.0',
};
