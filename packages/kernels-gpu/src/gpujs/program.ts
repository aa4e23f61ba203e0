import type { Extents3 } from './load.ts';

/** Kinds of kernel arguments: an array of three extents, a whole number, a real number. */
export type ArgumentKind = 'Input' | 'Integer' | 'Float';

/** The source of one gpu.js kernel; text, since minifiers and some engines do not keep the source of functions. */
export interface KernelSource {
  /** unique among all kernels, variants included */
  readonly name: string;
  readonly text: string;
  readonly argumentTypes: Readonly<Record<string, ArgumentKind>>;
}

/** A value inside a program: an array that exists on the device, or will. */
export interface Value {
  readonly handle: unknown;
  readonly extents: Extents3;
}

/** One kernel run. */
export interface Step {
  readonly kernel: KernelSource;
  readonly output: Extents3;
  readonly values: readonly (Value | number)[];
}

/** A program's inputs and outputs by name; an input that is absent is undefined. */
export type Values = Readonly<Record<string, Value | undefined>>;

/** A generator that yields kernel runs and gets their results, so that one text serves a traced plan and a chain of single runs. */
export type Program<S> = (inputs: Values, settings: S) => Steps<Record<string, Value>>;

/** What a program or a part of one is, while it runs. */
export type Steps<R> = Generator<Step, R, Value>;

/**
 * Writes a kernel's source.
 *
 * @param name unique name
 * @param argumentTypes names and kinds of the arguments, in order; a kind of `false` leaves an optional argument out
 * @param body JavaScript statements; every loop variable needs a name of its own, since the mode cpu puts them all into one scope
 */
export function kernelSource(name: string, argumentTypes: Readonly<Record<string, ArgumentKind | false>>, body: string): KernelSource {
  const present = Object.entries(argumentTypes).filter((entry): entry is [string, ArgumentKind] => entry[1] !== false);
  return {
    name,
    argumentTypes: Object.fromEntries(present),
    text: `function (${present.map(([argument]) => argument).join(', ')}) {\n${inlineThread(body)}\n}`,
  };
}

/** Puts `this.thread.x` where a constant stands for it: gpu.js makes constants float32, and every index through one is converted. */
function inlineThread(body: string): string {
  const names = [...body.matchAll(/const (\w+) = (this\.thread\.[xyz]);/g)];
  return names.reduce(
    (text, [line, name, place]) => text.replace(line, '').replaceAll(new RegExp(`(?<![.\\w])${name!}\\b`, 'g'), place!),
    body,
  );
}

/** Runs one kernel inside a program; arguments that are undefined are left out, as their kinds were. */
export function* step(kernel: KernelSource, output: Extents3, values: readonly (Value | number | undefined)[]): Steps<Value> {
  return yield { kernel, output, values: values.filter((value) => value !== undefined) };
}

/** Remembers the variants of a kernel, so that each is written once. */
export function variants<A extends readonly unknown[]>(make: (...choices: A) => KernelSource): (...choices: A) => KernelSource {
  const made = new Map<string, KernelSource>();
  return (...choices) => {
    const key = JSON.stringify(choices);
    let source = made.get(key);
    if (!source) {
      const written = make(...choices);
      source = { ...written, name: `${written.name}${key}` };
      made.set(key, source);
    }
    return source;
  };
}
