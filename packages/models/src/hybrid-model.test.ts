import * as tf from '@tensorflow/tfjs-core';
import { disposeState, SeqLoomError, setupBackend } from '@seqloom/core';
import type { SequenceMixer, State } from '@seqloom/core';
import { furthest } from '@seqloom/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { defaultComponents } from './components.ts';
import type { HybridConfig } from './config.ts';
import { generate } from './generate.ts';
import { tokenIds } from './for-tests/tiny-models.ts';
import { HybridModel } from './hybrid-model.ts';

const config: HybridConfig = {
  vocabSize: 23,
  dim: 16,
  mixers: 'conv,linear,window,taylor,full',
  definitions: {
    conv: { type: 'gated-convolution', kernelSize: 4 },
    linear: { type: 'linear-attention', heads: 2 },
    window: { type: 'sliding-window-attention', heads: 2, window: 5 },
    taylor: { type: 'based-taylor', heads: 2, featureDim: 4 },
    full: { type: 'mha-mqa-gqa', heads: 4, kvHeads: 2 },
    mlp: { type: 'mlp', hidden: 24 },
  },
  seed: 3,
};

const idsOf = (rows: number, length: number, seed = 1): tf.Tensor2D => tokenIds(rows, length, seed, config.vocabSize);

describe.each(['cpu', 'wasm'] as const)('hybrid model on %s', (backend) => {
  let model: HybridModel;
  beforeAll(async () => {
    await setupBackend(backend, { kernels: [] });
    model = new HybridModel(config);
  });

  it('gives the same logits in one call, in pieces and token by token, and state bytes as told', () => {
    const before = tf.memory().numTensors;
    const ids = idsOf(2, 14);
    const whole = model.forward(ids);
    for (const cuts of [[6, 14], [1, 2, 5, 14], Array.from({ length: 14 }, (_, i) => i + 1)]) {
      let state: State | undefined;
      let from = 0;
      for (const to of cuts) {
        const piece = tf.slice(ids, [0, from], [2, to - from]);
        const result = model.forward(piece, state ? { state } : {});
        const part = tf.slice(whole.logits, [0, from, 0], [2, to - from, 23]);
        expect(furthest(result.logits, part)).toBeLessThan(2e-4);
        if (state) disposeState(state);
        tf.dispose([piece, result.logits, part]);
        state = result.state;
        const bytes = Object.values(state).reduce((sum, { size }) => sum + 4 * size, 0);
        expect(bytes).toBe(model.stateBytes(2, to));
        from = to;
      }
      disposeState(state!);
    }
    disposeState(whole.state);
    tf.dispose([ids, whole.logits]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('gives padded rows what they get alone, on either side', () => {
    tf.tidy(() => {
      const ids = idsOf(1, 6);
      const alone = model.next(ids);
      const filler = tf.zeros([1, 3], 'int32');
      const ones = tf.ones([1, 6]);
      const none = tf.zeros([1, 3]);
      const left = model.next(tf.concat([filler, ids], 1), { mask: tf.concat([none, ones], 1) });
      const right = model.next(tf.concat([ids, filler], 1), { mask: tf.concat([ones, none], 1) });
      expect(furthest(left.logits, alone.logits)).toBeLessThan(1e-4);
      expect(furthest(right.logits, alone.logits)).toBeLessThan(1e-4);
      const step = idsOf(1, 1, 9);
      const after = model.next(step, { state: alone.state });
      expect(furthest(model.next(step, { state: left.state }).logits, after.logits)).toBeLessThan(1e-4);
      expect(furthest(model.next(step, { state: right.state }).logits, after.logits)).toBeLessThan(1e-4);
    });
  });

  it('sums the same loss in one chunk and in several, with finite gradients for every parameter', () => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const ids = idsOf(2, 9);
      const labels = idsOf(2, 9, 2);
      const variables = [...model.namedParameters().values()].map(({ variable }) => variable);
      const whole = tf.variableGrads(() => model.loss(ids, labels).sum, variables);
      const parts = tf.variableGrads(() => model.loss(ids, labels, { chunk: 5 }).sum, variables);
      expect(furthest(whole.value, parts.value)).toBeLessThan(1e-3);
      for (const [name, parameter] of model.namedParameters()) {
        const gradient = whole.grads[parameter.variable.name]!;
        const size = tf.max(tf.abs(gradient)).dataSync()[0]!;
        expect(Number.isFinite(size) && size > 0, name).toBe(true);
        expect(furthest(gradient, parts.grads[parameter.variable.name]!), name).toBeLessThan(1e-3);
      }
      // at the start the logits are near zero
      expect(Math.abs(whole.value.dataSync()[0]! / 18 - Math.log(23))).toBeLessThan(0.5);
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('writes greedily with the state what it writes by reading everything anew', async () => {
    const prompt = [3, 1, 4, 1, 5];
    const written: number[] = [];
    for await (const { id } of generate(model, { prompt, temperature: 0, maxNewTokens: 6, prefillChunk: 2 })) written.push(id!);
    const seen = [...prompt];
    for (let step = 0; step < 6; step++) {
      const best = tf.tidy(() => tf.argMax(model.next(tf.tensor2d([seen], [1, seen.length], 'int32')).logits, 1).dataSync()[0]!);
      expect(written[step]).toBe(best);
      seen.push(best);
    }
  });
});

describe('hybrid config', () => {
  beforeAll(async () => {
    await setupBackend('cpu');
  });

  it('survives JSON, makes the same weights from the same seed, and counts them', async () => {
    const a = new HybridModel(config);
    const b = new HybridModel(JSON.parse(JSON.stringify(a.config)) as HybridConfig);
    expect(await b.stateDict()).toEqual(await a.stateDict());
    const other = new HybridModel({ ...config, seed: 4 });
    expect((await other.stateDict())['embedding.weight']).not.toEqual((await a.stateDict())['embedding.weight']);
    const perLayer = a.stack.layers.reduce((sum, layer) => sum + layer.countParameters(), 0);
    expect(a.countParameters()).toBe(23 * 16 + perLayer + 16);
    expect(new HybridModel({ ...config, tieEmbeddings: false }).countParameters()).toBe(a.countParameters() + 23 * 16);
  });

  it('applies overrides by index, range and definition, later ones last', () => {
    const model = new HybridModel({
      ...config,
      mixers: 'window*4',
      overrides: [
        { at: { mixer: 'window' }, mixer: { window: 7 } },
        { at: '1-2', mixer: { window: 9 } },
        { at: [2], mixer: { type: 'gated-convolution' }, replace: true },
      ],
    });
    const mixers = model.stack.layers.map(({ mixer }) => mixer as SequenceMixer & { config: { window?: number } });
    expect(mixers.map((mixer) => mixer.config.window ?? mixer.mechanism)).toEqual([7, 9, 'gated-convolution', 7]);
  });

  it.each<[string, unknown, RegExp]>([
    ['unknown key', { ...config, widht: 3 }, /config\.widht/],
    ['wrong type', { ...config, dim: '16' }, /config\.dim/],
    ['no such definition', { ...config, mixers: 'conv,lienar' }, /one of the definitions conv, linear.*got "lienar"/],
    [
      'no such component',
      { ...config, definitions: { ...config.definitions, conv: { type: 'convolution' } } },
      /definitions\.conv\.type must be one of/,
    ],
    [
      'heads that do not divide',
      { ...config, definitions: { ...config.definitions, window: { type: 'sliding-window-attention', heads: 3, window: 4 } } },
      /heads/,
    ],
    [
      'unknown component key',
      { ...config, definitions: { ...config.definitions, conv: { type: 'gated-convolution', taps: 3 } } },
      /config\.taps/,
    ],
    ['pattern of another depth', { ...config, depth: 7 }, /a pattern of 7 layers/],
    ['override out of range', { ...config, overrides: [{ at: [9], mixer: {} }] }, /layers in \[0, 5\)/],
    ['override that changes the type', { ...config, overrides: [{ at: [0], mixer: { type: 'mlp' } }] }, /replace: true/],
  ])('refuses %s and leaves no tensor behind', (_name, wrong, message) => {
    const before = tf.memory().numTensors;
    const build = (): HybridModel => new HybridModel(wrong as HybridConfig);
    expect(build).toThrow(SeqLoomError);
    expect(build).toThrow(message);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('takes components from its user', () => {
    const custom = { ...defaultComponents, mixers: { mine: defaultComponents.mixers['gated-convolution']! } };
    const model = new HybridModel({ vocabSize: 5, dim: 8, mixers: 'a*2', channels: 'none', definitions: { a: { type: 'mine' } } }, custom);
    expect(model.stack.layers).toHaveLength(2);
    expect(() => new HybridModel(config, custom)).toThrow('config.definitions.conv.type must be one of mine');
  });
});
