import type { Rule } from '../adapter.ts';
import { chain, stack, transpose } from '../transform.ts';

/** Names of an expert's three matrices. */
export interface ExpertNames {
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

/** The names that most families use. */
export const PLAIN_EXPERT: ExpertNames = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };

/**
 * Rules of a mixture of experts whose experts are stored one by one.
 *
 * @param hub the folder that holds `experts` and the router, such as `model.layers.{i}.mlp`
 * @param experts number of experts
 * @param router name of the router inside `hub`
 */
export function expertRules(hub: string, experts: number, names: ExpertNames = PLAIN_EXPERT, router = 'gate'): Rule[] {
  const own = 'stack.layers.{i}.channel';
  const parts = Object.entries(names) as [keyof ExpertNames, string][];
  return [
    { hub: `${hub}.${router}.weight`, own: `${own}.router.weight`, transform: transpose },
    ...parts.map(([part, name]) => ({
      hub: `${hub}.experts.{e}.${name}.weight`,
      own: `${own}.${part}`,
      experts,
      transform: chain(transpose, stack(experts)),
    })),
  ];
}
