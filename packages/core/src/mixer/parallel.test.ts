import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { registerGradients } from '../gradient/index.ts';
import { deferParameters } from '../module/parameter.ts';
import { Block } from './block.ts';
import { Mlp } from './channel-mixer.ts';
import { GatedConvolution } from './gated-convolution.ts';
import { ParallelMixer } from './parallel.ts';
import type { SequenceMixer } from './sequence-mixer.ts';

const furthest = (a: tf.Tensor, b: tf.Tensor): number => tf.max(tf.abs(tf.sub(a, b))).dataSync()[0]!;
const conv = (seed: number): GatedConvolution => new GatedConvolution({ dim: 4, expand: 1, seed });

let tensors = 0;
beforeAll(async () => {
  await tf.setBackend('cpu');
  registerGradients();
});
beforeEach(() => {
  tensors = tf.memory().numTensors;
});
afterEach(() => {
  expect(tf.memory().numTensors).toBe(tensors);
});

describe('parallel branches', () => {
  it.each([
    ['sum', (a: tf.Tensor, b: tf.Tensor) => tf.add(a, tf.mul(b, 0.5))],
    ['mean', (a: tf.Tensor, b: tf.Tensor) => tf.div(tf.add(a, tf.mul(b, 0.5)), 2)],
    ['gated', (a: tf.Tensor, b: tf.Tensor) => tf.mul(a, tf.sigmoid(tf.mul(b, 0.5)))],
  ] as const)('joined by %s are the branches apart, joined', (combine, joined) => {
    const [first, second] = [conv(1), conv(2)];
    const mixer = new ParallelMixer({ branches: [{ mixer: first }, { mixer: second, inputScale: 3, outputScale: 0.5 }], combine });
    tf.tidy(() => {
      const x = tf.randomNormal([2, 5, 4], 0, 1, 'float32', 1) as tf.Tensor3D;
      const expected = joined(first.forward(x).output, second.forward(tf.mul(x, 3)).output);
      expect(furthest(mixer.forward(x).output, expected)).toBeLessThan(1e-6);
    });
    mixer.dispose();
  });

  it('of weight zero leave the other branch', () => {
    const only = conv(1);
    const mixer = new ParallelMixer({ branches: [{ mixer: only }, { mixer: conv(2), outputScale: 0 }] });
    tf.tidy(() => {
      const x = tf.randomNormal([1, 3, 4], 0, 1, 'float32', 1) as tf.Tensor3D;
      expect(furthest(mixer.forward(x).output, only.forward(x).output)).toBe(0);
    });
    mixer.dispose();
  });

  it('are concatenated and projected back to the width', () => {
    const mixer = new ParallelMixer({ branches: [{ mixer: conv(1) }, { mixer: conv(2) }], combine: 'concat' });
    expect(mixer.output!.weight.shape).toEqual([8, 4]);
    tf.tidy(() => {
      const x = tf.randomNormal([1, 3, 4], 0, 1, 'float32', 1) as tf.Tensor3D;
      const parts = mixer.branches.map((branch) => branch.mixer.forward(x).output);
      expect(furthest(mixer.forward(x).output, mixer.output!.forward(tf.concat(parts, 2)))).toBe(0);
    });
    mixer.dispose();
  });

  it.each<[string, () => unknown, RegExp]>([
    ['none', () => new ParallelMixer({ branches: [] }), /at least one/],
    [
      'one alone that should be gated',
      () => new ParallelMixer({ branches: [{ mixer: deferred(4) }], combine: 'gated' }),
      /two for combine/,
    ],
    ['of two widths', () => new ParallelMixer({ branches: [{ mixer: deferred(4) }, { mixer: deferred(6) }] }), /width 4/],
    [
      'without their projection',
      () => new ParallelMixer({ branches: [{ mixer: deferred(4) }, { mixer: deferred(4) }], combine: 'concat', output: false }),
      /output projection/,
    ],
    [
      'in a block whose channel mixer is wider',
      () => new Block({ mixer: deferred(4), channel: deferParameters(() => new Mlp({ dim: 6 })) }),
      /width 4/,
    ],
  ])('%s are refused', (_what, build, message) => {
    expect(build).toThrow(message);
  });
});

const deferred = (dim: number): SequenceMixer => deferParameters(() => new GatedConvolution({ dim }));
