import type { MechanismCard } from '@seqloom/core';

/** What is known about Memformer's external memory. */
export const card: MechanismCard = {
  id: 'memformer',
  title: 'Memformer external memory',
  paper: {
    title: 'Memformer: A Memory-Augmented Transformer for Sequence Modeling',
    authors: 'Qingyang Wu, Zhenzhong Lan, Kun Qian, Jing Gu, Alborz Geramifard, Zhou Yu',
    year: 2020,
    id: 'arXiv:2010.06891',
  },
  patterns: ['causal-self', 'noncausal-self'],
  forms: ['naive', 'recurrent'],
  kernels: ['SoftmaxAttention', 'GatherRows'],
  decode: 'constant-state',
  stateBytes: (_length, { dim = 1, slots = 1, segmentLength = 1 }) => 4 * ((slots + segmentLength - 1) * dim + 1),
  complexity: { train: 'O(T N D)', decode: 'O(N D)' },
  reference: { repository: 'lucidrains/memformer', path: 'memformer/memformer.py', licence: 'MIT' },
  deviations: [
    'The causal layer is one sublayer of reading with a memory of its own, to be stacked with any attention; the paper has one memory for the network, which the encoder and the recurrence around a stack have.',
    'In the causal layer tokens of a segment only read, and a full segment is written for the segments after it; the encoder sees its segment in both directions, as published.',
    'The temperature of the writer is 0.25 by default: the paper only says that it is below 1.',
    'A slot that attends to itself takes m W_V like a token does; the paper also writes m.',
    'Keys have no bias in the causal layer, since softmax does not see one.',
    "The encoder's relative positions are bucketed as in the reference, whose encoder tells apart the past and takes all of the future as one bucket.",
    'The decoder of the published encoder-decoder is not part of it: causal attention and a cross layer of @seqloom/attention make one.',
  ],
  degenerate: [
    'A slot bias that is huge resets the memory in every segment to its direction.',
    'Without a slot bias the memory is what was attended to, normed.',
    'What a slot becomes does not depend on the other slots.',
    'At a temperature near 0 each slot takes one row, its own or a token.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
