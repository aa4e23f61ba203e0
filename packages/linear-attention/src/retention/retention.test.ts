import { rotary, setupBackend, tidy } from '@seqloom/core';
import { opTensor, relativeError64, uniform64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { card } from './card.ts';
import { Retention } from './layer.ts';
import { naiveRetention, naiveRotation } from './naive.ts';
import { retention, retentionLogDecays } from './retention.ts';
import { rotationAngles, rotationFrequencies } from './rotation.ts';

describe.each(['cpu', 'wasm'] as const)('retention on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each(['torchscale', 'fla'] as const)('angles as %s has them are good to 1e-6 at positions up to four million', async (style) => {
    const theta = rotationFrequencies(16, style);
    const positions = [0, 1, 2047, 2048, 1_000_003, 4_000_000];
    const { cos, sin } = tidy(() => rotationAngles(tf.tensor1d(positions), 3, theta));
    const worst = { error: 0 };
    const [cosines, sines] = [await cos.data(), await sin.data()];
    for (let i = 0; i < cosines.length; i++) {
      const angle = (positions[Math.floor(i / 24)]! + (Math.floor(i / 8) % 3)) * theta[i % 8]!;
      worst.error = Math.max(worst.error, Math.abs(cosines[i]! - Math.cos(angle)), Math.abs(sines[i]! - Math.sin(angle)));
    }
    expect(worst.error).toBeLessThan(1e-6);
    tf.dispose([cos, sin]);
  });

  it('the ladders of angles: both ends included for torchscale, powers of base^(-2 / K) for fla', () => {
    expect([...rotationFrequencies(6, 'torchscale')]).toEqual([1, 10000 ** -0.5, 10000 ** -1]);
    expect([...rotationFrequencies(4, 'fla')]).toEqual([1, 0.01]);
    expect([...rotationFrequencies(2, 'torchscale')]).toEqual([1]);
  });

  it.each(['torchscale', 'fla'] as const)('rotated pieces give what the specification gives for the whole, as %s', async (style) => {
    const [query, key, value] = [uniform64([2, 20, 2, 4], 1), uniform64([2, 20, 2, 4], 2), uniform64([2, 20, 2, 3], 3)];
    const theta = rotationFrequencies(4, style);
    const interleaved = style === 'torchscale';
    const start = 70_000;
    const logDecay = retentionLogDecays(2);
    const rotated = { query: naiveRotation(query, start, theta, interleaved), key: naiveRotation(key, start, theta, interleaved), value };
    const wanted = naiveRetention(rotated, { logDecay, scale: 0.5, noncausal: false });
    const { output, memory } = tidy(() => {
      let state: { memory: tf.Tensor } | undefined;
      const outputs: tf.Tensor[] = [];
      for (const [from, length] of [
        [0, 13],
        [13, 1],
        [14, 6],
      ] as const) {
        const piece = (array: typeof query): tf.Tensor => tf.slice(opTensor(array), [0, from, 0, 0], [2, length, -1, -1]);
        const angles = rotationAngles(tf.fill([2], start + from), length, theta);
        const turn = (array: typeof query): tf.Tensor => rotary({ input: piece(array), ...angles }, { interleaved });
        const result = retention({ query: turn(query), key: turn(key), value: piece(value) }, state ? { state } : {});
        outputs.push(result.output);
        state = result.state;
      }
      return { output: tf.concat(outputs, 1), memory: state!.memory };
    });
    expect(relativeError64(await output.data(), wanted.output.data)).toBeLessThan(2e-6);
    expect(relativeError64(await memory.data(), wanted.memory.data)).toBeLessThan(2e-6);
    tf.dispose([output, memory]);
  });

  it('parameters and state are as many as the budget says', () => {
    const layer = new Retention({ dim: 64, heads: 4 });
    const count = [...layer.namedParameters()].reduce((sum, [, parameter]) => sum + parameter.size, 0);
    expect(count).toBe(8 * 64 ** 2 + 32);
    expect(layer.stateBytes(1, 1000)).toBe(card.stateBytes(1000, { heads: 4, keyDim: 16, valueDim: 32 }));
    layer.dispose();
  });
});

it('head h remembers about 2^(5 + h) tokens', () => {
  expect(retentionLogDecays(4).map((decay) => Math.round(1 / -Math.expm1(decay)))).toEqual([32, 64, 128, 256]);
});
