import { Block, GatedConvolution, Mlp, ParallelMixer } from '@seqloom/core';
import { mixerLaws } from './mixer-laws.ts';
import { toyCard, ToyMixer } from './toy-mixer.ts';
import { ToyCache, ToyMean } from './toy-patterns.ts';

mixerLaws({ card: toyCard, build: () => new ToyMixer({ dim: 6 }), dims: { dim: 6 } });

mixerLaws({
  card: { ...toyCard, id: 'gated-convolution', stateBytes: (_length, dims) => 4 * 2 * dims.dim! * 3 },
  build: () => new GatedConvolution({ dim: 6, kernelSize: 4 }),
  dims: { dim: 6 },
});

mixerLaws({
  card: toyCard,
  name: 'a block of average and MLP',
  build: () => new Block({ mixer: new ToyMixer({ dim: 6 }), channel: new Mlp({ dim: 6 }) }),
});

for (const style of ['post', 'sandwich', 'normalised', 'parallel'] as const) {
  mixerLaws({
    card: toyCard,
    name: `a ${style} block with layer norms and learned residuals`,
    build: () =>
      new Block({
        mixer: new ToyMixer({ dim: 6 }),
        channel: new Mlp({ dim: 6 }),
        norm: { type: 'layer' },
        residual: { style, learned: true, mixerCarry: 1.5, channelScale: 0.5 },
      }),
    length: 7,
  });
}

mixerLaws({
  card: { ...toyCard, id: 'parallel', stateBytes: (_length, dims) => 4 * (dims.dim! + 2 * dims.dim! * 3 + 2) },
  build: () =>
    new ParallelMixer({
      branches: [
        { mixer: new ToyMixer({ dim: 6 }), norm: {} },
        { mixer: new GatedConvolution({ dim: 6, kernelSize: 4 }), inputScale: 2, outputScale: 0.5 },
      ],
      combine: 'gated',
      output: true,
    }),
  dims: { dim: 6 },
  length: 7,
});

mixerLaws({
  card: { ...toyCard, id: 'toy-cache', decode: 'full-cache', stateBytes: (length, dims) => 4 * length * dims.dim! },
  build: () => new ToyCache(4),
  dims: { dim: 4 },
});

for (const pattern of ['noncausal-self', 'noncausal-cross', 'causal-cross'] as const) {
  mixerLaws({
    card: { ...toyCard, id: 'toy-mean', decode: 'none', patterns: [pattern] },
    name: `toy-mean, ${pattern}`,
    build: () => new ToyMean(4, pattern),
    ...(pattern.endsWith('cross') ? { context: { length: 5, dim: 4 } } : {}),
  });
}
