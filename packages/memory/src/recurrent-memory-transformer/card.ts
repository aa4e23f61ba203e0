import type { MechanismCard } from '@seqloom/core';

/** What is known about the recurrent memory transformer. */
export const card: MechanismCard = {
  id: 'recurrent-memory-transformer',
  title: 'Recurrent memory transformer',
  paper: {
    title: 'Recurrent Memory Transformer',
    authors: 'Aydar Bulatov, Yuri Kuratov, Mikhail S. Burtsev',
    year: 2022,
    id: 'arXiv:2207.06881',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'recurrent'],
  kernels: ['SoftmaxAttention', 'Rotary', 'RmsNorm'],
  decode: 'bounded-cache',
  // with a stack of causal attention: its cache of the unfinished segment, and one memory for the whole stack
  stateBytes: (_length, { dim = 1, memoryTokens = 10, segmentLength = 512, depth = 1 }) =>
    4 * (memoryTokens * dim + depth * (2 * (memoryTokens + segmentLength - 1) * dim + 2) + 1),
  complexity: { train: 'O(T/L (L + 2m)^2 D)', decode: 'O((L + m) D)' },
  reference: {
    repository: 'booydar/recurrent-memory-transformer',
    path: 'modeling_rmt/language_modeling.py',
    licence: 'Apache-2.0',
  },
  deviations: [
    'Segments are counted from the start of the sequence in the layer, so that its pieces give what the whole gives; the op also aligns them to the end, as the reference does for classification.',
    'In the layer an unfinished segment writes no memory yet, where the reference also writes after a short last segment; the op does as the reference.',
    'bpttDepth really detaches the memory; in the reference the truncation has no effect, because its result is dropped.',
    "The stack sees read tokens, segment and write tokens under its own mask, as in the official decoder; the mask in which read tokens see one another ('memory-not-causal') needs a stack that has it.",
    'The noncausal pattern is noncausal within a segment; no segment sees a later one.',
    'Where rows had padding, the host does not know where each stands in its segment, and read, segment and write tokens run in three calls of the stack instead of one, with the same result.',
  ],
  degenerate: [
    'Without memory tokens and with one segment it is the stack itself.',
    'A stack of one causal linear map per token gives outputs that no memory changes.',
    'With bpttDepth 1 no gradient of a segment reaches the tokens of an earlier one; without it, it does.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
