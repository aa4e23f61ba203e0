import type { Architecture } from './architecture.ts';

/** Numbers that differ between LM2 models. */
export interface Lm2Shape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly hidden: number;
  /** slots of the bank of each layer */
  readonly slots: number;
  /** heads that read and write the bank */
  readonly memoryHeads: number;
  /** tokens after which the banks are written, default 512 */
  readonly segmentLength?: number;
  /** slots per token and head whose weight counts; default all */
  readonly topK?: number;
  readonly rotaryBase?: number;
  readonly rotaryScaling?: { readonly factor: number; readonly originalLength: number };
}

/** LM2: a transformer of the Llama form with a bank of slots beside the attention of every layer. */
export const lm2: Architecture<Lm2Shape> = {
  id: 'lm2',
  title: 'LM2',
  paper: 'LM2: Large Memory Models, arXiv 2502.06049',
  config: (shape) => ({
    vocabSize: shape.vocabSize,
    dim: shape.dim,
    depth: shape.depth,
    mixers: 'bank',
    definitions: {
      bank: {
        type: 'lm2',
        heads: shape.memoryHeads,
        slots: shape.slots,
        segmentLength: shape.segmentLength ?? 512,
        topK: shape.topK ?? null,
        attention: {
          heads: shape.heads,
          kvHeads: shape.kvHeads,
          rotary: {
            base: shape.rotaryBase ?? 10000,
            ...(shape.rotaryScaling ? { scaling: { type: 'llama3', ...shape.rotaryScaling } } : {}),
          },
        },
      },
      mlp: { type: 'mlp', hidden: shape.hidden },
    },
    norm: { epsilon: 1e-5 },
  }),
  sizes: {
    'llama-3.2-1b': {
      shape: {
        vocabSize: 128256,
        dim: 2048,
        depth: 16,
        heads: 32,
        kvHeads: 8,
        hidden: 8192,
        slots: 2048,
        memoryHeads: 8,
        rotaryBase: 5e5,
        rotaryScaling: { factor: 32, originalLength: 8192 },
      },
      // the 1,235,814,400 of Llama 3.2 and 12 dim^2 + 15 dim + 2 per bank; the paper's own maps, which it does not list, make 1.7 billion
      parameters: 2_041_612_320,
    },
  },
};
