import { Module, Parameter } from '@seqloom/core';
import type { Hybrid } from '../hybrid.ts';

/** Settings that say how layers are written down; what they come to stands in the layers. */
const WRITTEN: ReadonlySet<string> = new Set(['depth', 'mixers', 'channels', 'definitions', 'overrides', 'norm', 'residual', 'segments']);

/** Settings that weights are drawn with: nothing of them is left once weights are loaded or trained. */
const isDrawn = (key: string): boolean => key === 'seed' || /deviation$/i.test(key);

/**
 * All that makes a model what it is beside the numbers of its weights: settings, shapes and kinds of parts by dotted name, each as text.
 *
 * Defaults are filled in, so that configs which say the same in other words have one description.
 */
export function describeModel(model: Hybrid): Map<string, string> {
  const found = new Map<string, string>();
  const first = new Map<Module, string>();
  const visit = (value: unknown, path: string): void => {
    if (value instanceof Parameter) found.set(path, `a weight of [${value.shape.join(', ')}]`);
    else if (value instanceof Module) visitModule(value, path);
    else if (isPlain(value) && Object.keys(value).length > 0) visitEntries(value, path);
    else found.set(path, typeof value === 'number' ? String(value) : JSON.stringify(value));
  };
  const visitModule = (module: Module, path: string): void => {
    const same = first.get(module);
    found.set(path, same === undefined ? module.constructor.name : `the same as ${same}`);
    if (same !== undefined) return;
    first.set(module, path);
    // a default that depends on other settings stands in a field alone
    visitEntries({ ...('config' in module ? (module.config as object) : {}), ...tellingEntries(module) }, path);
  };
  const visitEntries = (entries: object, path: string): void => {
    for (const [key, value] of Object.entries(tellingEntries(entries)))
      if (key !== 'config' && !isDrawn(key)) visit(value, path === '' ? key : `${path}.${key}`);
  };
  visitEntries(Object.fromEntries(Object.entries(model.config).filter(([key]) => !WRITTEN.has(key))), '');
  visitEntries(model, '');
  return found;
}

/** The entries that hold settings or parts, and no work of functions or tables. */
function tellingEntries(entries: object): object {
  return Object.fromEntries(
    Object.entries(entries).filter(([, value]: [string, unknown]) =>
      typeof value === 'object'
        ? value === null || value instanceof Module || value instanceof Parameter || isPlain(value)
        : value !== undefined && typeof value !== 'function',
    ),
  );
}

function isPlain(value: unknown): value is object {
  return Array.isArray(value) || (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype);
}
