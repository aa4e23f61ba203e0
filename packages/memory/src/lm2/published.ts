import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import { affine } from '../dense.ts';
import type { Affine } from '../dense.ts';
import type { Lm2UpdateParameters } from './parameters.ts';
import { attendBest } from './read.ts';
import { gateBank, refineSlots } from './write.ts';

const MECHANISM = 'lm2';

/** Learned tensors of `publishedLm2Memory`. */
export interface PublishedLm2Parameters extends Lm2UpdateParameters {
  /** of the tokens, D to D */
  readonly query: Affine;
  /** of the slots, D to D */
  readonly key: Affine;
  readonly value: Affine;
}

/**
 * The memory module as its released code runs: tokens attend to slots up to their own index, the result updates the bank, and the new bank
 * is added to the tokens. **It leaks**: the gate pools over all tokens, so a later token changes earlier outputs. Use `lm2Memory` for models
 * that predict.
 *
 * @param inputs input [B, N, N] and memory [B, N, N]: as many tokens as slots as channels
 * @param parameters learned tensors
 * @param settings heads; topK slots whose weight counts (default all); blocks, times that slots attend and are refined (default 1)
 * @returns output = input + new memory, and the new memory as state; the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see "LM2: Large Memory Models" (Kang et al. 2025, arXiv 2502.06049)
 */
export function publishedLm2Memory(
  inputs: { readonly input: tf.Tensor; readonly memory: tf.Tensor },
  parameters: PublishedLm2Parameters,
  settings: { readonly heads: number; readonly topK?: number | null; readonly blocks?: number },
): { output: tf.Tensor3D; state: { memory: tf.Tensor3D } } {
  const { input, memory } = inputs;
  const { heads, topK = null, blocks = 1 } = settings;
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['B', 'N', 'N'], extents);
  checkTensor(MECHANISM, 'memory', memory, ['B', 'N', 'N'], extents);
  const fits = Number.isInteger(heads) && heads >= 1 && extents.get('N')! % heads === 0;
  checkSetting(MECHANISM, 'heads', fits, `a divisor of ${extents.get('N')}`, heads, 'Slots are cut into heads.');
  return tidy(() => {
    let slots = memory;
    for (let block = 0; block < blocks; block++) {
      const key = affine(slots, parameters.key);
      const value = affine(slots, parameters.value);
      const attended = attendBest(affine(input, parameters.query), key, value, { heads, topK, causal: true });
      slots = refineSlots(slots, attended, parameters);
    }
    const next = gateBank(memory, slots, input, parameters);
    return { output: tf.add(input, next) as tf.Tensor3D, state: { memory: next } };
  });
}
