import { fail } from '@seqloom/core';
import type { Mapping, ParameterShapes, Rule } from './adapter.ts';
import { identity } from './transform.ts';
import type { Transform } from './transform.ts';

/** One use of a rule: names without placeholders. */
export interface Group {
  readonly hub: readonly string[];
  readonly own: readonly string[];
  readonly transform: Transform;
  /** shapes that the checkpoint's tensors must have, in the order of `hub` */
  readonly shapes: readonly (readonly number[])[];
}

/** A mapping laid out for one model. */
export interface Plan {
  readonly groups: readonly Group[];
  /** parameters that no rule gives */
  readonly without: readonly string[];
}

/**
 * Lays a mapping's rules out for a model's parameters.
 *
 * @param depth number of layers, what `{i}` runs over
 * @throws SeqLoomError when two rules give the same parameter
 */
export function planMapping({ rules }: Mapping, parameters: ParameterShapes, depth: number): Plan {
  const groups: Group[] = [];
  const given = new Set<string>();
  for (const rule of rules) {
    for (const { hub, own } of expand(rule, depth)) {
      const shapes = own.map((name) => parameters.get(name));
      if (shapes.some((shape) => shape === undefined)) continue;
      const twice = own.find((name) => given.has(name));
      if (twice !== undefined) {
        const remedy = 'Give rules of different kinds of layers their own layers.';
        fail({
          mechanism: 'checkpoint',
          argument: `parameter ${twice}`,
          wanted: 'met by one rule',
          given: `another, of ${hub.join(', ')}`,
          remedy,
        });
      }
      for (const name of own) given.add(name);
      const transform = rule.transform ?? identity;
      const expected = transform.backward(shapes.map((shape) => ({ shape: shape!, data: null })));
      groups.push({ hub, own, transform, shapes: expected.map(({ shape }) => shape) });
    }
  }
  return { groups, without: [...parameters.keys()].filter((name) => !given.has(name)) };
}

function* expand(rule: Rule, depth: number): Generator<{ hub: string[]; own: string[] }> {
  const [hub, own] = [names(rule.hub), names(rule.own)];
  const perLayer = [...hub, ...own].some((name) => name.includes('{i}'));
  const layers = perLayer ? (rule.layers ?? Array.from({ length: depth }, (_, layer) => layer)) : [0];
  const experts = Array.from({ length: rule.experts ?? 0 }, (_, expert) => expert);
  const together = !own.some((name) => name.includes('{e}'));
  for (const layer of layers) {
    const at = (list: readonly string[], expert?: number): string[] =>
      list.map((name) => name.replaceAll('{i}', String(layer)).replaceAll('{e}', expert === undefined ? '{e}' : String(expert)));
    if (experts.length === 0) yield { hub: at(hub), own: at(own) };
    else if (together)
      yield { hub: hub.flatMap((name) => (name.includes('{e}') ? experts.flatMap((e) => at([name], e)) : at([name]))), own: at(own) };
    else for (const expert of experts) yield { hub: at(hub, expert), own: at(own, expert) };
  }
}

function names(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value;
}
