import type { MechanismCard } from '@seqloom/core';

/** What is known about RAT. */
export const card: MechanismCard = {
  id: 'rat',
  title: 'RAT (recurrence within chunks, attention over chunks)',
  paper: {
    title: 'RAT: Bridging RNN Efficiency and Attention Accuracy in Language Modeling',
    authors: 'Wei, Yadav, Pascanu, Gulcehre',
    year: 2025,
    id: 'arXiv:2507.04416',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['LinearScan', 'SoftmaxAttention'],
  decode: 'full-cache',
  // a pair per finished chunk and the running one; position is one more number
  stateBytes: (length, { heads = 1, headDim = 1, chunkSize = 16 }) => 4 * (2 * heads * headDim * (Math.floor(length / chunkSize) + 1) + 1),
  complexity: { train: 'O(T D + T (T / C) D)', decode: 'O((T / C) D)' },
  reference: {
    repository: 'CLAIRE-Labo/RAT',
    path: 'src/model/backbone/rat/rat.py, src/model/op/merge_lastt.py',
    licence: 'MIT',
  },
  deviations: [
    'Any length is taken; the reference wants a multiple of the chunk size.',
    'The norm before the layer and the residual around it belong to the block; the reference has them inside.',
    'With chunks of one token the layer has no gate, since nothing is kept; the reference leaves its gate bias uninitialised there.',
    'Running pairs are float32; the reference rounds them to bfloat16.',
    'The running pair is kept apart from the cache of finished chunks; the reference overwrites the last slot of the cache.',
  ],
  degenerate: [
    'Chunks of one token and closed gates give causal softmax attention.',
    'A chunk that holds the whole sequence gives the gated recurrence of the values.',
    'With gates of 0 an output attends to the last tokens of finished chunks and to its own token.',
  ],
  evidence: 'properties-only',
  since: '0.2.0',
};
