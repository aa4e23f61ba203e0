import type { MechanismCard } from '@seqloom/core';

/** What is known about diagonal state spaces, S4D and S5. */
export const card: MechanismCard = {
  id: 's4d-s5-diagonal-ssm',
  title: 'Diagonal state spaces: S4D and S5',
  paper: {
    title: 'On the Parameterization and Initialization of Diagonal State Space Models',
    authors: 'Gu, Gupta, Goel, Re',
    year: 2022,
    id: 'arXiv:2206.11893',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'parallel', 'chunk', 'recurrent'],
  kernels: ['ComplexLinearScan'],
  decode: 'constant-state',
  // stateDim numbers (half as many complex ones) per channel in S4D, or once for all channels in S5 (`perChannel` 0); and the position
  stateBytes: (_length, { dim = 64, stateDim = 64, perChannel = 1 }) => 4 * (stateDim * (perChannel ? dim : 1) + 1),
  complexity: { train: 'S4D O(T H (Q + N)) in blocks of Q, S5 O(T P H)', decode: 'S4D O(H N), S5 O(P H)' },
  reference: {
    repository: 'state-spaces/s4',
    path: 'models/s4/s4d.py, models/s4/s4.py; lindermanlab/S5 s5/ssm.py, s5/ssm_init.py',
    licence: 'Apache-2.0; MIT',
  },
  deviations: [
    'The Fourier convolution is made of matrix products, O(T^1.5) per channel, since not every backend has a fast transform; the chunked form convolves in blocks and is the default.',
    'S4D is started with its input matrix folded into the output matrix, B = 1, for every choice of poles.',
    'Poles of S5 are kept left of -1e-4; the reference has that as an option that is off.',
    'In the noncausal pattern the backward kernel begins at the current token; the S4 reference begins it one token later.',
  ],
  degenerate: [
    'A single real pole is an exponential moving average.',
    'The answer to an impulse is the kernel 2 Re(sum of C Bbar Abar^l), with D at lag 0.',
    'S5 with one group of poles per channel and no mixing of channels is S4D.',
    'Zero-order hold and the bilinear map come together as the square of the step.',
  ],
  evidence: 'properties-only',
  since: '0.2.0',
};
