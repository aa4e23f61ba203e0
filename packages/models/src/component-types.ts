import type { ChannelMixer, SequenceMixer } from '@seqloom/core';

/** A component's config as it stands in a definition, with `dim` and `seed` filled in and `type` left out. */
export type ComponentConfig = Readonly<Record<string, unknown>> & { readonly dim: number; readonly seed: number };

/** The parts that a hybrid may be made of, by the `type` of a definition. */
export interface Components {
  readonly mixers: Readonly<Record<string, (config: ComponentConfig) => SequenceMixer>>;
  readonly channels: Readonly<Record<string, (config: ComponentConfig) => ChannelMixer>>;
  /** segment recurrence around a stack, which then belongs to what is made */
  readonly segments?: Readonly<Record<string, (config: ComponentConfig, stack: SequenceMixer) => SequenceMixer>>;
}

/**
 * A component from a class whose constructor takes the config and validates it.
 *
 * @example
 * const components: Components = { mixers: { 'based-taylor': component(BasedTaylor) }, channels: { mlp: component(Mlp) } };
 */
export function component<Config, Made>(Component: new (config: Config) => Made): (config: ComponentConfig) => Made {
  return (config) => new Component(config as unknown as Config);
}
