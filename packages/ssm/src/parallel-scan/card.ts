import type { MechanismCard } from '@seqloom/core';

/** What is known about scans of first-order linear recurrences. */
export const card: MechanismCard = {
  id: 'parallel-scan',
  title: 'Parallel scan of a linear recurrence',
  paper: {
    title: 'Parallelizing Linear Recurrent Neural Nets Over Sequence Length',
    authors: 'Martin, Cundy',
    year: 2018,
    id: 'arXiv:1709.04057',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'parallel', 'chunk', 'recurrent'],
  kernels: ['LinearScan', 'ComplexLinearScan'],
  decode: 'constant-state',
  // the state of the gated impulse recurrence, and the position
  stateBytes: (_length, { innerDim = 64 }) => 4 * (innerDim + 1),
  complexity: { train: 'O(T C) in chunks, O(T C log T) in parallel', decode: 'O(C)' },
  reference: {
    repository: 'alxndrTL/mamba.py',
    path: 'mambapy/pscan.py',
    licence: 'MIT',
  },
  deviations: [
    'The parallel form composes in log2(T) sweeps over the whole sequence (Hillis and Steele), which suits tensor operations; the reference sweeps up and down a tree.',
    'The layer projects out and adds a bias there; the paper hands the state itself to the next layer.',
  ],
  degenerate: [
    'With a decay of one it is a cumulative sum.',
    'With a decay of zero the output is the input.',
    'In reverse it is the scan of the reversed sequence, reversed.',
    'A reset gives what separate runs of both parts give.',
    'A complex scan with imaginary parts of zero is the real one.',
    'A decay in polar form is the one in parts.',
  ],
  evidence: 'properties-only',
  since: '0.2.0',
};
