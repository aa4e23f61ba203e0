import { mixerLaws } from '@seqloom/testing';
import { card } from './card.ts';
import { MultiHeadAttention } from './layer.ts';
import type { MultiHeadAttentionConfig } from './layer.ts';

const variants: [string, MultiHeadAttentionConfig, number?][] = [
  ['causal GQA with rotary', { dim: 8, heads: 4, kvHeads: 2 }],
  ['causal MQA with everything on', everything()],
  ['causal MHA with ALiBi', { dim: 8, heads: 2, alibi: true }],
  ['noncausal self', { dim: 8, heads: 2, pattern: 'noncausal-self', qkNorm: true }],
  ['noncausal cross', { dim: 8, heads: 2, kvHeads: 1, pattern: 'noncausal-cross', contextDim: 6, bias: true }, 5],
  ['causal cross with rotary', { dim: 8, heads: 2, pattern: 'causal-cross', contextDim: 6, rotary: {} }, 11],
];

function everything(): MultiHeadAttentionConfig {
  return {
    dim: 8,
    heads: 2,
    kvHeads: 1,
    headDim: 6,
    rotary: { dims: 4, interleaved: true, base: 100, scaling: { type: 'yarn', factor: 4, originalLength: 16 } },
    qkNorm: true,
    bias: true,
    outputBias: true,
    softCap: 5,
    outputGate: true,
    sinkLogits: true,
  };
}

for (const [name, config, contextLength] of variants) {
  mixerLaws({
    // a cross layer reads its context anew in every call and carries no more than its position
    card: contextLength ? { ...card, decode: 'constant-state' } : card,
    name: `mha-mqa-gqa, ${name}`,
    build: () => new MultiHeadAttention({ seed: 3, ...config }),
    ...(config.pattern && config.pattern !== 'causal-self'
      ? {}
      : { dims: { kvHeads: config.kvHeads ?? config.heads, headDim: config.headDim ?? config.dim / config.heads } }),
    ...(contextLength ? { context: { length: contextLength, dim: 6 } } : {}),
    badConfigs: [
      { build: () => new MultiHeadAttention({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new MultiHeadAttention({ dim: 8, heads: 4, kvHeads: 3 }), argument: 'config.kvHeads' },
      { build: () => new MultiHeadAttention({ dim: 6, heads: 2 }), argument: 'config.rotary.dims' },
      { build: () => new MultiHeadAttention({ dim: 8, heads: 2, alibi: true, rotary: {} }), argument: 'config.alibi' },
    ],
  });
}
