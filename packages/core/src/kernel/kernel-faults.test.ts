import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { faultSweep, kernelCases, tapeGradients, tensorOf, uniform64 } from '@seqloom/testing';

// tfjs itself keeps what its tape saved when a backward pass throws; whatever is left beyond that would be the kernel's own
function releasingTape<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    const { state } = tf.engine() as unknown as { state: { activeTape: { saved?: tf.Tensor[] }[] | null } };
    for (const node of state.activeTape ?? []) tf.dispose(node.saved ?? []);
    state.activeTape = null;
    throw error;
  }
}

describe.each(['cpu', 'wasm'])('a fault in the middle of a kernel on %s', (backend) => {
  it.each(kernelCases())('leaves nothing behind: $kernel $options', async ({ inputs, integers, run, oracle, differentiate, lossTerms }) => {
    await tf.setBackend(backend);
    const wanted = oracle(inputs);
    const tensors = Object.fromEntries(
      Object.entries(inputs).map(([name, array]) => [name, tensorOf(array, integers.includes(name) ? 'int32' : 'float32')]),
    );
    expect(faultSweep(() => run(tensors), 8)).toEqual([]);
    const weights = Object.fromEntries(lossTerms.map((name) => [name, tensorOf(uniform64(wanted[name]!.shape, 1))]));
    if (differentiate.length > 0)
      expect(faultSweep(() => releasingTape(() => tapeGradients(run, tensors, weights, differentiate)), 12)).toEqual([]);
    tf.dispose([tensors, weights]);
  });
});
