import type { MechanismCard } from '@seqloom/core';

/** What is known about HGRN. */
export const card: MechanismCard = {
  id: 'hgrn',
  title: 'HGRN',
  paper: {
    title: 'Hierarchically Gated Recurrent Neural Network for Sequence Modeling',
    authors: 'Qin, Yang, Zhong',
    year: 2023,
    id: 'arXiv:2311.04823',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'parallel', 'recurrent'],
  kernels: ['LinearScan', 'ComplexLinearScan'],
  decode: 'constant-state',
  // parts is 2 for the complex form, taps the number of earlier tokens that the two convolutions see; position is one more number
  stateBytes: (_length, { width = 1, parts = 1, taps = 0 }) => 4 * (width * parts + taps * width * (parts + 1) + 1),
  complexity: { train: 'O(T E)', decode: 'O(E)' },
  reference: {
    repository: 'fla-org/flash-linear-attention',
    path: 'fla/ops/hgrn/naive.py, fla/layers/hgrn.py, fla/models/hgrn/modeling_hgrn.py',
    licence: 'MIT',
  },
  deviations: [
    'The real form is the default, as in flash-linear-attention; the complex form of the paper is the option complex.',
    'A layer built alone learns lower bounds of its own; layers that are given one HgrnLowerBounds share them, as the reference does.',
    'The noncausal pattern adds both directions, run with the same parameters, and so counts the input of the token itself twice.',
    'The angles of the complex form start at 10000^(-c / E) for channel c, one turning speed per channel.',
  ],
  degenerate: [
    'A log decay of 0 gives the running sum of the inputs.',
    'A log decay of -10000 gives the inputs themselves.',
    'An input of (1 - f) c leaves a state of c where it is.',
    'Angles of zero give the real form, for either part.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
