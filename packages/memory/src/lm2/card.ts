import type { MechanismCard } from '@seqloom/core';

/** What is known about LM2's memory module. */
export const card: MechanismCard = {
  id: 'lm2',
  title: 'LM2 memory module',
  paper: {
    title: 'LM2: Large Memory Models',
    authors: 'Jikun Kang, Wenqi Wu, Filippos Christianos, Alex J. Chan, Fraser Greenlee, George Thomas, Marvin Purtorab, Andy Toulis',
    year: 2025,
    id: 'arXiv:2502.06049',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'recurrent'],
  kernels: ['SoftmaxAttention'],
  // the attention beside the memory keeps its own cache; the memory is of a fixed size
  decode: 'full-cache',
  stateBytes: (length, { dim = 1, slots = 1, segmentLength = 1, attention = 1 }) =>
    4 * ((slots + segmentLength - 1) * dim + attention * (2 * length * dim + 1) + 1),
  complexity: { train: 'O(T N D) beside the attention', decode: 'O(N D) beside the attention' },
  reference: { repository: 'convergence-ai/lm2', path: 'src/memory.py', licence: 'CC-BY-NC-4.0' },
  deviations: [
    'The released module pools its gate over all tokens of a call and adds the new memory back to every token, so that later tokens reach earlier ones; here tokens only read, and a full segment is written for the segments after it. The released form is publishedLm2Memory.',
    "The paper's update has T rows for N slots; here slots attend to the tokens of the segment (as in relational memory), which gives N rows.",
    'The read is gated by sigma(E_mem W_out) E_mem, the consistent reading of g_out M; the released code has no output gate.',
    'Every layer keeps a bank of its own; in the released code one bank passes through all layers of a call.',
    'Slots beyond the width start as normed sums of two unit vectors, so that all are distinct; the paper has as many slots as channels and starts with the identity.',
    'There is no dropout; the released default of 0.9 reads like a probability to keep.',
    'publishedLm2Memory wants as many tokens as slots and channels, without which the released code does not run.',
  ],
  degenerate: [
    'With an input gate of 0 and a forget gate of 1 the memory stays as it is.',
    'With a read gate of 0 the output is 0.',
    'Slots that start alike stay alike.',
    'The best of as many slots as there are is all of them.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
