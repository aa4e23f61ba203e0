import { MultiHeadAttention, MultiHeadLatentAttention, SlidingWindowAttention } from '@seqloom/attention';
import { GatedConvolution, Mlp } from '@seqloom/core';
import {
  Aaren,
  BasedTaylor,
  BoundedMemoryControl,
  DeltaNet,
  GatedDeltaNet,
  GatedLinearAttention,
  GatedSlotAttention,
  Hgrn,
  Hgrn2,
  KimiDeltaAttention,
  LightningAttention,
  LinearAttention,
  PrefixLinearAttention,
  Rat,
  Retention,
} from '@seqloom/linear-attention';
import {
  Lm2,
  Memformer,
  MemformerRecurrence,
  MemoryLayer,
  RecurrentMemoryTransformer,
  TitansMemoryAsContext,
  TitansMemoryAsGate,
  TitansMemoryAsLayer,
  TitansNeuralMemory,
  TransformerXlRecurrence,
} from '@seqloom/memory';
import type { MemformerRecurrenceConfig, MemoryLayerConfig, RecurrentMemoryTransformerConfig } from '@seqloom/memory';
import {
  LandmarkAttention,
  MobaAttention,
  NativeSparseAttention,
  NeighborhoodAttention,
  RoutingAttention,
} from '@seqloom/sparse-attention';
import { GatedImpulseRecurrence, GriffinRecurrence, Mamba, Mamba2, S4d, S5, ShortCausalConv1d } from '@seqloom/ssm';
import { component } from './component-types.ts';
import type { Components } from './component-types.ts';
import { MixtureOfExperts } from './moe-channel-mixers/index.ts';

/** Every component that the families of this release have; pass your own record to bundle only what you use. */
export const defaultComponents: Components = {
  mixers: {
    'mha-mqa-gqa': component(MultiHeadAttention),
    'multi-head-latent-attention': component(MultiHeadLatentAttention),
    'sliding-window-attention': component(SlidingWindowAttention),
    'gated-convolution': component(GatedConvolution),
    'linear-attention': component(LinearAttention),
    'based-taylor': component(BasedTaylor),
    retention: component(Retention),
    'lightning-attention': component(LightningAttention),
    'gated-linear-attention': component(GatedLinearAttention),
    'delta-net': component(DeltaNet),
    'gated-delta-net': component(GatedDeltaNet),
    'kimi-delta-attention': component(KimiDeltaAttention),
    hgrn: component(Hgrn),
    hgrn2: component(Hgrn2),
    'gated-slot-attention': component(GatedSlotAttention),
    'bounded-memory-control': component(BoundedMemoryControl),
    'jrt-prefix-linear-attention': component(PrefixLinearAttention),
    rat: component(Rat),
    aaren: component(Aaren),
    'mamba-s6': component(Mamba),
    'mamba2-ssd': component(Mamba2),
    'short-causal-conv1d': component(ShortCausalConv1d),
    'parallel-scan': component(GatedImpulseRecurrence),
    s4d: component(S4d),
    's4d-s5-diagonal-ssm': component(S5),
    'rglru-griffin': component(GriffinRecurrence),
    moba: component(MobaAttention),
    'native-sparse-attention': component(NativeSparseAttention),
    'landmark-attention': component(LandmarkAttention),
    'routing-transformer': component(RoutingAttention),
    'neighborhood-attention': component(NeighborhoodAttention),
    'transformer-xl-recurrence': component(TransformerXlRecurrence),
    lm2: component(Lm2),
    memformer: component(Memformer),
    'titans-neural-memory': component(TitansNeuralMemory),
    'titans-memory-as-context': component(TitansMemoryAsContext),
    'titans-memory-as-gate': component(TitansMemoryAsGate),
    'titans-memory-as-layer': component(TitansMemoryAsLayer),
  },
  channels: {
    mlp: component(Mlp),
    'moe-channel-mixers': component(MixtureOfExperts),
    // with a gradient for any optimiser; `sparse: true` leaves the table to `SparseAdamW`
    'memory-layers-at-scale': (config) => new MemoryLayer({ sparse: false, ...(config as unknown as MemoryLayerConfig) }),
  },
  segments: {
    'recurrent-memory-transformer': (config, stack) =>
      new RecurrentMemoryTransformer(config as unknown as RecurrentMemoryTransformerConfig, stack),
    // layers of a cross pattern read its memory
    memformer: (config, stack) => new MemformerRecurrence(config as unknown as MemformerRecurrenceConfig, stack),
  },
};
