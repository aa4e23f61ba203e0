import * as tf from '@tensorflow/tfjs-core';
import { adamWStep, fail } from '@seqloom/core';
import type { Parameter, StateDict } from '@seqloom/core';
import { parameterRules } from './groups.ts';
import type { ParameterGroup, ParameterRule } from './groups.ts';

/** Options of `AdamW`. */
export interface AdamWOptions {
  /** default 0.9 */
  readonly beta1?: number;
  /** default 0.95 */
  readonly beta2?: number;
  /** default 1e-8 */
  readonly epsilon?: number;
  /** share of a weight that is taken away per unit of learning rate, default 0.1 */
  readonly weightDecay?: number;
  /** rules by parameter name, on top of what the layers say */
  readonly groups?: readonly ParameterGroup[];
}

/** Where an optimiser stands, on the host: moments under `first.<name>` and `second.<name>`. */
export interface OptimiserState {
  readonly step: number;
  readonly moments: StateDict;
}

interface Moments {
  first: tf.Tensor;
  second: tf.Tensor;
}

/**
 * AdamW over named parameters (Loshchilov and Hutter 2019): decoupled weight decay on the parameters whose layer allows it.
 *
 * With g the gradient: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
 * `p = p (1 - r d) - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + e)`, with r the learning rate and d the weight decay of the parameter.
 */
export class AdamW {
  /** what holds for each trained parameter */
  readonly rules: readonly ParameterRule[];
  /** steps done */
  stepCount = 0;
  private readonly settings: { readonly beta1: number; readonly beta2: number; readonly epsilon: number };
  private readonly moments = new Map<string, Moments>();

  /**
   * @param parameters by dotted name; those that are frozen now stay out
   * @throws SeqLoomError when nothing is left to train or a setting is out of range
   */
  constructor(parameters: ReadonlyMap<string, Parameter>, options: AdamWOptions = {}) {
    const { beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weightDecay = 0.1, groups = [] } = options;
    for (const [argument, value, fits] of [
      ['beta1', beta1, beta1 >= 0 && beta1 < 1],
      ['beta2', beta2, beta2 >= 0 && beta2 < 1],
      ['epsilon', epsilon, epsilon > 0 && Number.isFinite(epsilon)],
      ['weightDecay', weightDecay, weightDecay >= 0 && Number.isFinite(weightDecay)],
    ] as const) {
      if (!fits) {
        const wanted = argument.startsWith('beta') ? 'at least 0 and below 1' : 'finite and not negative';
        fail({ mechanism: 'adamw', argument, wanted, given: String(value), remedy: `Correct ${argument}.` });
      }
    }
    this.settings = { beta1, beta2, epsilon };
    this.rules = parameterRules(parameters, groups, weightDecay);
    if (this.rules.length === 0) {
      fail({
        mechanism: 'adamw',
        argument: 'parameters',
        wanted: 'at least one that is not frozen',
        given: `${parameters.size} frozen ones`,
        remedy: 'Unfreeze a part of the model, or correct the parameter groups.',
      });
    }
  }

  /**
   * One step; parameters without a gradient stay as they are.
   *
   * @param gradients by dotted name, of the parameters' shapes; they stay the caller's
   * @param options the learning rate, and a factor on every gradient (e.g. from clipping)
   */
  step(gradients: ReadonlyMap<string, tf.Tensor>, options: { readonly learningRate: number; readonly gradientScale?: number }): void {
    this.stepCount++;
    for (const { name, parameter, learningRateScale, weightDecay } of this.rules) {
      const gradient = gradients.get(name);
      if (!gradient) continue;
      const held = this.moments.get(name);
      const next = tf.tidy(() =>
        adamWStep(
          {
            parameter: parameter.value,
            gradient,
            firstMoment: held?.first ?? tf.zerosLike(parameter.value),
            secondMoment: held?.second ?? tf.zerosLike(parameter.value),
          },
          {
            ...this.settings,
            learningRate: options.learningRate * learningRateScale,
            weightDecay,
            step: this.stepCount,
            gradientScale: options.gradientScale ?? 1,
          },
        ),
      );
      parameter.assign(next.parameter);
      next.parameter.dispose();
      tf.dispose([held?.first, held?.second].filter((tensor) => tensor !== undefined));
      this.moments.set(name, { first: tf.keep(next.firstMoment), second: tf.keep(next.secondMoment) });
    }
  }

  /** Copies step count and moments to the host. */
  async state(): Promise<OptimiserState> {
    const entries: [string, StateDict[string]][] = [];
    for (const [name, { first, second }] of this.moments) {
      for (const [kind, tensor] of [
        ['first', first],
        ['second', second],
      ] as const) {
        entries.push([`${kind}.${name}`, { shape: [...tensor.shape], data: Float32Array.from(await tensor.data()) }]);
      }
    }
    return { step: this.stepCount, moments: Object.fromEntries(entries) };
  }

  /**
   * Continues from a saved state; everything is checked before anything is changed.
   *
   * @throws SeqLoomError when the state is one of other parameters
   */
  load(state: OptimiserState): void {
    const rules = new Map(this.rules.map((rule) => [rule.name, rule]));
    const names = new Set<string>();
    for (const [key, { shape, data }] of Object.entries(state.moments)) {
      const name = key.replace(/^(first|second)\./, '');
      const parameter = rules.get(name)?.parameter;
      const other = key.startsWith('first.') ? `second.${name}` : `first.${name}`;
      if (!parameter || !Object.hasOwn(state.moments, other) || !tf.util.arraysEqual([...shape], [...parameter.shape])) {
        const wanted = parameter ? `a pair of moments of shape [${parameter.shape.join(', ')}]` : 'of a parameter that is trained';
        const remedy = 'Resume with the model and the parameter groups that the state was saved with.';
        fail({ mechanism: 'adamw', argument: `moment ${key}`, wanted, given: `[${shape.join(', ')}]`, remedy });
      }
      const bad = data.findIndex((value) => !Number.isFinite(value));
      if (bad >= 0) {
        const remedy = 'The checkpoint is damaged: load an earlier one.';
        fail({ mechanism: 'adamw', argument: `moment ${key}`, wanted: 'finite', given: `${data[bad]} at index ${bad}`, remedy });
      }
      names.add(name);
    }
    this.forget();
    this.stepCount = state.step;
    for (const name of names) {
      const read = (kind: string): tf.Tensor => {
        const { shape, data } = state.moments[`${kind}.${name}`]!;
        return tf.keep(tf.tensor(Float32Array.from(data), [...shape], 'float32'));
      };
      this.moments.set(name, { first: read('first'), second: read('second') });
    }
  }

  /** Frees the moments; the parameters stay. */
  dispose(): void {
    this.forget();
  }

  private forget(): void {
    for (const { first, second } of this.moments.values()) tf.dispose([first, second]);
    this.moments.clear();
  }
}
