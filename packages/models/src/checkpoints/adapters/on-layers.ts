import type { Rule } from '../adapter.ts';

/** Rules for the layers of one kind only. */
export function onLayers(kinds: readonly string[], kind: string, rules: readonly Rule[]): Rule[] {
  const layers = kinds.flatMap((name, layer) => (name === kind ? [layer] : []));
  return rules.map((rule) => ({ ...rule, layers }));
}

/** The definitions that layers name, so that a config holds no other. */
export function usedDefinitions<D>(definitions: Readonly<Record<string, D>>, ...names: readonly (readonly string[])[]): Record<string, D> {
  const used = new Set(names.flat());
  return Object.fromEntries(Object.entries(definitions).filter(([name]) => used.has(name)));
}
