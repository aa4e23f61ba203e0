import * as tf from '@tensorflow/tfjs-core';
import { elementwiseGradients } from './elementwise.ts';
import { gatherGradients } from './gather.ts';
import { matmulGradients } from './matmul.ts';
import { reductionGradients } from './reduction.ts';
import { shapeGradients } from './shape.ts';

/**
 * Registers the gradients of tfjs's kernels that have none yet, so that `tf.grads` works without the umbrella package.
 *
 * `@tensorflow/tfjs-core` registers kernel gradients only through `@tensorflow/tfjs`. This function brings its own for the kernels
 * that sequence models use; a gradient that is already there is never replaced, and a second call does nothing. The gradients are
 * written with tfjs ops, so derivatives of any order work and every backend is served. `tf.logSoftmax` and `tf.broadcastTo` need no
 * entry: the first brings its own gradient, the second runs `Tile`. Not covered: convolutions and pooling, whose filter gradient the
 * wasm backend lacks, batch normalisation, complex numbers and the Fourier transforms.
 *
 * @returns names of the kernels whose gradient this call registered; empty when all were present.
 */
export function registerGradients(): string[] {
  const configs = [...elementwiseGradients(), ...reductionGradients(), ...shapeGradients(), ...matmulGradients(), ...gatherGradients()];
  const missing = configs.filter(({ kernelName }) => tf.getGradient(kernelName) == null);
  missing.forEach((config) => tf.registerGradient(config));
  return missing.map(({ kernelName }) => kernelName);
}
