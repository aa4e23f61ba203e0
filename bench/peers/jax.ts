import type { Candidate } from '../measure/candidate.ts';
import type { HostArray } from '../measure/tfjs.ts';

/** An array of jax-js: an operation uses up its arguments unless `ref` is passed. */
export interface JaxArray {
  readonly ref: JaxArray;
  reshape(shape: readonly number[]): JaxArray;
  /** per axis: all, or from the first number to before the second */
  slice(...axes: readonly (readonly [] | readonly [number, number])[]): JaxArray;
  data(): Promise<Float32Array>;
  dispose(): void;
}

/** The parts of `@jax-js/jax` that the suites use. */
export interface JaxModule {
  init(...devices: string[]): Promise<string[]>;
  defaultDevice(device: string): string;
  blockUntilReady(array: JaxArray): Promise<JaxArray>;
  jit<F extends (...args: JaxArray[]) => JaxArray>(f: F): F & { dispose(): void };
  readonly numpy: {
    array(values: Float32Array): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
    swapaxes(a: JaxArray, one: number, other: number): JaxArray;
    add(a: JaxArray, b: JaxArray): JaxArray;
    subtract(a: JaxArray, b: JaxArray): JaxArray;
    multiply(a: JaxArray, b: JaxArray): JaxArray;
    minimum(a: JaxArray, b: number): JaxArray;
    exp(a: JaxArray): JaxArray;
    sum(a: JaxArray, axis: number): JaxArray;
    cumsum(a: JaxArray, axis: number): JaxArray;
    tril(a: JaxArray, k?: number): JaxArray;
    concatenate(arrays: readonly JaxArray[], axis: number): JaxArray;
    zeros(shape: readonly number[]): JaxArray;
    ones(shape: readonly number[]): JaxArray;
  };
  readonly nn: {
    dotProductAttention(query: JaxArray, key: JaxArray, value: JaxArray, options: { readonly isCausal: boolean }): JaxArray;
  };
  readonly lax: {
    convGeneralDilated(
      input: JaxArray,
      weight: JaxArray,
      strides: readonly number[],
      padding: readonly (readonly [number, number])[],
      options: { readonly featureGroupCount: number },
    ): JaxArray;
  };
}

/** jax-js on its WebAssembly device. */
export interface Jax {
  /**
   * A candidate from a jitted function of the inputs.
   *
   * @param read turns the result into outputs by name
   */
  candidate(
    inputs: readonly HostArray[],
    f: (jax: JaxModule, ...inputs: JaxArray[]) => JaxArray,
    read: (values: Float32Array) => Readonly<Record<string, ArrayLike<number>>>,
  ): Candidate;
}

/** Starts jax-js. */
export async function startJax(load: () => Promise<unknown>): Promise<Jax> {
  // it asks navigator what it runs on, which Node before 21 has not
  if (!('navigator' in globalThis)) Object.defineProperty(globalThis, 'navigator', { value: { userAgent: 'node' }, configurable: true });
  const jax = (await load()) as JaxModule;
  const devices = await jax.init('wasm');
  if (!devices.includes('wasm')) throw new Error(`no wasm device, only ${devices.join(', ') || 'none'}`);
  jax.defaultDevice('wasm');
  return {
    candidate(inputs, f, read) {
      const arrays = inputs.map(({ shape, data }) => jax.numpy.array(data).reshape(shape));
      const compiled = jax.jit((...given: JaxArray[]) => f(jax, ...given));
      const call = (): JaxArray => compiled(...arrays.map((array) => array.ref));
      return {
        name: 'jax-js',
        implementation: 'jit on wasm',
        run: async () => {
          const result = call();
          await jax.blockUntilReady(result);
          result.dispose();
        },
        outputs: async () => read(await call().data()),
        dispose: () => {
          arrays.forEach((array) => array.dispose());
          compiled.dispose();
        },
      };
    },
  };
}
