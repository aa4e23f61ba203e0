import type { Components } from './component-types.ts';
import { defaultComponents } from './components.ts';
import type { HybridConfig } from './config.ts';
import { Hybrid } from './hybrid.ts';

/**
 * A language model woven from a declarative config, with every component of this release unless told otherwise.
 *
 * For a bundle that holds only what a model uses, use `Hybrid` and pass the components as values.
 *
 * @example
 * const model = new HybridModel({
 *   vocabSize: 256, dim: 64,
 *   mixers: '(conv, linear, window)*2',
 *   definitions: {
 *     conv: { type: 'gated-convolution' },
 *     linear: { type: 'based-taylor', heads: 4, featureDim: 8 },
 *     window: { type: 'sliding-window-attention', heads: 4, window: 32 },
 *     mlp: { type: 'mlp' },
 *   },
 * });
 */
export class HybridModel extends Hybrid {
  /** @param config plain JSON, see `HybridConfig` */
  constructor(config: HybridConfig, components: Components = defaultComponents) {
    super(config, components);
  }
}
