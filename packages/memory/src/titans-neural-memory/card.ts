import type { MechanismCard } from '@seqloom/core';

/** What is known about Titans' neural memory. */
export const card: MechanismCard = {
  id: 'titans-neural-memory',
  title: 'Titans neural long-term memory, as context, as gate and as layer',
  paper: {
    title: 'Titans: Learning to Memorize at Test Time',
    authors: 'Ali Behrouz, Peilin Zhong, Vahab Mirrokni',
    year: 2024,
    id: 'arXiv:2501.00663',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['CausalConv1d', 'RmsNorm', 'SoftmaxAttention'],
  decode: 'constant-state',
  // copies: weights, momentum, and with chunks the weights of the chunk's start
  stateBytes: (_length, { heads = 1, weights = 1, copies = 3, dim = 1, kernelSize = 4 }) =>
    4 * (heads * weights * copies + 3 * (kernelSize - 1) * dim + 1),
  complexity: {
    train: 'O(T (b + D) D) per head and layer of the network, b the chunk',
    decode: 'O(D^2) per head and layer of the network',
  },
  reference: { repository: 'lucidrains/titans-pytorch', path: 'titans_pytorch/neural_memory.py', licence: 'MIT' },
  deviations: [
    'The paper has no code of its authors; the golden vectors are of two independent implementations, which differ from the paper and from each other (publishedTitansLinear, publishedNeuralMemory).',
    'The chunk form has momentum in closed form, which the paper leaves to a scan over gradients; it is derived in the README.',
    'Gradients of a chunk are taken at the weights of its start, as in the paper; a chunk of 1 is the recurrence itself.',
    'In memory as context a token sees retrieved rows of its own and earlier tokens only, and reads the memory as it is after its own write; as printed, a whole segment is retrieved and written at once, and later tokens of a segment reach earlier ones.',
    'Persistent tokens belong to the attention alone; the learned first weights are what the memory knows before the first token.',
    'Queries and keys of the attention are rotated by their position, persistent keys are not.',
  ],
  degenerate: [
    'A chunk of one token is the recurrence with a gradient at the weights before the token.',
    'A linear memory without momentum and decay, in chunks of one token, is the delta rule.',
    'With a step size of 0 the output is the decayed first memory.',
    'With a decay of 0 the memory is the momentum alone.',
    'Orthonormal keys, stored with a step size of a half, are recalled exactly.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
