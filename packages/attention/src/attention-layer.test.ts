import * as tf from '@tensorflow/tfjs-core';
import { childState, disposeState, joinStates, SequenceMixer, setupBackend } from '@seqloom/core';
import type { MixerResult, MixInput, SharedKeyValue, State, StateShapes } from '@seqloom/core';
import { mixerLaws, uniform64 } from '@seqloom/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { card } from './mha-mqa-gqa/card.ts';
import { MultiHeadAttention } from './mha-mqa-gqa/layer.ts';
import type { MultiHeadAttentionConfig } from './mha-mqa-gqa/layer.ts';
import { naiveMultiHeadAttention } from './mha-mqa-gqa/naive.ts';
import { naiveFrequencies, naiveRotate } from './positional-encodings/naive.ts';
import { card as windowCard } from './sliding-window-attention/card.ts';
import { SlidingWindowAttention } from './sliding-window-attention/layer.ts';
import type { SlidingWindowAttentionConfig } from './sliding-window-attention/layer.ts';

type Layer = MultiHeadAttention | SlidingWindowAttention;

/** Two layers of which the second attends over the keys and values of the first, as a stack runs them. */
class SharingPair extends SequenceMixer {
  readonly mechanism = 'sharing-pair';
  readonly dim: number;
  readonly pattern: Layer['pattern'];
  readonly producer: Layer;
  readonly consumer: Layer;

  constructor(producer: Layer, consumer: Layer) {
    super();
    this.producer = producer;
    this.consumer = consumer;
    this.dim = producer.dim;
    this.pattern = producer.pattern;
  }

  stateShapes(batch: number): StateShapes {
    const child = (name: string, layer: Layer): [string, StateShapes[string]][] =>
      Object.entries({ ...layer.stateShapes(batch), position: [batch] }).map(([key, shape]) => [`${name}.${key}`, shape]);
    return Object.fromEntries([...child('producer', this.producer), ...child('consumer', this.consumer)]);
  }

  override mixingFlops(length: number): number {
    return this.producer.mixingFlops(length) + this.consumer.mixingFlops(length);
  }

  mix(input: MixInput): MixerResult {
    const first = this.producer.mix({ ...input, state: childState(input.state, 'producer') });
    const x = tf.add(input.x, first.output) as tf.Tensor3D;
    const second = this.consumer.mix({ ...input, x, state: childState(input.state, 'consumer'), keyValue: first.keyValue });
    const states = { producer: first.state, consumer: second.state };
    return { output: tf.add(x, second.output) as tf.Tensor3D, state: joinStates(first.state.position, states) };
  }
}

const full = (config: Partial<MultiHeadAttentionConfig>): MultiHeadAttention =>
  new MultiHeadAttention({ dim: 8, heads: 2, seed: 3, ...config });
const windowed = (config: Partial<SlidingWindowAttentionConfig>): SlidingWindowAttention =>
  new SlidingWindowAttention({ dim: 8, heads: 2, seed: 3, window: 3, ...config });

const wide = { kvHeads: 1, headDim: 4, valueHeadDim: 6, outputGate: true } as const;
const given = { keyValue: 'given', seed: 4 } as const;

mixerLaws({
  card,
  name: 'multi-head attention, wide values, zero-centred norms, partial rotation',
  build: () => full({ ...wide, qkNorm: 'zero-centered', rotary: { dims: 2 } }),
  dims: { kvHeads: 1, headDim: 4, valueHeadDim: 6 },
  badConfigs: [
    { build: () => full({ projectOutput: false, outputBias: true }), argument: 'config.outputBias' },
    { build: () => full({ pattern: 'causal-cross', keyValue: 'given' }), argument: 'config.keyValue' },
    { build: () => full({ valueHeadDim: 0 }), argument: 'config.valueHeadDim' },
  ],
});
mixerLaws({
  card,
  name: 'multi-head attention without output projection, narrow values',
  build: () => full({ valueHeadDim: 3, projectOutput: false }),
  dims: { kvHeads: 2, headDim: 4, valueHeadDim: 3 },
});
mixerLaws({
  card,
  name: 'a pair of full layers with one cache',
  build: () => new SharingPair(full({ ...wide, bias: true }), full({ ...wide, ...given, qkNorm: true })),
});
mixerLaws({
  card: windowCard,
  name: 'a pair of windowed layers with sinks and one cache',
  build: () => new SharingPair(windowed({ ...wide, sinks: 2 }), windowed({ ...wide, ...given, sinks: 2, positions: 'cache' })),
});
mixerLaws({
  card,
  name: 'a pair of two-sided layers with one set of keys',
  build: () => new SharingPair(full({ pattern: 'noncausal-self' }), windowed({ ...given, pattern: 'noncausal-self', window: 4 })),
});

describe('attention layers', () => {
  beforeAll(async () => {
    await setupBackend('cpu');
  });

  const piece = (layer: Layer, x: tf.Tensor3D, keyValue?: SharedKeyValue, state: State = layer.initialState(x.shape[0])): MixerResult =>
    layer.mix({ x, state, valid: null, lengths: null, context: null, contextValid: null, training: false, keyValue });
  const numbers = (tensor: tf.Tensor): number[] => [...tensor.dataSync()];

  it.each([
    ['full', () => [full(wide), full({ ...wide, ...given })]],
    ['windowed', () => [windowed({ ...wide, sinks: 1 }), windowed({ ...wide, ...given, sinks: 1 })]],
  ] as const)('a %s layer of given keys and values equals its producer, once their other weights are the same', async (_, build) => {
    const [producer, consumer] = build();
    const weights = await producer.stateDict();
    consumer.loadStateDict(Object.fromEntries(Object.entries(weights).filter(([name]) => !/^(key|value)\./.test(name))));
    tf.tidy(() => {
      const x = tf.randomNormal([2, 5, 8], 0, 1, 'float32', 1) as tf.Tensor3D;
      const first = piece(producer, x);
      expect(numbers(piece(consumer, x, first.keyValue).output)).toEqual(numbers(first.output));
      const next = tf.randomNormal([2, 3, 8], 0, 1, 'float32', 2) as tf.Tensor3D;
      const second = piece(producer, next, undefined, first.state);
      expect(numbers(piece(consumer, next, second.keyValue).output)).toEqual(numbers(second.output));
    });
    producer.dispose();
    consumer.dispose();
  });

  it('sharing halves the cache and drops the projections', () => {
    const [own, taker] = [full(wide), full({ ...wide, ...given })];
    const bytes = own.stateBytes(1, 100);
    expect(bytes).toBe(4 * (100 * (4 + 6) + 1));
    expect(taker.stateBytes(1, 100)).toBe(4);
    expect([taker.key, taker.value, taker.keyNorm]).toEqual([null, null, null]);
    expect(own.countParameters() - taker.countParameters()).toBe(8 * 4 + 8 * 6);
    own.dispose();
    taker.dispose();
  });

  it('a layer of given keys and values is refused without them, and with those of another window', () => {
    const consumers = [full({ ...wide, ...given }), windowed({ ...wide, ...given, window: 4 }), windowed({ ...given, sinks: 1 })] as const;
    const producers = [full(wide), windowed(wide), windowed({})] as const;
    tf.tidy(() => {
      const x = tf.ones([1, 2, 8]) as tf.Tensor3D;
      const from = (layer: Layer): SharedKeyValue => piece(layer, x).keyValue!;
      expect(() => consumers[0].forward(x)).toThrow(/keyValue must be keys and values of another layer.*got none/);
      expect(() => piece(consumers[0], x, from(producers[2]))).toThrow(/keyValue.key must be \[1, 2, 1, 4\]; got \[1, 2, 2, 4\]/);
      expect(() => piece(consumers[0], x, from(producers[1]))).toThrow(
        /keyValue.state must be a record of key, position, value; got position, window/,
      );
      expect(() => piece(consumers[1], x, from(producers[1]))).toThrow(
        /keyValue.state.windowKey must be \[1, 3, 1, 4\]; got \[1, 2, 1, 4\]/,
      );
      expect(() => piece(consumers[2], x, from(producers[2]))).toThrow(/keyValue.state must be a record of position, sinkKey/);
    });
    for (const layer of [...producers, ...consumers]) layer.dispose();
  });

  it('a layer without output projection gives what its projection would read', async () => {
    const [whole, bare] = [full(wide), full({ ...wide, projectOutput: false })];
    expect([bare.output, bare.outputDim, whole.outputDim]).toEqual([null, 12, 8]);
    expect(bare.mixingFlops(10)).toBe(2 * 2 * (4 + 6) * 10);
    const { 'output.weight': projection, ...rest } = await whole.stateDict();
    bare.loadStateDict(rest);
    const x = tf.randomNormal([1, 3, 8], 0, 1, 'float32', 5);
    const [a, b] = [whole.forward(x), bare.forward(x)];
    const projected = tf.tidy(() => tf.matMul(tf.reshape(b.output, [3, 12]), tf.tensor(projection!.data, [12, 8])));
    expect(b.output.shape).toEqual([1, 3, 12]);
    numbers(projected).forEach((value, i) => expect(value).toBeCloseTo(numbers(a.output)[i]!, 5));
    tf.dispose([x, a.output, b.output, projected]);
    disposeState(a.state);
    disposeState(b.state);
    whole.dispose();
    bare.dispose();
  });

  it('gated attention with zero-centred norms, partial rotation and wide heads equals its equations', async () => {
    // Qwen3-Next: headDim beyond dim / heads, a quarter of it rotated, norms of 1 + w, a gate on every channel
    const [dim, heads, kvHeads, D, T] = [8, 4, 2, 8, 5] as const;
    const layer = new MultiHeadAttention({
      dim,
      heads,
      kvHeads,
      headDim: D,
      qkNorm: 'zero-centered',
      rotary: { dims: 2, base: 100 },
      outputGate: true,
      normEpsilon: 1e-6,
    });
    const weights = { ...(await layer.stateDict()) };
    expect([...weights['queryNorm.weight']!.data]).toEqual(Array.from({ length: D }, () => 0));
    for (const name of ['queryNorm.weight', 'keyNorm.weight'])
      weights[name] = { shape: [D], data: Float32Array.from(uniform64([D], name.length).data, (w) => w / 2) };
    layer.loadStateDict(weights);
    const x = uniform64([T, dim], 9);
    const times = (rows: ArrayLike<number>, width: number, name: string): number[][] => {
      const { shape, data } = weights[name]!;
      return Array.from({ length: T }, (_, t) =>
        Array.from({ length: shape[1]! }, (__, o) =>
          Array.from({ length: width }, (___, i) => rows[t * width + i]! * data[i * shape[1]! + o]!).reduce((a, b) => a + b),
        ),
      );
    };
    const headsOf = (name: string, count: number): number[] =>
      times(x.data, dim, `${name}.weight`).flatMap((row, t) =>
        Array.from({ length: count }, (_, h) => {
          const head = row.slice(h * D, (h + 1) * D);
          if (name === 'value') return head;
          const rms = Math.sqrt(head.reduce((sum, v) => sum + v * v, 0) / D + 1e-6);
          const normed = head.map((v, d) => (v / rms) * (1 + weights[`${name}Norm.weight`]!.data[d]!));
          return naiveRotate(normed, t, naiveFrequencies(2, 100));
        }).flat(),
      );
    const tensor = (name: string, count: number) => ({ shape: [1, T, count, D], data: Float64Array.from(headsOf(name, count)) });
    const inputs = { query: tensor('query', heads), key: tensor('key', kvHeads), value: tensor('value', kvHeads) };
    const mixed = naiveMultiHeadAttention(inputs, { causal: true }).output.data;
    const gate = times(x.data, dim, 'gate.weight').flat();
    const wanted = times(
      mixed.map((value, i) => value / (1 + Math.exp(-gate[i]!))),
      heads * D,
      'output.weight',
    ).flat();
    const input = tf.tensor(Float32Array.from(x.data), [1, T, dim]);
    const result = layer.forward(input);
    numbers(result.output).forEach((value, i) => expect(value).toBeCloseTo(wanted[i]!, 5));
    tf.dispose([input, result.output]);
    disposeState(result.state);
    layer.dispose();
  });
});
