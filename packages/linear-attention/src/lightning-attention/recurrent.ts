import { causalPass } from '../retention/chunk.ts';
import type { Decayed, DecayedCall, DecayedTensors } from '../retention/parallel.ts';

/** The recurrent form, token by token: `KV <- exp(-s) KV + k_t v_t^T`, `o_t = KV^T q_t`; chunks of one token. */
export function recurrentForm(tensors: DecayedTensors, call: DecayedCall): Decayed {
  return causalPass(tensors, { ...call, chunkSize: 1 });
}
