import { causalPass } from './chunk.ts';
import type { Decayed, DecayedCall, DecayedTensors } from './parallel.ts';

/** The recurrent form, token by token: `S <- gamma S + k_t v_t^T`, `o_t = scale S^T q_t`; chunks of one token. */
export function recurrentForm(tensors: DecayedTensors, call: DecayedCall): Decayed {
  return causalPass(tensors, { ...call, chunkSize: 1 });
}
