import { mixerLaws } from '@seqloom/testing';
import { card } from './card.ts';
import { SlidingWindowAttention } from './layer.ts';
import type { SlidingWindowAttentionConfig } from './layer.ts';

const variants: [string, SlidingWindowAttentionConfig][] = [
  ['a window', { dim: 8, heads: 4, kvHeads: 2, window: 4 }],
  ['a window and sinks', { dim: 8, heads: 2, window: 3, sinks: 2, sinkLogits: true }],
  ['cache positions', { dim: 8, heads: 2, kvHeads: 1, window: 3, sinks: 2, positions: 'cache', rotary: { base: 100 } }],
  ['cache positions with ALiBi', { dim: 8, heads: 2, window: 3, sinks: 2, positions: 'cache', alibi: true }],
  ['a window of one token', { dim: 8, heads: 2, window: 1, sinks: 1 }],
  ['a window longer than the sequence', { dim: 8, heads: 2, window: 40, qkNorm: true, outputGate: true }],
  ['a two-sided window and sinks', { dim: 8, heads: 2, window: 3, sinks: 1, pattern: 'noncausal-self' }],
];

for (const [name, config] of variants) {
  const { dim, heads, kvHeads = heads, window, sinks = 0 } = config;
  mixerLaws({
    card,
    name: `sliding-window-attention, ${name}`,
    build: () => new SlidingWindowAttention({ seed: 3, ...config }),
    ...(config.pattern === 'noncausal-self' ? {} : { dims: { kvHeads, headDim: dim / heads, window, sinks } }),
    badConfigs: [
      { build: () => new SlidingWindowAttention({ dim: 8, heads: 2, window: 0 }), argument: 'config.window' },
      { build: () => new SlidingWindowAttention({ dim: 8, heads: 2, window: 2, sinks: -1 }), argument: 'config.sinks' },
      {
        build: () => new SlidingWindowAttention({ dim: 8, heads: 2, window: 2, positions: 'cache', pattern: 'noncausal-self' }),
        argument: 'config.positions',
      },
    ],
  });
}
