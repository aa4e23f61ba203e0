import { linearAttention } from '../linear-attention/op.ts';
import type { LinearAttentionResult } from '../linear-attention/op.ts';
import type { LinearAttentionTensors } from '../linear-attention/settings.ts';
import type { TaylorCall } from './chunk.ts';

/** The recurrent form, token by token: `S <- S + phi(k) v^T`, `z <- z + phi(k)`, `o = S^T phi(q) / (phi(q) z + epsilon)`. */
export function recurrentForm(tensors: LinearAttentionTensors, call: TaylorCall, symmetric: boolean): LinearAttentionResult {
  return linearAttention(tensors, { ...call, featureMap: { name: 'taylor2', symmetric }, form: 'recurrent' });
}
