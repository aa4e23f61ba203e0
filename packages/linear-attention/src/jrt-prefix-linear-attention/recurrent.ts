import { startingFromPrefix } from './chunk.ts';
import type { PrefixResult } from './chunk.ts';
import type { PrefixCall } from './jrt-prefix-linear-attention.ts';

/** The recurrent form, token by token from the sums of the prefix on: `[S, z] <- [S, z] + phi(k) [v, 1]^T`. */
export function recurrentForm(call: PrefixCall): PrefixResult {
  return startingFromPrefix(call, 'recurrent');
}
