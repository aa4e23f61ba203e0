import type { Candidate } from '../measure/candidate.ts';
import type { HostArray } from '../measure/tfjs.ts';
import type { OnnxAttribute } from './onnx-model.ts';
import { ONNX_FLOAT, ONNX_INT32, onnxModelBytes } from './onnx-model.ts';

interface OrtTensor {
  readonly data: Float32Array;
  dispose?(): void;
}

interface OrtSession {
  run(feeds: Readonly<Record<string, unknown>>): Promise<Readonly<Record<string, OrtTensor>>>;
  release(): Promise<void>;
}

interface OrtModule {
  readonly Tensor: new (type: string, data: Float32Array | Int32Array, shape: readonly number[]) => unknown;
  readonly InferenceSession: { create(model: Uint8Array, options: Readonly<Record<string, unknown>>): Promise<OrtSession> };
}

/** An input of an operator: float32, or int32 numbers. */
export type OnnxInput = HostArray | { readonly shape: readonly number[]; readonly data: Int32Array<ArrayBuffer> };

/** One operator to be run. */
export interface OnnxCall {
  readonly operator: string;
  readonly domain?: 'com.microsoft';
  /** in the operator's order; null leaves an optional one out */
  readonly inputs: readonly (OnnxInput | null)[];
  /** our names for its outputs, in order; `null` for one that is made but not compared */
  readonly outputs: readonly (string | null)[];
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
}

/** ONNX Runtime's processor kernels on one thread. */
export interface OnnxRuntime {
  candidate(call: OnnxCall): Promise<Candidate>;
}

/** Starts ONNX Runtime. */
export async function startOnnxRuntime(load: () => Promise<unknown>): Promise<OnnxRuntime> {
  const loaded = (await load()) as { default?: OrtModule } & OrtModule;
  const { Tensor, InferenceSession } = loaded.InferenceSession ? loaded : loaded.default!;
  return {
    async candidate({ operator, domain, inputs, outputs, attributes }) {
      const named = inputs.map((input, index) => input && { name: `input${index}`, input });
      const bytes = onnxModelBytes({
        operator,
        domain: domain ?? '',
        opset: 21,
        inputs: named.map(
          (entry) =>
            entry && {
              name: entry.name,
              type: entry.input.data instanceof Int32Array ? ONNX_INT32 : ONNX_FLOAT,
              shape: entry.input.shape,
            },
        ),
        outputs: outputs.map((_, index) => ({ name: `output${index}`, type: ONNX_FLOAT, shape: null })),
        ...(attributes && { attributes }),
      });
      const session = await InferenceSession.create(bytes, {
        executionProviders: ['cpu'],
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        logSeverityLevel: 3,
      });
      const feeds = Object.fromEntries(
        named
          .filter((entry) => entry !== null)
          .map(({ name, input }) => [name, new Tensor(input.data instanceof Int32Array ? 'int32' : 'float32', input.data, input.shape)]),
      );
      const free = (results: Readonly<Record<string, OrtTensor>>): void => {
        for (const tensor of Object.values(results)) tensor.dispose?.();
      };
      return {
        name: 'onnxruntime',
        implementation: operator,
        run: async () => free(await session.run(feeds)),
        outputs: async () => {
          const results = await session.run(feeds);
          const entries = outputs.flatMap((name, index) =>
            name === null ? [] : [[name, results[`output${index}`]!.data.slice()] as const],
          );
          free(results);
          return Object.fromEntries(entries);
        },
        dispose: () => void session.release(),
      };
    },
  };
}
