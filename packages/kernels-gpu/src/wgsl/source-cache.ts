import type * as tf from '@tensorflow/tfjs-core';
import { tuningFor } from './device.ts';

const sources = new Map<string, string>();

/** The source of a shader whose text is made: the text is long, and the same at every call of its name. */
export function sourceOf(name: string, make: () => string): string {
  let source = sources.get(name);
  if (source === undefined) sources.set(name, (source = make()));
  return source;
}

/** The source of a shader that is written with subgroup operations or without, as the device's tuning says: two entries of a `WgslCall`. */
export function withSubgroups(
  name: string,
  backend: tf.KernelBackend,
  write: (subgroups: boolean) => string,
): { readonly source: string; readonly subgroups: boolean } {
  const { subgroups } = tuningFor(backend).tuning;
  return { source: sourceOf(`${name}${subgroups ? '-subgroups' : ''}`, () => write(subgroups)), subgroups };
}
