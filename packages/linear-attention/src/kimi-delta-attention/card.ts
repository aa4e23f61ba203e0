import type { MechanismCard } from '@seqloom/core';

/** What is known about Kimi Delta Attention. */
export const card: MechanismCard = {
  id: 'kimi-delta-attention',
  title: 'Kimi Delta Attention',
  paper: {
    title: 'Kimi Linear: An Expressive, Efficient Attention Architecture',
    authors: 'Kimi Team',
    year: 2025,
    id: 'arXiv:2510.26692',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'chunk', 'recurrent'],
  kernels: ['LinearAttention', 'CausalConv1d', 'RmsNorm'],
  decode: 'constant-state',
  // headDim and valueDim are per head, kernelSize is that of the short convolutions (0: none); position is one more number
  stateBytes: (_length, { heads = 1, headDim = 128, valueHeads = heads, valueDim = headDim, kernelSize = 4 }) =>
    4 * (valueHeads * headDim * valueDim + Math.max(0, kernelSize - 1) * (2 * heads * headDim + valueHeads * valueDim) + 1),
  complexity: { train: 'O(T C (K + V) + T K V + T C^2)', decode: 'O(K V)' },
  reference: {
    repository: 'fla-org/flash-linear-attention',
    path: 'fla/ops/kda/naive.py, fla/ops/kda/gate.py, fla/layers/kda.py',
    licence: 'MIT',
  },
  deviations: [
    'The chunked form has beta in its triangular system and writes corrected values, as equations and code do; the listing of the report leaves out the one and writes raw values.',
    'A lowest log decay chooses the bounded gate and starts its rates at one; the reference asks for a second flag for the latter.',
  ],
  degenerate: [
    'With equal decays in all channels it is Gated DeltaNet.',
    'Without decay it is DeltaNet.',
    'With beta of zero every channel of the memory decays on its own.',
    'It is the diagonal-plus-low-rank recurrence S <- (diag(alpha) + a b^T) S + beta k v^T with a = -beta k and b = alpha k.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
