import { fail } from '@seqloom/core';
import type { HybridConfig } from '../config.ts';
import type { Architecture } from './architecture.ts';
import { mambaLm } from './mamba-lm.ts';
import { transformerPp } from './transformer-pp.ts';

export type { Architecture } from './architecture.ts';
export type { MambaLmShape } from './mamba-lm.ts';
export type { TransformerPpShape } from './transformer-pp.ts';

/** Published architectures by id, for configs of any shape. */
export const architectures = {
  'transformer-pp': transformerPp,
  'mamba-lm': mambaLm,
};

/** Names of all published sizes, such as `based/360m`. */
export function publishedNames(): string[] {
  return Object.values<Architecture<never>>(architectures as never).flatMap(({ id, sizes }) =>
    Object.keys(sizes).map((size) => `${id}/${size}`),
  );
}

/**
 * The config of a published size, to change or to build.
 *
 * @param name architecture and size, such as `based/360m`
 * @throws SeqLoomError on a name that does not exist; it tells which do
 */
export function publishedConfig(name: string): HybridConfig {
  const [id = '', size = ''] = name.split('/');
  const known = architectures as unknown as Readonly<Record<string, Architecture<unknown>>>;
  const architecture = Object.hasOwn(known, id) ? known[id] : undefined;
  const found = architecture && Object.hasOwn(architecture.sizes, size) ? architecture.sizes[size] : undefined;
  if (!architecture || !found) {
    const names = publishedNames().filter((one) => !architecture || one.startsWith(`${id}/`));
    return fail({
      mechanism: 'publishedConfig',
      argument: 'name',
      wanted: `one of ${names.join(', ')}`,
      given: JSON.stringify(name),
      remedy: 'Choose one of these, or give `architectures` a shape of your own.',
    });
  }
  return architecture.config(found.shape);
}
