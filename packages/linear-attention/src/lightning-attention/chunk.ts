import { causalPass } from '../retention/chunk.ts';
import type { Decayed, DecayedCall, DecayedTensors } from '../retention/parallel.ts';

/**
 * The chunked form, lightning attention 2: within a block of B tokens `((Q K^T) * M) V`, the left product, and from the memory
 * `exp(-s (j + 1)) q_j KV`, the right product; then `KV <- exp(-s B) KV + sum of exp(-s (B - 1 - j)) k_j v_j^T`.
 */
export function chunkForm(tensors: DecayedTensors, call: DecayedCall): Decayed {
  return causalPass(tensors, call);
}
