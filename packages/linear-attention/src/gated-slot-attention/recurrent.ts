import { chunkForm } from './chunk.ts';
import type { Slots, SlotSums } from './chunk.ts';

/** The recurrent form, token by token: decay the slots, write, `o_t = V~_t^T softmax(scale K~_t q_t)`; chunks of one token. */
export function recurrentForm(slots: Slots, scale: number): SlotSums {
  return chunkForm(slots, scale, 1);
}
