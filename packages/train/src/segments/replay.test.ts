import { disposeState, setupBackend, valueAndGradients } from '@seqloom/core';
import type { SequenceMixer, State } from '@seqloom/core';
import { Memformer, RecurrentMemoryTransformer, TransformerXlRecurrence } from '@seqloom/memory';
import { relativeError64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { replayBackward } from './replay.ts';
import type { ReplayOptions, ReplayResult } from './replay.ts';
import { detachState, resetRows, segmentsAt } from './state-policy.ts';

const DIM = 8;
const LENGTH = 4;

const LAYERS: Readonly<Record<string, () => SequenceMixer>> = {
  memformer: () => new Memformer({ dim: DIM, heads: 2, slots: 3, segmentLength: LENGTH }),
  'recurrent memory': () =>
    new RecurrentMemoryTransformer({ dim: DIM, heads: 2, segmentLength: LENGTH, memoryTokens: 2, memoryDeviation: 0.5 }),
  // segments of a step that are none of the layer's own
  'relative attention': () => new TransformerXlRecurrence({ dim: DIM, heads: 2, memoryLength: 6 }),
};

/** Losses of segments of one sequence. */
function steps(layer: SequenceMixer, x: tf.Tensor, count?: { runs: number }) {
  return (segment: number, state: State): { loss: tf.Scalar; state: State } => {
    if (count) count.runs++;
    const { output, state: next } = layer.forward(tf.slice(x, [0, LENGTH * segment, 0], [2, LENGTH, DIM]), { state });
    return { loss: tf.sum(tf.square(tf.sub(output, 0.3))), state: next };
  };
}

function dispose({ loss, gradients, stateGradients, state }: ReplayResult): void {
  tf.dispose([loss, ...gradients.values(), ...stateGradients.values()]);
  disposeState(state);
}

type Host = { loss: number; gradients: Record<string, Float32Array>; memory: Record<string, Float32Array> };

async function host(layer: SequenceMixer, x: tf.Tensor, segments: number, options: Partial<ReplayOptions> = {}): Promise<Host> {
  const state = options.state ?? layer.initialState(2);
  const result = replayBackward(steps(layer, x), { parameters: layer.namedParameters(), segments, state, ...options });
  const read = async (tensors: Iterable<[string, tf.Tensor]>): Promise<Record<string, Float32Array>> => {
    const entries: [string, Float32Array][] = [];
    for (const [name, tensor] of tensors) entries.push([name, (await tensor.data()) as Float32Array]);
    return Object.fromEntries(entries);
  };
  const [loss] = await result.loss.data();
  const values = { loss: loss!, gradients: await read(result.gradients), memory: await read(Object.entries(result.state)) };
  dispose(result);
  if (!options.state) disposeState(state);
  return values;
}

/** Equal but for a few roundings of float32, in which sums of the same terms may differ. */
function expectSameLoss(given: number, wanted: number): void {
  expect(Math.abs(given / wanted - 1)).toBeLessThan(1e-6);
}

function expectSame(given: Host, wanted: Host, tolerance = 1e-4): void {
  expectSameLoss(given.loss, wanted.loss);
  expect(Object.keys(given.gradients).toSorted()).toEqual(Object.keys(wanted.gradients).toSorted());
  const size = (values: Float32Array): number => Math.hypot(...values);
  const largest = Math.max(...Object.values(wanted.gradients).map(size));
  for (const [name, values] of Object.entries(wanted.gradients)) {
    const off = Math.hypot(...values.map((value, i) => value - given.gradients[name]![i]!));
    expect(off / Math.max(size(values), 1e-3 * largest), name).toBeLessThan(tolerance);
  }
  for (const [name, values] of Object.entries(wanted.memory)) {
    if (values.length > 0) expect(relativeError64(given.memory[name]!, values), name).toBeLessThan(1e-5);
  }
}

const random = (length: number, seed = 5): tf.Tensor => tf.randomNormal([2, length, DIM], 0, 1, 'float32', seed);

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each(Object.keys(LAYERS))('replay and checkpoints of %s give the gradients of plain back-propagation', async (name) => {
    const layer = LAYERS[name]!();
    for (const segments of [1, 2, 5]) {
      const x = random(segments * LENGTH);
      const weights = Array.from({ length: segments }, (_, segment) => 1 / (segment + 2));
      const full = await host(layer, x, segments, { weights, checkpointEvery: segments });
      // the same without any of this: one call on the whole sequence
      const direct = tf.tidy(() => {
        const { output } = layer.forward(x);
        const parts = weights.map((weight, segment) =>
          tf.mul(weight, tf.sum(tf.square(tf.sub(tf.slice(output, [0, segment * LENGTH, 0], [2, LENGTH, DIM]), 0.3)))),
        );
        return tf.addN(parts);
      });
      expectSameLoss((await direct.data())[0]!, full.loss);
      direct.dispose();
      for (const checkpointEvery of [1, 2, 3]) expectSame(await host(layer, x, segments, { weights, checkpointEvery }), full);
      x.dispose();
    }
    layer.dispose();
  });

  it('truncation: of one segment each trains alone, of as many as there are it is none', async () => {
    const layer = LAYERS.memformer!();
    const x = random(3 * LENGTH);
    const full = await host(layer, x, 3);
    expectSame(await host(layer, x, 3, { detachEvery: 3 }), full);
    const alone = await host(layer, x, 3, { detachEvery: 1, checkpointEvery: 3 });
    expect(relativeError64(alone.gradients['writer.slotBias']!, full.gradients['writer.slotBias']!)).toBeGreaterThan(1e-3);
    // what a segment writes is read in later ones alone, so nothing trains the writer
    expect(alone.gradients['writer.attention.value.weight']).toBeUndefined();
    expect(Math.max(...full.gradients['writer.attention.value.weight']!.map(Math.abs))).toBeGreaterThan(1e-3);
    x.dispose();
    layer.dispose();
  });

  it('detached state tensors are cut, others not; a clip changes gradients only', async () => {
    const layer = LAYERS['recurrent memory']!();
    const x = random(4 * LENGTH);
    const full = await host(layer, x, 4);
    const cut = await host(layer, x, 4, { detached: (name) => name === 'memory' });
    expectSameLoss(cut.loss, full.loss);
    expect(relativeError64(cut.gradients.firstMemory!, full.gradients.firstMemory!)).toBeGreaterThan(1e-3);
    // at whole segments nothing but the memory connects them
    expectSame(cut, await host(layer, x, 4, { detachEvery: 1 }));
    expectSame(await host(layer, x, 4, { detached: (name) => name.startsWith('stack.') }), full);
    expectSame(await host(layer, x, 4, { clipState: 1e6 }), full);
    const clipped = await host(layer, x, 4, { clipState: 1e-3 });
    expectSameLoss(clipped.loss, full.loss);
    expect(relativeError64(clipped.gradients.firstMemory!, full.gradients.firstMemory!)).toBeGreaterThan(1e-3);
    x.dispose();
    layer.dispose();
  });

  it('the gradient of the first state is that of plain back-propagation', async () => {
    const layer = LAYERS.memformer!();
    const [before, x] = [random(LENGTH, 7), random(3 * LENGTH)];
    const { output, state } = layer.forward(before);
    const options = { parameters: new Map(), segments: 3, state };
    const results = [1, 3].map((checkpointEvery) => replayBackward(steps(layer, x), { ...options, checkpointEvery }));
    const [a, b] = results.map(({ stateGradients }) => stateGradients.get('memory')!) as [tf.Tensor, tf.Tensor];
    const values = await b.data();
    expect(Math.max(...values.map(Math.abs))).toBeGreaterThan(1e-3);
    expect(relativeError64(await a.data(), values)).toBeLessThan(1e-4);
    results.forEach(dispose);
    disposeState(state);
    tf.dispose([before, x, output]);
    layer.dispose();
  });

  it('keeps the activations of one segment alive, however many there are; each segment runs twice but the last', async () => {
    const layer = LAYERS.memformer!();
    const peak = async (segments: number, checkpointEvery: number): Promise<number> => {
      const x = random(16 * LENGTH);
      const state = layer.initialState(2);
      const base = tf.memory().numBytes;
      const { peakBytes } = await tf.profile(() => {
        dispose(replayBackward(steps(layer, x), { parameters: layer.namedParameters(), segments, state, checkpointEvery }));
        return [];
      });
      disposeState(state);
      x.dispose();
      return peakBytes - base;
    };
    const stateBytes = layer.stateBytes(2, LENGTH);
    const replay = [await peak(4, 1), await peak(16, 1)] as const;
    const plain = [await peak(4, 4), await peak(16, 16)] as const;
    process.stdout.write(`memory replay on ${backend}: peak ${replay.join(', ')} bytes over 4, 16 segments; plain ${plain.join(', ')}\n`);
    // what grows with the segments is the stored states, and a loss each
    expect(replay[1] - replay[0]).toBeLessThanOrEqual(12 * (stateBytes + 4));
    expect(plain[1]).toBeGreaterThan(3 * plain[0]);
    expect(plain[1]).toBeGreaterThan(5 * replay[1]);
    const count = { runs: 0 };
    const [x, state] = [random(6 * LENGTH), layer.initialState(2)];
    dispose(replayBackward(steps(layer, x, count), { parameters: layer.namedParameters(), segments: 6, state }));
    expect(count.runs).toBe(11);
    disposeState(state);
    x.dispose();
    layer.dispose();
  });

  it('leaves nothing behind, also when a segment throws in either pass', () => {
    const layer = LAYERS.memformer!();
    const [x, state] = [random(4 * LENGTH), layer.initialState(2)];
    const before = tf.memory().numTensors;
    const run = (thrower: (calls: number) => boolean): void => {
      let calls = 0;
      const step = steps(layer, x);
      const options = { parameters: layer.namedParameters(), segments: 4, state };
      dispose(
        replayBackward((segment, held) => {
          if (thrower(calls++)) throw new Error('no');
          return step(segment, held);
        }, options),
      );
    };
    run(() => false);
    expect(tf.memory().numTensors).toBe(before);
    // three segments run in the first pass, four in the second
    for (const bad of [0, 2, 3, 5, 6]) {
      expect(() => run((calls) => calls === bad)).toThrow('no');
      expect(tf.memory().numTensors).toBe(before);
    }
    disposeState(state);
    x.dispose();
    layer.dispose();
  });

  it('a stream with rows that start anew gives what its documents give apart', async () => {
    for (const build of Object.values(LAYERS)) {
      const layer = build();
      // the first row ends a document after six tokens, the second goes on
      const [x, next] = [random(6), random(5, 6)];
      const first = layer.forward(x);
      const reset = resetRows(first.state, [true, false]);
      const second = layer.forward(next, { state: reset });
      const row = (tensor: tf.Tensor, at: number): tf.Tensor => tf.slice(tensor, [at, 0, 0], [1, -1, -1]);
      const alone = tf.tidy(() => {
        const fresh = layer.forward(row(next, 0)).output;
        const before = layer.forward(row(x, 1));
        return tf.concat([fresh, layer.forward(row(next, 1), { state: before.state }).output], 0);
      });
      expect(relativeError64(await second.output.data(), await alone.data())).toBeLessThan(1e-5);
      for (const state of [first.state, reset, second.state]) disposeState(state);
      tf.dispose([x, next, first.output, second.output, alone]);
      layer.dispose();
    }
  });

  it('a detached state has its numbers and no gradient', async () => {
    const layer = LAYERS.memformer!();
    const x = random(LENGTH);
    const through = (detach: boolean): { value: tf.Scalar; gradients: (tf.Tensor | null)[] } =>
      valueAndGradients(() => {
        const { state } = layer.forward(x);
        return tf.sum((detach ? detachState(state) : state).memory!);
      }, [x]);
    const [cut, open] = [through(true), through(false)];
    expect(await cut.value.data()).toEqual(await open.value.data());
    expect(cut.gradients).toEqual([null]);
    expect(Math.max(...(await open.gradients[0]!.data()).map(Math.abs))).toBeGreaterThan(0);
    tf.dispose([cut.value, open.value, open.gradients[0]!, x]);
    layer.dispose();
  });
});

describe('bad options', () => {
  it('are refused before any work', () => {
    const none = { parameters: new Map(), segments: 2, state: {} as State };
    const step = (): never => {
      throw new Error('ran');
    };
    expect(() => replayBackward(step, { ...none, segments: 0 })).toThrow(/replayBackward: segments must be/);
    expect(() => replayBackward(step, { ...none, checkpointEvery: 0.5 })).toThrow(/checkpointEvery must be/);
    expect(() => replayBackward(step, { ...none, detachEvery: 0 })).toThrow(/detachEvery must be/);
    expect(() => replayBackward(step, { ...none, checkpointEvery: 2, detached: () => true })).toThrow(/detached must be/);
    expect(() => replayBackward(step, { ...none, clipState: 0 })).toThrow(/clipState must be/);
    expect(() => replayBackward(step, { ...none, weights: [1] })).toThrow(/weights must be/);
    expect(() => segmentsAt(0, [])).toThrow(/stages must be/);
  });
});

it('a curriculum goes from stage to stage and stays in the last', () => {
  const stages = [
    { segments: 1, steps: 10 },
    { segments: 2, steps: 5 },
    { segments: 4, steps: 5 },
  ];
  expect([0, 9, 10, 14, 15, 19, 20, 1000].map((step) => segmentsAt(step, stages))).toEqual([1, 1, 2, 2, 4, 4, 4, 4]);
});
