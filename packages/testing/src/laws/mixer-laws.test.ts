import { GatedConvolution } from '@seqloom/core';
import { mixerLaws } from './mixer-laws.ts';
import { toyCard, ToyMixer } from './toy-mixer.ts';

mixerLaws({ card: toyCard, build: () => new ToyMixer({ dim: 6 }), dims: { dim: 6 } });

mixerLaws({
  card: { ...toyCard, id: 'gated-convolution', stateBytes: (_length, dims) => 4 * 2 * dims.dim! * 3 },
  build: () => new GatedConvolution({ dim: 6, kernelSize: 4 }),
  dims: { dim: 6 },
});
