import { MultiHeadAttention, SlidingWindowAttention } from '@seqloom/attention';
import { GatedConvolution, Mlp } from '@seqloom/core';
import type { ChannelMixer, SequenceMixer } from '@seqloom/core';
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
  MemoryLayer,
  TitansMemoryAsContext,
  TitansMemoryAsGate,
  TitansMemoryAsLayer,
  TitansNeuralMemory,
  TransformerXlRecurrence,
} from '@seqloom/memory';
import type { MemoryLayerConfig } from '@seqloom/memory';
import {
  LandmarkAttention,
  MobaAttention,
  NativeSparseAttention,
  NeighborhoodAttention,
  RoutingAttention,
} from '@seqloom/sparse-attention';
import { GatedImpulseRecurrence, GriffinRecurrence, Mamba, Mamba2, S4d, S5, ShortCausalConv1d } from '@seqloom/ssm';

/** A component's config as it stands in a definition, with `dim` and `seed` filled in and `type` left out. */
export type ComponentConfig = Readonly<Record<string, unknown>> & { readonly dim: number; readonly seed: number };

/** The parts that a hybrid may be made of, by the `type` of a definition. */
export interface Components {
  readonly mixers: Readonly<Record<string, (config: ComponentConfig) => SequenceMixer>>;
  readonly channels: Readonly<Record<string, (config: ComponentConfig) => ChannelMixer>>;
}

/** Makes a component from a definition; its constructor validates the config. */
const from =
  <Config, Made>(Component: new (config: Config) => Made) =>
  (config: ComponentConfig): Made =>
    new Component(config as unknown as Config);

/** Every component that the families of this release have; pass your own record to bundle only what you use. */
export const defaultComponents: Components = {
  mixers: {
    'mha-mqa-gqa': from(MultiHeadAttention),
    'sliding-window-attention': from(SlidingWindowAttention),
    'gated-convolution': from(GatedConvolution),
    'linear-attention': from(LinearAttention),
    'based-taylor': from(BasedTaylor),
    retention: from(Retention),
    'lightning-attention': from(LightningAttention),
    'gated-linear-attention': from(GatedLinearAttention),
    'delta-net': from(DeltaNet),
    'gated-delta-net': from(GatedDeltaNet),
    'kimi-delta-attention': from(KimiDeltaAttention),
    hgrn: from(Hgrn),
    hgrn2: from(Hgrn2),
    'gated-slot-attention': from(GatedSlotAttention),
    'bounded-memory-control': from(BoundedMemoryControl),
    'jrt-prefix-linear-attention': from(PrefixLinearAttention),
    rat: from(Rat),
    aaren: from(Aaren),
    'mamba-s6': from(Mamba),
    'mamba2-ssd': from(Mamba2),
    'short-causal-conv1d': from(ShortCausalConv1d),
    'parallel-scan': from(GatedImpulseRecurrence),
    s4d: from(S4d),
    's4d-s5-diagonal-ssm': from(S5),
    'rglru-griffin': from(GriffinRecurrence),
    moba: from(MobaAttention),
    'native-sparse-attention': from(NativeSparseAttention),
    'landmark-attention': from(LandmarkAttention),
    'routing-transformer': from(RoutingAttention),
    'neighborhood-attention': from(NeighborhoodAttention),
    'transformer-xl-recurrence': from(TransformerXlRecurrence),
    lm2: from(Lm2),
    memformer: from(Memformer),
    'titans-neural-memory': from(TitansNeuralMemory),
    'titans-memory-as-context': from(TitansMemoryAsContext),
    'titans-memory-as-gate': from(TitansMemoryAsGate),
    'titans-memory-as-layer': from(TitansMemoryAsLayer),
  },
  channels: {
    mlp: from(Mlp),
    // with a gradient for any optimiser; `sparse: true` leaves the table to `SparseAdamW`
    'memory-layers-at-scale': (config) => new MemoryLayer({ sparse: false, ...(config as unknown as MemoryLayerConfig) }),
  },
};
