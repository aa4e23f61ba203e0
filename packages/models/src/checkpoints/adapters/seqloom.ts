import { fail } from '@seqloom/core';
import type { HybridConfig } from '../../config.ts';
import type { CheckpointAdapter } from '../adapter.ts';

/** `model_type` of checkpoints in our own form. */
export const SEQLOOM_TYPE = 'seqloom';

/** Our own form, for models that no other library has: `config.json` holds the hybrid config under `stack_spec`, tensors have our names. */
export const seqloom: CheckpointAdapter = {
  id: 'seqloom',
  modelTypes: [SEQLOOM_TYPE],
  keys: ['stack_spec'],
  toHybrid({ config, label }) {
    const spec = config['stack_spec'];
    if (typeof spec === 'object' && spec !== null) return spec as HybridConfig;
    const remedy = 'Fetch the config of the checkpoint again.';
    return fail({
      mechanism: 'checkpoint',
      argument: `${label} stack_spec`,
      wanted: 'a hybrid config',
      given: JSON.stringify(spec) ?? 'nothing',
      remedy,
    });
  },
  mapping: (_config, parameters) => ({ rules: [...parameters.keys()].map((name) => ({ hub: name, own: name })) }),
};
