import type { MixInput, ShortConvolution } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';

/** The short convolutions behind a layer's projections, by role; null where there is none. */
export type RoleConvolutions<Role extends string = string> = Readonly<Record<Role, ShortConvolution | null>>;

/** What the convolutions carry from piece to piece: `queryWindow` for the role `query`, and so on. */
export function windowShapes(convolutions: RoleConvolutions, batch: number): Record<string, number[]> {
  const there = Object.entries(convolutions).filter((entry): entry is [string, ShortConvolution] => entry[1] !== null);
  return Object.fromEntries(there.map(([role, convolution]) => [`${role}Window`, convolution.stateShape(batch)]));
}

/**
 * Projected rows behind their short convolutions.
 *
 * @param rows [B, T, channels] by role
 * @param input whose state holds the windows
 * @returns rows as convolved, or as given where there is no convolution, and the windows after the piece
 */
export function convolveRows<Role extends string>(
  rows: Readonly<Record<Role, tf.Tensor>>,
  convolutions: RoleConvolutions<Role>,
  { state, lengths }: Pick<MixInput, 'state' | 'lengths'>,
): { readonly rows: Record<Role, tf.Tensor>; readonly windows: Record<string, tf.Tensor> } {
  const convolved: Record<Role, tf.Tensor> = { ...rows };
  const windows: Record<string, tf.Tensor> = {};
  for (const role of Object.keys(rows) as Role[]) {
    const result = convolutions[role]?.forward(rows[role] as tf.Tensor3D, { state: state[`${role}Window`]!, lengths });
    if (!result) continue;
    convolved[role] = result.output;
    windows[`${role}Window`] = result.state;
  }
  return { rows: convolved, windows };
}
