import * as tf from '@tensorflow/tfjs-core';
import { disposeState } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { filledState, HybridModel } from '@seqloom/models';
import type { HybridConfig } from '@seqloom/models';
import type { Candidate, Case, Outputs } from '../measure/candidate.ts';
import { COMPOSED, OURS } from '../measure/candidate.ts';
import { useBackend } from '../measure/tfjs.ts';
import type { Size } from './calls.ts';
import { GPU_BACKEND, onGpu, PLAIN_GPU_BACKEND } from './device.ts';

/** Name of the case. */
export const DECODE = 'decode, one token of a hybrid with 12 layers, logits read';

/** Nine layers of gated delta net, three of attention, a feed-forward each. */
function config(size: Size): HybridConfig {
  const [dim, heads] = { quick: [16, 2] as const, emulated: [32, 4] as const, real: [1024, 8] as const }[size];
  return {
    vocabSize: size === 'real' ? 8192 : 64,
    dim,
    mixers: '(linear*3, full)*3',
    definitions: {
      linear: { type: 'gated-delta-net', heads },
      full: { type: 'mha-mqa-gqa', heads },
      mlp: { type: 'mlp' },
    },
  } as unknown as HybridConfig;
}

/** One token of a hybrid model after some context, its logits read to the host. */
export function decodeCase(size: Size): Case {
  return {
    name: DECODE,
    work: { tokens: 1 },
    async prepare() {
      await useBackend(GPU_BACKEND);
      const model = new HybridModel(config(size));
      const state: State = filledState(model, 1, 64);
      const token = tf.tensor2d([3], [1, 1], 'int32');
      const read = async (): Promise<Float32Array> => {
        const { logits, state: after } = model.next(token, { state });
        const values = await logits.data<'float32'>();
        logits.dispose();
        disposeState(after);
        return values;
      };
      const candidate = (name: string, backend: string): Candidate => ({
        name,
        ...onGpu(backend, async () => void (await read())),
        outputs: async () => ({ logits: await read() }) as Outputs,
      });
      return {
        candidates: [candidate(OURS, GPU_BACKEND), candidate(COMPOSED, PLAIN_GPU_BACKEND)],
        checks: [],
        agreement: 1e-3,
        dispose() {
          token.dispose();
          disposeState(state);
          model.dispose();
        },
      };
    },
  };
}
