import { adamWStep, deferParameters, setupBackend, tidy, valueAndGradients } from '@seqloom/core';
import { countTensors, expectNoLeak, gradientFaults, leakFault, relativeError64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { MixtureOfExperts } from './layer.ts';
import type { MixtureOfExpertsConfig } from './layer.ts';
import { routeToExperts } from './moe-channel-mixers.ts';
import { naiveBalance } from './naive.ts';

const small: MixtureOfExpertsConfig = { dim: 4, experts: 5, topK: 2, hidden: 3, seed: 3 };
const full: MixtureOfExpertsConfig = {
  ...small,
  experts: 6,
  score: 'sigmoid',
  selectionBias: true,
  groups: 3,
  groupTopK: 2,
  scale: 2.5,
  shared: { hidden: 3, gate: true },
  auxiliary: { loadBalance: 0.5, zLoss: 0.25, sequence: 0.125 },
};
const input = (shape: [number, number, number], seed = 5): tf.Tensor3D => tf.randomNormal(shape, 0, 1, 'float32', seed);

/** A layer whose router tells experts apart: at its own start all scores are nearly equal. */
function decided(config: MixtureOfExpertsConfig): MixtureOfExperts {
  const layer = new MixtureOfExperts(config);
  tf.tidy(() => layer.router.weight.assign(tf.mul(layer.router.weight.value, 50)));
  return layer;
}

/** The losses of a call by name, the caller's. */
function lossesOf(layer: MixtureOfExperts, x: tf.Tensor3D, valid: tf.Tensor2D | null = null): Record<string, tf.Scalar> {
  const found: Record<string, tf.Scalar> = {};
  tf.dispose(layer.forward(x, { training: true, valid, losses: { add: (name, value) => void (found[name] = value) } }));
  return found;
}

const numbers = async (tensors: Record<string, tf.Tensor>): Promise<Record<string, number>> => {
  const entries = await Promise.all(Object.entries(tensors).map(async ([name, tensor]) => [name, (await tensor.data())[0]!] as const));
  tf.dispose(tensors);
  return Object.fromEntries(entries);
};

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it('law 4 and 6: a token sees itself alone, so order, other rows and padding change nothing', async () => {
    const layer = decided(full);
    const x = input([2, 5, 4]);
    const whole = layer.forward(x);
    const values = await whole.data();
    const turned = tidy(() => tf.reverse(layer.forward(tf.reverse(x, [0, 1]) as tf.Tensor3D), [0, 1]));
    expect(relativeError64(await turned.data(), values)).toBeLessThan(1e-6);
    const alone = tidy(() => layer.forward(tf.slice(x, [1, 2, 0], [1, 1, 4]) as tf.Tensor3D));
    expect(relativeError64(await alone.data(), values.slice(28, 32))).toBeLessThan(1e-6);
    const kept = tidy(() => {
      const valid = tf.concat([tf.ones([2, 5]), tf.zeros([2, 1])], 1) as tf.Tensor2D;
      const padded = layer.forward(tf.concat([x, tf.fill([2, 1, 4], 1e38)], 1) as tf.Tensor3D, { valid });
      return tf.slice(padded, [0, 0, 0], [2, 5, 4]);
    });
    expect(relativeError64(await kept.data(), values)).toBeLessThan(1e-6);
    tf.dispose([x, whole, turned, alone, kept]);
    layer.dispose();
  });

  it.each([
    ['softmax', { ...small, renormalise: false, activation: 'gelu' }],
    ['sigmoid, groups, bias, shared expert and losses', full],
  ] as const)('law 5: gradients equal finite differences while the choice stays, %s', async (_name, config) => {
    const layer = decided(config);
    const x = input([2, 3, 4], 2);
    const movables = [
      { label: 'x', tensor: x, parameter: false },
      ...[...layer.namedParameters()]
        .filter(([, { trainable }]) => trainable)
        .map(([label, { value }]) => ({ label, tensor: value, parameter: true })),
    ];
    const work = (swap: (tensor: tf.Tensor) => tf.Tensor): tf.Tensor[] => {
      const losses: tf.Scalar[] = [];
      const output = layer.forward(swap(x) as tf.Tensor3D, { losses: { add: (_loss, value) => void losses.push(value) } });
      return [output, ...losses];
    };
    const faults = await gradientFaults(work, movables, { step: 1e-3 });
    expect(faults.filter((fault) => fault !== null)).toEqual([]);
    x.dispose();
    layer.dispose();
  });

  it('law 8: nothing leaks, whatever the call', async () => {
    await expectNoLeak(() => {
      const layer = new MixtureOfExperts({ ...full, capacity: 1 });
      const x = input([1, 4, 4]);
      const valid = tf.tensor2d([[1, 1, 1, 0]]);
      const before = countTensors();
      layer.forward(x).dispose();
      layer.forward(x, { training: true, valid }).dispose();
      tf.dispose(lossesOf(layer, x, valid));
      layer.rebalance(0.01);
      expect(leakFault(before, 'forward')).toBeNull();
      const by = layer
        .parameters()
        .filter(({ trainable }) => trainable)
        .map(({ value }) => value);
      const { value, gradients } = valueAndGradients(() => tf.sum(tf.square(layer.forward(x, { training: true }))), by);
      expect(gradients.every((gradient) => gradient !== null)).toBe(true);
      tf.dispose([value, ...(gradients as tf.Tensor[])]);
      expect(leakFault(before, 'backward')).toBeNull();
      tf.dispose([x, valid]);
      layer.dispose();
    }, 'a layer');
  });

  it('of equal scores the lower expert goes first, with a bias and within groups too', async () => {
    const logits = tf.zeros([2, 6]) as tf.Tensor2D;
    const chosen = async (options: object, bias: number[] | null = null): Promise<number[]> => {
      const routing = tidy(() => routeToExperts({ logits, selectionBias: bias && tf.tensor1d(bias) }, { topK: 3, ...options }));
      const ids = await routing.experts.data();
      tf.dispose({ ...routing });
      expect(ids.slice(0, 3)).toEqual(ids.slice(3));
      return [...ids.slice(0, 3)];
    };
    expect(await chosen({})).toEqual([0, 1, 2]);
    expect(await chosen({ score: 'sigmoid' }, [0, 0, 0, 0, 1, 1])).toEqual([4, 5, 0]);
    expect(await chosen({ groups: 3, groupTopK: 2 }, [0, 0, 0, 0, 1, 0])).toEqual([4, 0, 1]);
    logits.dispose();
  });

  it.each([
    ['with a bias a group is worth its two best', [0.1, 0.2, 0.3, 0], [4, 5]],
    ['without, its best', null, [0, 1]],
  ] as const)('%s', async (_name, bias, wanted) => {
    // groups of two: the best expert is in the first, the best pair in the third
    const logits = tf.tensor2d([[2, -9, 0, 0, 1.5, 1.5]]);
    const selectionBias = bias && tf.zeros([6]);
    const { experts, weights, scores } = routeToExperts({ logits, selectionBias }, { topK: 2, score: 'sigmoid', groups: 3, groupTopK: 1 });
    expect([...(await experts.data())]).toEqual([...wanted]);
    tf.dispose([logits, experts, weights, scores]);
    selectionBias?.dispose();
  });

  it('padding that overflows leaves outputs, losses and gradients of the tokens alone', async () => {
    const layer = decided({ ...full, shared: null });
    const x = input([2, 3, 4]);
    const by = [layer.router.weight.value, layer.gate.value, layer.down.value];
    const work = (padded: boolean): tf.Tensor[] => {
      const valid = padded ? (tf.tidy(() => tf.concat([tf.ones([2, 3]), tf.zeros([2, 1])], 1)) as tf.Tensor2D) : null;
      const rows = padded ? (tf.tidy(() => tf.concat([x, tf.fill([2, 1, 4], 3e38)], 1)) as tf.Tensor3D) : x;
      const { value, gradients } = valueAndGradients(() => {
        const losses: tf.Scalar[] = [];
        const output = layer.forward(rows, { training: true, valid, losses: { add: (_name, loss) => void losses.push(loss) } });
        return tf.addN([tf.sum(tf.square(tf.slice(output, [0, 0, 0], [2, 3, 4]))), ...losses]);
      }, by);
      tf.dispose(valid ? [valid, rows] : []);
      return [value, ...(gradients as tf.Tensor[])];
    };
    const [plain, padded] = [work(false), work(true)];
    for (const [place, tensor] of padded.entries())
      expect(relativeError64(await tensor.data(), await plain[place]!.data())).toBeLessThan(1e-5);
    tf.dispose([x, ...plain, ...padded]);
    layer.dispose();
  });

  it('an expert that nobody chose does not compute: its matrices may hold anything', async () => {
    const layer = decided({ ...small, selectionBias: true });
    const x = input([1, 6, 4]);
    tf.tidy(() => layer.selectionBias!.assign(tf.tensor1d([0, 0, -100, 0, 0])));
    const before = layer.forward(x);
    tf.tidy(() => {
      const poison = tf.reshape(tf.tensor1d([0, 0, Number.NaN, 0, 0]), [5, 1, 1]);
      for (const parameter of [layer.gate, layer.up, layer.down]) parameter.assign(tf.add(parameter.value, poison));
    });
    const after = layer.forward(x);
    expect(await after.data()).toEqual(await before.data());
    tf.dispose([x, before, after]);
    layer.dispose();
  });

  it.each([
    ['softmax', small],
    ['sigmoid with groups and bias', full],
  ] as const)('its losses are those of the specification, and padding does not count, %s', async (_name, config) => {
    const auxiliary = { loadBalance: 0.5, zLoss: 0.25, sequence: 0.125 };
    const layer = decided({ ...config, auxiliary });
    const { experts, topK, score, groups, groupTopK = groups, renormalise, scale } = layer.config;
    const bias = layer.selectionBias ? Float64Array.from({ length: experts }, (_, e) => 0.05 * e) : null;
    if (bias) tf.tidy(() => layer.selectionBias!.assign(tf.tensor1d(Float32Array.from(bias))));
    const x = input([2, 7, 4], 8);
    const lengths = [7, 4];
    const logits = tidy(() => layer.router.forward(x));
    const rows = await logits.data();
    const sequences = lengths.map((length, b) =>
      Array.from({ length }, (_, t) => Float64Array.from(rows.slice((7 * b + t) * experts, (7 * b + t + 1) * experts))),
    );
    const wanted = naiveBalance(sequences, bias, { topK, score, groups, groupTopK, renormalise, scale });
    const valid = tf.tensor2d(lengths.map((length) => Array.from({ length: 7 }, (_, t) => (t < length ? 1 : 0))));
    const given = await numbers(lossesOf(layer, x, valid));
    expect(given['loadBalance']).toBeCloseTo(0.5 * wanted.loadBalance, 5);
    expect(given['sequence']).toBeCloseTo(0.125 * wanted.sequence, 5);
    expect(given['zLoss']! / (0.25 * wanted.zLoss)).toBeCloseTo(1, 5);
    tf.dispose([x, logits, valid]);
    layer.dispose();
  });

  it('at even scores the load balance is k and the balance of a sequence 1; losses without a coefficient are left out', async () => {
    const layer = new MixtureOfExperts({ ...small, auxiliary: { loadBalance: 1, sequence: 1 } });
    tf.tidy(() => layer.router.weight.assign(tf.zeros([4, 5])));
    const x = input([2, 3, 4]);
    const losses = await numbers(lossesOf(layer, x));
    expect(Object.keys(losses)).toEqual(['loadBalance', 'sequence']);
    expect(losses['loadBalance']).toBeCloseTo(2, 5);
    expect(losses['sequence']).toBeCloseTo(1, 5);
    x.dispose();
    layer.dispose();
  });

  it('loads are counted in training alone, over several calls, without padding, and rebalance moves the bias by their sign', async () => {
    const layer = decided({ ...small, experts: 4, topK: 2, selectionBias: true });
    const bias = layer.selectionBias!;
    const x = input([2, 5, 4]);
    const valid = tf.tensor2d([
      [1, 1, 1, 1, 1],
      [1, 1, 0, 0, 0],
    ]);
    layer.forward(x).dispose();
    expect([...(await bias.loads.value.data())]).toEqual([0, 0, 0, 0]);
    layer.forward(x, { training: true }).dispose();
    layer.forward(x, { training: true, valid }).dispose();
    const loads = [...(await bias.loads.value.data())];
    expect(loads.reduce((a, b) => a + b)).toBe(2 * (10 + 7));
    layer.rebalance(0.25);
    expect([...(await bias.value.data())]).toEqual(loads.map((load) => 0.25 * Math.sign(8.5 - load)));
    expect([...(await bias.loads.value.data())]).toEqual([0, 0, 0, 0]);
    tf.dispose([x, valid]);
    layer.dispose();
  });

  it('loads become even on a stream that favours some experts', async () => {
    const experts = 8;
    const layer = new MixtureOfExperts({ dim: 4, experts, topK: 2, hidden: 2, score: 'sigmoid', selectionBias: true, seed: 1 });
    tf.tidy(() => layer.router.weight.assign(tf.randomNormal([4, experts], 0, 1, 'float32', 2)));
    const batch = (seed: number): tf.Tensor3D => tidy(() => tf.add(input([4, 64, 4], seed), tf.tensor1d([1, 0.5, 0, 0])) as tf.Tensor3D);
    const loadsOf = async (seed: number): Promise<number[]> => {
      const x = batch(seed);
      layer.forward(x, { training: true }).dispose();
      x.dispose();
      return [...(await layer.selectionBias!.loads.value.data())];
    };
    // the most over the mean, as Loss-Free Balancing reports it
    const excess = (loads: number[]): number => (Math.max(...loads) * experts) / loads.reduce((a, b) => a + b) - 1;
    const before = excess(await loadsOf(1000));
    const tensors = tf.memory().numTensors;
    for (let step = 0; step < 150; step++) {
      layer.rebalance(0.01);
      await loadsOf(step);
    }
    expect(tf.memory().numTensors).toBe(tensors);
    // over many unseen tokens, since 64 per expert vary by an eighth
    layer.rebalance(0);
    let loads: number[] = [];
    for (let step = 0; step < 12; step++) loads = await loadsOf(2000 + step);
    const after = excess(loads);
    expect(before).toBeGreaterThan(0.5);
    expect(after).toBeLessThan(0.15);
    layer.dispose();
  });

  it('with a capacity the tokens that come last go without: one expert of one and room for half', async () => {
    const layer = new MixtureOfExperts({ ...small, experts: 1, topK: 1, capacity: 0.5 });
    const x = input([1, 5, 4]);
    const [some, all] = [layer.forward(x), new MixtureOfExperts({ ...small, experts: 1, topK: 1 }).forward(x)];
    const [given, wanted] = [await some.data(), await all.data()];
    // ceil(0.5 * 5) = 3
    expect(relativeError64(given.slice(0, 12), wanted.slice(0, 12))).toBeLessThan(1e-6);
    expect([...given.slice(12)].every((value) => value === 0)).toBe(true);
    tf.dispose([x, some, all]);
    layer.dispose();
  });

  it('padding takes no places', async () => {
    const layer = new MixtureOfExperts({ ...small, experts: 1, topK: 1, capacity: 0.5 });
    const x = input([2, 2, 4]);
    const valid = tf.tensor2d([
      [0, 0],
      [1, 1],
    ]);
    const output = layer.forward(x, { valid });
    const values = await output.data();
    expect([...values.slice(0, 8)].every((value) => value === 0)).toBe(true);
    expect([...values.slice(8)].every((value) => value !== 0)).toBe(true);
    tf.dispose([x, valid, output]);
    layer.dispose();
  });

  it('learns a function of its tokens, with a balance loss beside that of the task', async () => {
    const layer = new MixtureOfExperts({ dim: 2, experts: 4, topK: 1, hidden: 8, renormalise: false, auxiliary: { loadBalance: 0.01 } });
    const x = input([1, 64, 2], 4);
    const target = tidy(() => tf.abs(x));
    const parameters = layer.parameters();
    const moments = parameters.map(({ shape }) => ({ firstMoment: tf.zeros([...shape]), secondMoment: tf.zeros([...shape]) }));
    const losses: number[] = [];
    for (let step = 1; step <= 60; step++) {
      const { value, gradients } = valueAndGradients(
        () => {
          const extra: tf.Scalar[] = [];
          const sink = { add: (_name: string, loss: tf.Scalar) => void extra.push(loss) };
          const output = layer.forward(x, { training: true, losses: sink });
          return tf.add(tf.mean(tf.square(tf.sub(output, target))), extra[0]!);
        },
        parameters.map((parameter) => parameter.value),
      );
      losses.push((await value.data())[0]!);
      parameters.forEach((parameter, i) => {
        const next = adamWStep({ parameter: parameter.value, gradient: gradients[i]!, ...moments[i]! }, { learningRate: 0.03, step });
        parameter.assign(next.parameter);
        tf.dispose([moments[i]!.firstMoment, moments[i]!.secondMoment, next.parameter]);
        moments[i] = { firstMoment: next.firstMoment, secondMoment: next.secondMoment };
      });
      tf.dispose([value, ...(gradients as tf.Tensor[])]);
    }
    expect(losses.at(-1)!).toBeLessThan(0.2 * losses[0]!);
    tf.dispose([x, target, moments.map((moment) => [moment.firstMoment, moment.secondMoment])]);
    layer.dispose();
  });
});

describe('the layer', () => {
  it('names its parameters, keeps the bias out of training and the loads out of checkpoints', async () => {
    const layer = new MixtureOfExperts(full);
    const shapes = Object.fromEntries([...layer.namedParameters()].map(([name, { shape }]) => [name, shape]));
    expect(shapes).toEqual({
      'router.weight': [4, 6],
      selectionBias: [6],
      gate: [6, 4, 3],
      up: [6, 4, 3],
      down: [6, 3, 4],
      'shared.up.weight': [4, 3],
      'shared.gate.weight': [4, 3],
      'shared.down.weight': [3, 4],
      'sharedGate.weight': [4, 1],
    });
    expect(layer.selectionBias).toMatchObject({ trainable: false, decay: false });
    expect(layer.selectionBias!.value.dtype).toBe('float32');
    const weights = await layer.stateDict();
    const other = new MixtureOfExperts({ ...full, seed: 9 });
    other.loadStateDict(weights);
    const x = input([1, 3, 4]);
    const [a, b] = [layer.forward(x), other.forward(x)];
    expect(await a.data()).toEqual(await b.data());
    tf.dispose([x, a, b]);
    layer.dispose();
    other.dispose();
  });

  // published sizes: 256 experts of 2048 beside a shared one at a width of 7168
  it('counts the parameters of a layer of DeepSeek-V3 without holding them', () => {
    const before = tf.memory().numTensors;
    const layer = deferParameters(
      () =>
        new MixtureOfExperts({
          dim: 7168,
          experts: 256,
          topK: 8,
          hidden: 2048,
          score: 'sigmoid',
          selectionBias: true,
          groups: 8,
          groupTopK: 4,
          scale: 2.5,
          shared: { hidden: 2048 },
        }),
    );
    expect(layer.countParameters()).toBe(256 * 7168 + 256 + 257 * 3 * 7168 * 2048);
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each([
    ['config.topK', { topK: 6 }],
    ['config.topK', { experts: 6, groups: 3, groupTopK: 1, topK: 3 }],
    ['config.groups', { groups: 2 }],
    ['config.groupTopK', { groups: 5, groupTopK: 6 }],
    ['config.capacity', { capacity: 0 }],
    ['config.shared.hidden', { shared: { hidden: 0 } }],
    ['config.auxiliary.zLoss', { auxiliary: { zLoss: -1 } }],
    ['config.expert', { expert: 2 }],
  ])('refuses %s in %j', (argument, changes) => {
    expect(() => new MixtureOfExperts({ ...small, ...changes } as never)).toThrow(`moe-channel-mixers: ${argument} must be`);
  });

  it('refuses an input of another width, and to rebalance without a bias', () => {
    const layer = new MixtureOfExperts(small);
    expect(() => tf.tidy(() => layer.forward(tf.zeros([1, 2, 3])))).toThrow('moe-channel-mixers: x must be');
    expect(() => layer.rebalance()).toThrow('moe-channel-mixers: rebalance must be');
    layer.dispose();
  });
});
