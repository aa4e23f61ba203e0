import type { Parameter } from '@seqloom/core';

/** A rule for the parameters whose dotted names match; rules that come later win. */
export interface ParameterGroup {
  /** a regular expression, or a name in which `*` stands for any characters */
  readonly match: string | RegExp;
  /** factor on the learning rate, on top of the parameter's own */
  readonly learningRateScale?: number;
  /** weight decay; a parameter that its layer marked as not decaying stays so */
  readonly weightDecay?: number;
  /** leaves the parameters as they are */
  readonly frozen?: boolean;
}

/** What holds for one parameter after metadata and rules. */
export interface ParameterRule {
  readonly name: string;
  readonly parameter: Parameter;
  readonly learningRateScale: number;
  readonly weightDecay: number;
}

/**
 * Resolves the rules of every parameter that is trained: the layer's metadata first, then the groups by name.
 *
 * @param weightDecay for parameters that decay and have no group that says otherwise
 */
export function parameterRules(
  parameters: ReadonlyMap<string, Parameter>,
  groups: readonly ParameterGroup[],
  weightDecay: number,
): ParameterRule[] {
  const rules: ParameterRule[] = [];
  for (const [name, parameter] of parameters) {
    let scale = 1;
    let decay = weightDecay;
    let frozen = !parameter.trainable;
    for (const group of groups) {
      if (!matches(group.match, name)) continue;
      scale = group.learningRateScale ?? scale;
      decay = group.weightDecay ?? decay;
      frozen = frozen || (group.frozen ?? false);
    }
    if (frozen) continue;
    rules.push({ name, parameter, learningRateScale: scale * parameter.learningRateScale, weightDecay: parameter.decay ? decay : 0 });
  }
  return rules;
}

function matches(match: string | RegExp, name: string): boolean {
  if (typeof match !== 'string') return new RegExp(match.source, match.flags.replace('g', '')).test(name);
  const pattern = match.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*');
  return new RegExp(`^${pattern}$`).test(name);
}
