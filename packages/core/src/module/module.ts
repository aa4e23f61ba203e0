import * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';
import { Parameter } from './parameter.ts';

/** One tensor on the host. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** All learned tensors of a module by dotted name, on the host. */
export type StateDict = Readonly<Record<string, HostTensor>>;

/**
 * A part of a model: its own fields that are `Parameter`s, `Module`s or arrays of them are its learned tensors, under dotted names.
 */
export abstract class Module {
  /** Every parameter once, under its dotted name, in order of declaration; a tied parameter has the first of its names. */
  namedParameters(): Map<string, Parameter> {
    const found = new Map<string, Parameter>();
    const seen = new Set<unknown>();
    const visit = (value: unknown, path: string): void => {
      if (typeof value !== 'object' || value === null || seen.has(value)) return;
      if (value instanceof Parameter) {
        seen.add(value);
        found.set(path, value);
      } else if (value instanceof Module || Array.isArray(value)) {
        seen.add(value);
        for (const [key, child] of Object.entries(value)) visit(child, path === '' ? key : `${path}.${key}`);
      }
    };
    visit(this, '');
    return found;
  }

  /** Every parameter once. */
  parameters(): Parameter[] {
    return [...this.namedParameters().values()];
  }

  /** Number of learned numbers. */
  countParameters(): number {
    return this.parameters().reduce((sum, parameter) => sum + parameter.size, 0);
  }

  /** Stops (or with `false` resumes) the training of every parameter. */
  freeze(frozen = true): void {
    for (const parameter of this.parameters()) parameter.trainable = !frozen;
  }

  /** Copies all parameters to the host. */
  async stateDict(): Promise<StateDict> {
    const entries: [string, HostTensor][] = [];
    for (const [name, parameter] of this.namedParameters()) {
      const data = (await parameter.value.data()) as Float32Array;
      entries.push([name, { shape: [...parameter.shape], data: Float32Array.from(data) }]);
    }
    return Object.fromEntries(entries);
  }

  /**
   * Sets all parameters from a state dict; everything is checked before anything is changed.
   *
   * @param weights tensors by dotted name
   * @throws SeqLoomError when names are missing or unexpected, shapes differ, or a value is NaN or infinite
   */
  loadStateDict(weights: StateDict): void {
    const mechanism = this.constructor.name;
    const parameters = this.namedParameters();
    const missing = [...parameters.keys()].filter((name) => !Object.hasOwn(weights, name));
    const unexpected = Object.keys(weights).filter((name) => !parameters.has(name));
    if (missing.length > 0 || unexpected.length > 0) {
      fail({
        mechanism,
        argument: 'weights',
        wanted: `the ${parameters.size} tensors of this model`,
        given: [listed('missing', missing), listed('unexpected', unexpected)].filter(Boolean).join('; '),
        remedy: 'Load weights that were saved from the same config.',
      });
    }
    for (const [name, parameter] of parameters) {
      const { shape, data } = weights[name]!;
      if (!tf.util.arraysEqual([...shape], [...parameter.shape])) {
        fail({
          mechanism,
          argument: `weights["${name}"]`,
          wanted: `shape [${parameter.shape.join(', ')}]`,
          given: `[${shape.join(', ')}]`,
          remedy: 'Load weights that were saved from the same config.',
        });
      }
      const bad = data.findIndex((value) => !Number.isFinite(value));
      if (bad >= 0) {
        fail({
          mechanism,
          argument: `weights["${name}"]`,
          wanted: 'finite',
          given: `${data[bad]} at index ${bad}`,
          remedy: 'The checkpoint is damaged or its training diverged: load an earlier one.',
        });
      }
    }
    for (const [name, parameter] of parameters) {
      const value = tf.tensor(weights[name]!.data, [...parameter.shape], 'float32');
      parameter.assign(value);
      value.dispose();
    }
  }

  /** Frees all parameters. */
  dispose(): void {
    for (const parameter of this.parameters()) parameter.dispose();
  }
}

function listed(label: string, names: readonly string[]): string {
  if (names.length === 0) return '';
  const shown = names.slice(0, 5).join(', ');
  return `${label}: ${shown}${names.length > 5 ? ` and ${names.length - 5} more` : ''}`;
}
