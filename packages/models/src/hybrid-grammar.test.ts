import * as tf from '@tensorflow/tfjs-core';
import { deferParameters, disposeState, Random, setupBackend } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { failOnLeaks, furthest } from '@seqloom/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import type { HybridConfig } from './config.ts';
import { generate } from './generate.ts';
import { tokenIds, withModel } from './for-tests/tiny-models.ts';
import { HybridModel } from './hybrid-model.ts';

const definitions: HybridConfig['definitions'] = {
  conv: { type: 'gated-convolution', kernelSize: 3 },
  linear: { type: 'linear-attention', heads: 2 },
  window: { type: 'sliding-window-attention', heads: 2, window: 4, sinks: 2 },
  full: { type: 'mha-mqa-gqa', heads: 2, kvHeads: 1 },
  lightning: { type: 'lightning-attention', heads: 2, layer: '$layer', layers: '$layers' },
  delta: { type: 'delta-net', heads: 2 },
  mamba: { type: 'mamba-s6', stateDim: 4 },
  mlp: { type: 'mlp', hidden: 12 },
  beside: {
    type: 'parallel',
    branches: [
      { mixer: { type: 'mha-mqa-gqa', heads: 2 }, norm: true },
      { mixer: { type: 'gated-convolution' }, outputScale: 0.5 },
    ],
    combine: 'mean',
  },
};

const base: HybridConfig = { vocabSize: 11, dim: 8, mixers: 'conv', definitions, seed: 5 };

/** The largest difference between one call on all tokens and calls on pieces that end at `cuts`. */
function splitError(model: HybridModel, length: number, cuts: readonly number[]): number {
  return tf.tidy(() => {
    const ids = tokenIds(2, length);
    const whole = model.forward(ids).logits;
    let state: State | undefined;
    let from = 0;
    const errors = [...cuts, length].map((to) => {
      const result = model.forward(tf.slice(ids, [0, from], [2, to - from]), state ? { state } : {});
      const error = furthest(result.logits, tf.slice(whole, [0, from, 0], [2, to - from, 11]));
      state = result.state;
      from = to;
      return error;
    });
    return Math.max(...errors);
  });
}

beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
});

failOnLeaks();

describe('any stack', () => {
  const styles = ['pre', 'post', 'sandwich', 'normalised', 'parallel', 'none'] as const;
  it.each(Array.from({ length: 12 }, (_, seed) => seed))('of random layers gives by pieces what it gives at once, seed %d', (seed) => {
    const random = new Random(100 + seed);
    const names = ['conv', 'linear', 'window', 'full', 'lightning', 'delta', 'mamba', 'beside'];
    const mixers = Array.from({ length: 1 + random.below(3) }, () => names[random.below(names.length)]!);
    const length = 2 + random.below(32);
    const config: HybridConfig = {
      ...base,
      mixers,
      channels: mixers.map(() => (random.below(2) ? 'mlp' : 'none')),
      residual: { style: styles[seed % styles.length]!, learned: random.below(2) === 1, mixerCarry: 1.5 },
      norm: { type: random.below(2) ? 'rms' : 'layer' },
      ...(random.below(2) ? { metaTokens: { count: 3, deviation: 1 } } : {}),
      ...(random.below(2) ? { positions: { type: 'learned', max: 64 } } : {}),
      seed,
    };
    withModel(config, (model) => expect(splitError(model, length, [1 + random.below(length - 1)])).toBeLessThan(2e-4));
  });

  it('is what its JSON says', () => {
    const config: HybridConfig = { ...base, mixers: '(conv, beside)*2', residual: { style: 'sandwich' }, metaTokens: { count: 2 } };
    withModel(config, (model) => {
      withModel(JSON.parse(JSON.stringify(model.config)) as HybridConfig, (again) => {
        tf.tidy(() => {
          expect(furthest(model.forward(tokenIds(1, 5)).logits, again.forward(tokenIds(1, 5)).logits)).toBe(0);
        });
      });
    });
  });

  it('is counted without making a tensor', () => {
    const before = tf.memory().numTensors;
    const model = deferParameters(() => new HybridModel({ ...base, dim: 4096, vocabSize: 50_000, mixers: 'full*80' }));
    expect(tf.memory().numTensors).toBe(before);
    expect(model.countParameters()).toBe(50_000 * 4096 + 4096 + 80 * (4096 * 4096 * 2 + 4096 * 4096 + 2 * 4096 + 3 * 4096 * 12));
    model.dispose();
  });

  it('gets its weights on first use when they were deferred, the same ones', () => {
    const model = deferParameters(() => new HybridModel(base));
    withModel(base, (again) => {
      tf.tidy(() => {
        expect(furthest(model.forward(tokenIds(1, 5)).logits, again.forward(tokenIds(1, 5)).logits)).toBe(0);
      });
    });
    model.dispose();
  });
});

describe('meta tokens', () => {
  const config: HybridConfig = { ...base, mixers: 'full, window', metaTokens: { count: 3, deviation: 1 } };

  it('act as tokens that stand in front of every sequence', () => {
    withModel(config, (model) => {
      withModel({ ...base, mixers: 'full, window' }, (plain) => {
        tf.tidy(() => {
          const shared = [...plain.namedParameters()];
          const weights = model.namedParameters();
          for (const [name, parameter] of shared) parameter.assign(weights.get(name)!.value);
          const ids = tokenIds(2, 7);
          const rows = tf.tile(tf.expandDims(model.stack.meta!.value, 0), [2, 1, 1]);
          const joined = tf.concat([rows, plain.embedding.forward(ids)], 1) as tf.Tensor3D;
          const expected = tf.slice(plain.stack.forward(joined).output, [0, 3, 0], [2, 7, 8]);
          expect(furthest(model.stack.forward(model.embedding.forward(ids)).output, expected)).toBeLessThan(1e-5);
        });
      });
    });
  });

  it('are seen by every row and segment, with or without padding, and receive gradients', () => {
    withModel(config, (model) => {
      tf.tidy(() => {
        const ids = tokenIds(1, 6);
        const alone = model.forward(ids).logits;
        const left = model.forward(tf.concat([tf.zeros([1, 2], 'int32'), ids], 1), {
          mask: tf.tensor2d([[0, 0, 1, 1, 1, 1, 1, 1]]),
        }).logits;
        expect(furthest(tf.slice(left, [0, 2, 0], [1, 6, 11]), alone)).toBeLessThan(1e-5);
        const packed = model.forward(tf.concat([ids, ids], 1), { segmentIds: [[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]] }).logits;
        expect(furthest(tf.slice(packed, [0, 6, 0], [1, 6, 11]), alone)).toBeLessThan(1e-5);
        const meta = model.stack.meta!.variable;
        const slope = tf.variableGrads(() => model.loss(ids, tokenIds(1, 6, 2)).sum, [meta]).grads[meta.name]!;
        expect(tf.min(tf.max(tf.abs(slope), 1)).dataSync()[0]!).toBeGreaterThan(1e-6);
      });
    });
  });

  it('count in the state: bytes are what the state holds', () => {
    withModel(config, (model) => {
      const ids = tokenIds(2, 5);
      const { logits, state } = model.forward(ids);
      expect(Object.values(state).reduce((sum, { size }) => sum + 4 * size, 0)).toBe(model.stateBytes(2, 5));
      disposeState(state);
      tf.dispose([ids, logits]);
    });
  });
});

describe('learned positions', () => {
  const config: HybridConfig = { ...base, mixers: 'full', positions: { type: 'learned', max: 6 } };

  it('end: generation beyond them is refused before any work, with what was read before', async () => {
    const model = new HybridModel(config);
    const write = async (maxNewTokens: number, state?: State): Promise<number> => {
      let count = 0;
      for await (const _ of generate(model, { prompt: [1, 2, 3], maxNewTokens, ...(state ? { state } : {}) })) count++;
      return count;
    };
    expect(await write(4)).toBe(4);
    await expect(write(5)).rejects.toThrow(/at most 4: the model has 6 positions, 3 are read; got 5/);
    const ids = tokenIds(1, 2);
    const { logits, state } = model.next(ids);
    await expect(write(3, state)).rejects.toThrow(/at most 2/);
    expect(await write(2, state)).toBe(2);
    tf.dispose([ids, logits]);
    disposeState(state);
    model.dispose();
  });

  it('a piece that is too long is refused, and tokens beyond the last one are NaN, not misplaced', () => {
    withModel(config, (model) => {
      expect(() => tf.tidy(() => model.forward(tokenIds(1, 7)))).toThrow(/at most 6 tokens/);
      tf.tidy(() => {
        const { state } = model.forward(tokenIds(1, 4));
        const logits = model.forward(tokenIds(1, 3), { state }).logits.arraySync()[0]!;
        expect(logits[2]!.every(Number.isNaN)).toBe(true);
        // padding beyond the table spoils nothing
        const padded = model.forward(tokenIds(1, 3), { state, mask: tf.tensor2d([[1, 1, 0]]) }).logits.arraySync()[0]!;
        expect(padded.map((row) => row.every(Number.isFinite))).toEqual([true, true, true]);
      });
    });
  });
});

describe('shared weights', () => {
  it('are one parameter, whose gradient is the sum of its uses', () => {
    const config: HybridConfig = { ...base, mixers: 'full*2', share: { weights: [{ layers: [0, 1] }] } };
    withModel({ ...base, mixers: 'full*2' }, (apart) => {
      withModel(config, (model) => {
        tf.tidy(() => {
          expect(model.countParameters()).toBe(apart.countParameters() - apart.stack.layers[1]!.countParameters() + 2 * 8);
          const weights = model.namedParameters();
          for (const [name, parameter] of apart.namedParameters())
            parameter.assign((weights.get(name) ?? weights.get(name.replace('layers.1', 'layers.0')))!.value);
          const slopes = (of: HybridModel, names: string[]): tf.Tensor[] => {
            const variables = names.map((name) => of.namedParameters().get(name)!.variable);
            const { grads } = tf.variableGrads(() => of.loss(tokenIds(1, 6), tokenIds(1, 6, 2)).sum, variables);
            return variables.map(({ name }) => grads[name]!);
          };
          const [shared] = slopes(model, ['stack.layers.0.mixer.query.weight']);
          const [first, second] = slopes(apart, ['stack.layers.0.mixer.query.weight', 'stack.layers.1.mixer.query.weight']);
          expect(furthest(shared!, tf.add(first!, second!))).toBeLessThan(1e-5);
        });
      });
    });
  });
});

describe('segment recurrence', () => {
  it('runs around any stack, with or without pieces, and adds its memory alone', () => {
    const config: HybridConfig = {
      ...base,
      mixers: 'full, conv',
      segments: { type: 'recurrent-memory-transformer', segmentLength: 5, memoryTokens: 2 },
    };
    withModel({ ...base, mixers: 'full, conv' }, (plain) => {
      withModel(config, (model) => {
        expect(model.countParameters()).toBe(plain.countParameters() + 2 * 8);
        expect(splitError(model, 13, [3, 5, 11])).toBeLessThan(2e-4);
      });
    });
  });
});

describe('a layer that reads a context', () => {
  it('reads the memory of a segment recurrence, alone among the layers, and is refused without', () => {
    const reader = { type: 'mha-mqa-gqa', heads: 2, pattern: 'noncausal-cross' };
    const config: HybridConfig = { ...base, mixers: 'full, reader, window', definitions: { ...definitions, reader } };
    const segments = { type: 'memformer', heads: 2, slots: 3, segmentLength: 4 };
    withModel({ ...config, segments }, (model) => expect(splitError(model, 11, [1, 5, 9])).toBeLessThan(2e-4));
    withModel(config, (model) => {
      const ids = tokenIds(1, 3);
      expect(() => model.forward(ids)).toThrow(/layer 1 has the pattern noncausal-cross/);
      ids.dispose();
    });
  });
});

describe('a bad config is refused before a tensor is made', () => {
  it.each<[string, Partial<HybridConfig>, RegExp]>([
    ['a pattern of another length', { mixers: 'conv*25', depth: 27 }, /25 layers/],
    ['an unknown name', { mixers: 'conv, gru' }, /"gru"/],
    ['an unknown key', { normEpsilon: 1 } as never, /normEpsilon.*unknown/s],
    [
      'an unknown branch',
      { mixers: 'x', definitions: { ...definitions, x: { type: 'parallel', branches: [{ mixer: { type: 'gru' } }] } } },
      /gru/,
    ],
    ['a consumer before its producer', { mixers: 'full*3', share: { keyValue: [[1, 0]] } }, /producer 1 before/],
    [
      'layers of two groups',
      {
        mixers: 'full*3',
        share: {
          keyValue: [
            [0, 1],
            [1, 2],
          ],
        },
      },
      /no other group/,
    ],
    ['keys of a convolution', { mixers: 'full, conv', share: { keyValue: [[0, 1]] } }, /gated-convolution/],
    [
      'windows of two widths',
      { mixers: 'window*2', overrides: [{ at: [1], mixer: { window: 9 } }], share: { keyValue: [[0, 1]] } },
      /same window/,
    ],
    [
      'weights of two shapes',
      { mixers: 'full*2', overrides: [{ at: [1], mixer: { heads: 1 } }], share: { weights: [{ layers: [0, 1] }] } },
      /one mixer config/,
    ],
    [
      'meta tokens around segments',
      { metaTokens: { count: 1 }, segments: { type: 'recurrent-memory-transformer', segmentLength: 4 } },
      /metaTokens/,
    ],
    ['an unknown recurrence', { segments: { type: 'gru' } }, /recurrent-memory-transformer/],
    ['a residual key', { overrides: [{ at: [0], residual: { alpha: 2 } }] }, /alpha.*unknown/s],
  ])('%s', (_what, part, message) => {
    expect(() => new HybridModel({ ...base, ...part })).toThrow(message);
  });
});
