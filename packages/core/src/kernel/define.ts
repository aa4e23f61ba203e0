import * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';
import { noteRun } from './report.ts';
import type { ImplementationSource } from './report.ts';

/** Tensors by input name; an optional input that is absent is `undefined`. */
export type KernelInputs = Readonly<Record<string, tf.Tensor | undefined>>;
/** Plain JSON settings of one kernel call. */
export type KernelAttributes = Readonly<Record<string, unknown>>;
/** Tensors by name. */
export type NamedTensors<Names extends string = string> = Readonly<Record<Names, tf.Tensor>>;

/** Gradients by input name; inputs without one (masks, indices) are left out. */
export type InputGradients<I extends KernelInputs> = { [K in keyof I]?: tf.Tensor };

/**
 * A kernel contract: what every backend computes under one name.
 *
 * The forward runs as the tfjs kernel `name`, the gradient as the tfjs kernel `<name>Grad`; each has a composed default made of
 * tfjs ops, and fused implementations per backend. Composed functions run inside `tf.tidy` and are not taped.
 */
export interface KernelDefinition<I extends KernelInputs, A extends KernelAttributes, O extends string> {
  /** name in tfjs's kernel registry */
  readonly name: string;
  /** names of the outputs, in order */
  readonly outputs: readonly O[];
  /** composed default: outputs by name */
  readonly composed: (inputs: I, attributes: A) => NamedTensors<O>;
  /** analytic gradient; leave it out for kernels that have none (indices, optimiser steps) */
  readonly gradient?: {
    /** inputs that can receive a gradient; others (masks, indices) get none */
    readonly inputs: readonly (keyof I & string)[];
    /** forward outputs that the gradient reads, or behind whose data a fused forward keeps something for it */
    readonly needs: readonly O[];
    /**
     * composed default of the gradient kernel: gradients by input name for every differentiable input that is present.
     * `upstream` holds one gradient per output; an output that the loss does not use arrives as zeros.
     */
    readonly composed: (inputs: I, saved: NamedTensors<O>, upstream: NamedTensors<O>, attributes: A) => InputGradients<I>;
  };
}

/** What a fused implementation of a forward kernel receives and returns; `taped`: a gradient may follow. */
export interface FusedForward<I extends KernelInputs, A extends KernelAttributes, O extends string> {
  (call: { inputs: I; attributes: A; backend: tf.KernelBackend; taped: boolean }): Readonly<Record<O, tf.TensorInfo>>;
}

/** What a fused implementation of a gradient kernel receives and returns; `saved` holds what `needs` names, as far as a gradient run by itself was given it. */
export interface FusedGradient<I extends KernelInputs, A extends KernelAttributes, O extends string> {
  (call: { inputs: I; saved: NamedTensors<O>; upstream: NamedTensors<O>; attributes: A; backend: tf.KernelBackend }): {
    [K in keyof I]?: tf.TensorInfo;
  };
}

/** A fused implementation for one backend; `supports` may decline a call (with the reason), which then runs composed. */
export interface FusedImplementation<I extends KernelInputs, A extends KernelAttributes, O extends string> {
  /** name of the tfjs backend, e.g. `wasm` */
  readonly backend: string;
  /** who made it, shown by `explain()`, e.g. `kernels-wasm (simd)` */
  readonly label: string;
  readonly forward?: FusedForward<I, A, O>;
  readonly gradient?: FusedGradient<I, A, O>;
  /** returns true, or the reason why this call cannot run fused */
  readonly supports?: (inputs: I, attributes: A) => true | string;
}

/** A kernel contract that can be run and given implementations. */
export interface Kernel<I extends KernelInputs, A extends KernelAttributes, O extends string> {
  readonly name: string;
  readonly outputs: readonly O[];
  readonly definition: KernelDefinition<I, A, O>;
  /** runs the forward on the current backend, taped for gradients */
  run(inputs: I, attributes: A): Record<O, tf.Tensor>;
  /**
   * Runs the gradient kernel by itself, for mechanisms whose forward is the gradient of this kernel: gradients of
   * `sum(output * upstream)` over all outputs, by input name. Not taped: call it within a custom gradient. Needs a kernel that has a
   * gradient; `saved` holds the forward outputs that this reads, if any.
   */
  runGradient(inputs: I, upstream: NamedTensors<O>, attributes: A, saved?: Partial<NamedTensors<O>>): { [K in keyof I]?: tf.Tensor };
  /** adds or replaces the fused implementation of one backend; returns a function that takes it away again */
  implement(implementation: FusedImplementation<I, A, O>): () => void;
  /** the implementation that a call on `backend` would use */
  implementationOn(backend: string): ImplementationSource;
}

const LAYOUT = '__layout';

interface CallLayout {
  readonly inputs: readonly string[];
  readonly saved: readonly string[];
  readonly upstream: readonly string[];
  /** whether the tape records the call */
  readonly taped: boolean;
}

/**
 * Defines a kernel contract.
 *
 * Nothing is registered at import time: tfjs's registry gets the kernel for a backend at its first run there, and the gradient
 * with the first run anywhere.
 *
 * @param definition name, outputs, composed default and analytic gradient
 * @returns the kernel, to be run by ops and implemented by kernel packages
 */
export function defineKernel<I extends KernelInputs, A extends KernelAttributes, O extends string>(
  definition: KernelDefinition<I, A, O>,
): Kernel<I, A, O> {
  const { name, outputs } = definition;
  const gradientName = `${name}Grad`;
  const fused = new Map<string, FusedImplementation<I, A, O>>();

  function pick(backend: string, direction: 'forward' | 'gradient', inputs: I, attributes: A): FusedImplementation<I, A, O> | string {
    const implementation = fused.get(backend);
    if (!implementation?.[direction]) return `no fused ${direction} for backend ${backend}`;
    const verdict = implementation.supports?.(inputs, attributes) ?? true;
    return verdict === true ? implementation : verdict;
  }

  function registerOn(backendName: string): void {
    if (!tf.getKernel(name, backendName)) {
      tf.registerKernel({
        kernelName: name,
        backendName,
        kernelFunc: ({ inputs, attrs, backend }) => {
          const layout = (attrs as Record<string, unknown>)[LAYOUT] as CallLayout;
          const given = named<I>(layout.inputs, inputs);
          const attributes = strip<A>(attrs);
          // kernels may have been copied to a backend of another name
          const running = tf.getBackend();
          const choice = pick(running, 'forward', given, attributes);
          if (typeof choice !== 'string') {
            noteRun(name, running, { kind: 'fused', label: choice.label });
            const result = choice.forward!({ inputs: given, attributes, backend: backend as tf.KernelBackend, taped: layout.taped });
            return outputs.map((output) => result[output]);
          }
          noteRun(name, running, { kind: 'composed', reason: choice });
          return tf.tidy(() => {
            const result = definition.composed(given, attributes);
            return outputs.map((output) => result[output]);
          });
        },
      });
    }
    if (definition.gradient && !tf.getKernel(gradientName, backendName)) {
      const gradient = definition.gradient;
      tf.registerKernel({
        kernelName: gradientName,
        backendName,
        kernelFunc: ({ inputs, attrs, backend }) => {
          const layout = (attrs as Record<string, unknown>)[LAYOUT] as CallLayout;
          const given = named<I>(layout.inputs, inputs);
          const saved = named<NamedTensors<O>>(layout.saved, inputs, layout.inputs.length);
          const upstream = named<NamedTensors<O>>(layout.upstream, inputs, layout.inputs.length + layout.saved.length);
          const attributes = strip<A>(attrs);
          const wanted = layout.inputs.filter((key) => gradient.inputs.includes(key));
          const check = (result: { [K in keyof I]?: tf.TensorInfo }): tf.TensorInfo[] =>
            wanted.map((key) => result[key] ?? missingGradient(name, key));
          const running = tf.getBackend();
          const choice = pick(running, 'gradient', given, attributes);
          if (typeof choice !== 'string') {
            noteRun(gradientName, running, { kind: 'fused', label: choice.label });
            return check(choice.gradient!({ inputs: given, saved, upstream, attributes, backend: backend as tf.KernelBackend }));
          }
          noteRun(gradientName, running, { kind: 'composed', reason: choice });
          return tf.tidy(() => check(gradient.composed(given, saved, upstream, attributes)) as tf.Tensor[]);
        },
      });
    }
  }

  function registerGradient(): void {
    const gradient = definition.gradient;
    if (!gradient || tf.getGradient(name)) return;
    tf.registerGradient({
      kernelName: name,
      saveAllInputs: true,
      outputsToSave: outputs.map((output) => gradient.needs.includes(output)),
      gradFunc: (dy, saved, attrs) => {
        const layout = (attrs as Record<string, unknown>)[LAYOUT] as CallLayout;
        // inputs, then the saved outputs, then one gradient per output
        const call = [...saved, ...asArray(dy)];
        registerOn(tf.getBackend());
        const results = asArray(tf.engine().runKernel(gradientName, asMap(call), attrs as tf.NamedAttrMap));
        const wanted = layout.inputs.filter((key) => gradient.inputs.includes(key));
        return Object.fromEntries(
          layout.inputs.map((key, position) => {
            const index = wanted.indexOf(key);
            // an input without a gradient still has to answer, should someone differentiate by it
            return [position, () => (index >= 0 ? results[index]! : tf.zerosLike(saved[position]!))];
          }),
        );
      },
    });
  }

  return {
    name,
    outputs,
    definition,
    run(inputs, attributes) {
      const backendName = tf.getBackend();
      registerOn(backendName);
      registerGradient();
      const present = Object.entries(inputs).filter((entry): entry is [string, tf.Tensor] => entry[1] !== undefined);
      const saved = definition.gradient ? outputs.filter((output) => definition.gradient!.needs.includes(output)) : [];
      const taped = definition.gradient !== undefined && tf.engine().isTapeOn();
      const layout: CallLayout = { inputs: present.map(([key]) => key), saved, upstream: outputs, taped };
      const call = asMap(present.map(([, tensor]) => tensor));
      const results = asArray(tf.engine().runKernel(name, call, { ...attributes, [LAYOUT]: layout } as unknown as tf.NamedAttrMap));
      return Object.fromEntries(outputs.map((output, index) => [output, results[index]!])) as Record<O, tf.Tensor>;
    },
    runGradient(inputs, upstream, attributes, saved = {}) {
      registerOn(tf.getBackend());
      const { inputs: differentiable, needs } = definition.gradient!;
      const given = needs.filter((output) => saved[output]);
      const present = Object.entries(inputs).filter((entry): entry is [string, tf.Tensor] => entry[1] !== undefined);
      const names = present.map(([key]) => key);
      const layout: CallLayout = { inputs: names, saved: given, upstream: outputs, taped: false };
      const call = asMap([
        ...present.map(([, tensor]) => tensor),
        ...given.map((output) => saved[output]!),
        ...outputs.map((output) => upstream[output]),
      ]);
      const attrs = { ...attributes, [LAYOUT]: layout } as unknown as tf.NamedAttrMap;
      const results = asArray(tf.engine().runKernel(gradientName, call, attrs));
      const wanted = names.filter((key) => differentiable.includes(key));
      return Object.fromEntries(wanted.map((key, index) => [key, results[index]!])) as { [K in keyof I]?: tf.Tensor };
    },
    implement(implementation) {
      fused.set(implementation.backend, implementation);
      return () => {
        if (fused.get(implementation.backend) === implementation) fused.delete(implementation.backend);
      };
    },
    implementationOn(backend) {
      const implementation = fused.get(backend);
      return implementation
        ? { kind: 'fused', label: implementation.label }
        : { kind: 'composed', reason: `no fused forward for backend ${backend}` };
    },
  };
}

/** The tensors of a call under their names; tfjs saves all inputs for the gradient only when they come as an array. */
function named<T>(names: readonly string[], call: unknown, from = 0): T {
  const tensors = call as readonly tf.Tensor[];
  return Object.fromEntries(names.map((name, index) => [name, tensors[from + index]])) as unknown as T;
}

function asMap(tensors: readonly tf.Tensor[]): tf.NamedTensorMap {
  return tensors as unknown as tf.NamedTensorMap;
}

function strip<A>(attrs: unknown): A {
  const { [LAYOUT]: _layout, ...attributes } = attrs as Record<string, unknown>;
  return attributes as A;
}

function asArray(result: unknown): tf.Tensor[] {
  return (Array.isArray(result) ? result : [result]) as tf.Tensor[];
}

function missingGradient(kernel: string, input: string): never {
  return fail({
    mechanism: kernel,
    argument: `gradient of ${input}`,
    wanted: 'returned by the gradient kernel',
    given: 'none',
    remedy: 'Return a gradient for every differentiable input that is present.',
  });
}
