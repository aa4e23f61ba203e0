import { setupBackend } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeEach, describe, expect, it } from 'vitest';
import { commitmentLoss, fittedCentroids, movedCentroids, similarities } from './clusters.ts';
import { memberCacheShapes, recentRouting } from './decode.ts';
import { clusterMembers } from './gathered.ts';
import { RoutingAttention } from './layer.ts';
import { naiveMovedCentroids, naiveRoutingAttention } from './naive.ts';
import { routingAttention } from './routing-transformer.ts';

const tensor = ({ shape, data }: Array64): tf.Tensor => tf.tensor(Float32Array.from(data), [...shape]);
const tiny = { dim: 8, heads: 2, clusters: 3, window: 3, localWindow: 4 };

describe.each(['cpu', 'wasm'] as const)('routing on %s', (backend) => {
  beforeEach(async () => {
    await setupBackend(backend);
  });

  it('every cluster holds w different tokens, whatever the similarities, and padding comes last', () => {
    tf.tidy(() => {
      const x = tf.concat([tensor(uniform64([1, 9, 2, 4], 1)), tf.ones([1, 9, 2, 4])], 0);
      const mask = tf.tensor2d([...Array.from({ length: 9 }, () => 1), ...Array.from({ length: 9 }, (_, t) => (t < 5 ? 1 : 0))], [2, 9]);
      const members = clusterMembers(x, tensor(uniform64([2, 3, 4], 2)), mask, 5).arraySync();
      for (const row of members) for (const head of row) for (const cluster of head) expect(new Set(cluster).size).toBe(5);
      // equal tokens: ties go to the lower index
      for (const head of members[1]!) for (const cluster of head) expect(cluster).toEqual([0, 1, 2, 3, 4]);
    });
  });

  it('rows with padding get what they get alone', () => {
    tf.tidy(() => {
      const [query, key, value] = [1, 2, 3].map((seed) => tensor(uniform64([2, 9, 2, 4], seed)));
      const centroids = tensor(uniform64([2, 3, 4], 4));
      const [memoryKey, memoryValue] = [5, 6].map((seed) => tensor(uniform64([2, 3, 1, 4], seed)));
      const inputs = { query: query!, key: key!, value: value!, centroids, memoryKey, memoryValue };
      const mask = tf.tensor2d([...Array.from({ length: 9 }, () => 1), ...Array.from({ length: 9 }, (_, t) => (t < 6 ? 1 : 0))], [2, 9]);
      const cut = (x: tf.Tensor): tf.Tensor => tf.slice(x, [1, 0, 0, 0], [1, 6, 2, 4]);
      const own = { ...inputs, query: cut(inputs.query), key: cut(inputs.key), value: cut(inputs.value) };
      for (const form of ['gathered', 'parallel'] as const)
        for (const options of [{ causal: true }, { sharedQueryKey: true }, {}]) {
          const all = cut(routingAttention(inputs, { window: 4, mask, form, ...options }).output).dataSync();
          const alone = routingAttention(own, { window: 4, form, ...options }).output.dataSync();
          expect(relativeError64(all, alone)).toBeLessThan(1e-6);
        }
    });
  });

  it('another sequence of keys equals the specification', () => {
    tf.tidy(() => {
      const arrays = {
        query: uniform64([2, 7, 2, 4], 1),
        key: uniform64([2, 11, 2, 4], 2),
        value: uniform64([2, 11, 2, 3], 3),
        centroids: uniform64([2, 3, 4], 4),
      };
      const wanted = naiveRoutingAttention(arrays, { window: 4 }).output.data;
      const inputs = {
        query: tensor(arrays.query),
        key: tensor(arrays.key),
        value: tensor(arrays.value),
        centroids: tensor(arrays.centroids),
      };
      for (const form of ['gathered', 'parallel'] as const)
        expect(relativeError64(routingAttention(inputs, { window: 4, form }).output.dataSync(), wanted)).toBeLessThan(1e-5);
    });
  });

  it('the published causal form hides later values, yet a later token changes who is in a cluster', () => {
    tf.tidy(() => {
      const arrays = [1, 2, 3].map((seed) => uniform64([1, 12, 1, 4], seed));
      const centroids = tensor(uniform64([1, 3, 4], 4));
      const [memoryKey, memoryValue] = [tensor(uniform64([1, 3, 1, 4], 5)), tensor(uniform64([1, 3, 1, 4], 6))];
      const run = (changed: 'value' | 'key' | null): Float32Array => {
        const [query, key, value] = arrays.map((array, i) => {
          const hit = (changed === 'value' && i === 2) || (changed === 'key' && i === 1);
          return tensor({ shape: array.shape, data: array.data.map((v, at) => (hit && at >= 44 ? 3 - v : v)) });
        });
        const inputs = { query: query!, key: key!, value: value!, centroids, memoryKey, memoryValue };
        return routingAttention(inputs, { window: 4, causal: true }).output.dataSync().slice(0, 44) as Float32Array;
      };
      expect(run('value')).toEqual(run(null));
      expect(run('key')).not.toEqual(run(null));
    });
  });

  it('recent routing caches the last w members of each cluster, oldest first and right aligned', () => {
    const shapes = memberCacheShapes(1, { clusters: 3, window: 4, heads: 1, headDim: 4 });
    let state = { ...Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, tf.zeros(shape as number[])])), position: tf.zeros([1]) } as unknown as State; // prettier-ignore
    const centroids = tensor(uniform64([1, 3, 4], 4));
    for (let t = 0; t < 30; t++) {
      const [query, value] = [tensor(uniform64([1, 1, 1, 4], 100 + t)), tensor(uniform64([1, 1, 1, 4], 200 + t))];
      const result = recentRouting({ query, value, centroids }, state, { window: 4 });
      tf.dispose([query, value, result.output, { ...state }]);
      state = result.state;
    }
    const positions = Array.from(state['member.position']!.dataSync());
    for (const cluster of [0, 1, 2]) {
      const slots = positions.slice(4 * cluster, 4 * cluster + 4);
      expect(slots, 'oldest first, right aligned').toEqual(slots.toSorted((a, b) => a - b));
    }
    expect(Math.max(...positions)).toBe(30);
    tf.dispose([{ ...state }, centroids]);
  });

  it('a step of online k-means equals the specification, keeps empty clusters, and leaves padding out', () => {
    tf.tidy(() => {
      const points = [uniform64([2, 9, 2, 4], 1), uniform64([2, 5, 2, 4], 2)];
      // far from everything: a cluster that stays empty
      const centroids = uniform64([2, 4, 4], 3);
      for (const h of [0, 1]) for (let d = 0; d < 4; d++) centroids.data[(h * 4 + 2) * 4 + d] = 0;
      for (const point of points) point.data.forEach((v, i, data) => (data[i] = Math.abs(v) + 0.1));
      for (const h of [0, 1]) for (let d = 0; d < 4; d++) centroids.data[(h * 4 + 1) * 4 + d] = -1;
      const wanted = naiveMovedCentroids(points, centroids, 0.9).data;
      const moved = movedCentroids({ points: points.map(tensor), centroids: tensor(centroids) }, 0.9).dataSync();
      expect(relativeError64(moved, wanted)).toBeLessThan(1e-6);
      expect([...moved.slice(4, 8)].map(Math.fround)).toEqual([-1, -1, -1, -1]);
      // the last two tokens of each row are padding
      const cut = {
        shape: [2, 7, 2, 4],
        data: Float64Array.from([0, 1].flatMap((b) => [...points[0]!.data.subarray(b * 72, b * 72 + 56)])),
      };
      const mask = tf.tensor2d([0, 1].map(() => Array.from({ length: 9 }, (_, t) => (t < 7 ? 1 : 0))));
      const masked = movedCentroids({ points: [tensor(points[0]!)], centroids: tensor(centroids), masks: [mask] }, 0.5).dataSync();
      expect(relativeError64(masked, naiveMovedCentroids([cut], centroids, 0.5).data)).toBeLessThan(1e-6);
    });
  });

  it('fitted centroids find planted directions', () => {
    tf.tidy(() => {
      const planted = [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, -1, 0],
      ];
      const noise = uniform64([1, 60, 1, 4], 1, -0.05, 0.05);
      const points = tensor({ shape: noise.shape, data: noise.data.map((v, i) => v + 3 * planted[Math.floor(i / 4) % 3]![i % 4]!) });
      const best = [1, 2, 3].map((seed) => {
        const centroids = fittedCentroids([points], { clusters: 3, seed });
        const cosines = similarities(tf.reshape(tf.tensor2d(planted), [1, 3, 1, 4]), centroids).dataSync();
        return Array.from(cosines).filter((cosine) => cosine > 0.999).length;
      });
      // k-means may begin with two tokens of one direction; not with every seed
      expect(Math.max(...best)).toBe(3);
      const few = fittedCentroids([tf.slice(points, [0, 0, 0, 0], [1, 2, 1, 4])], { clusters: 5 });
      expect(few.shape).toEqual([1, 5, 4]);
      expect(few.dataSync().every(Number.isFinite)).toBe(true);
    });
  });

  it('the commitment loss pulls tokens to their centroids and leaves centroids alone', () => {
    tf.tidy(() => {
      const x = tensor(uniform64([1, 9, 2, 4], 1));
      const centroids = tensor(uniform64([2, 3, 4], 2));
      const loss = (points: tf.Tensor): tf.Scalar => commitmentLoss({ points: [points], centroids }, 1);
      const slope = tf.grad((points) => loss(points))(x);
      const before = loss(x).dataSync()[0]!;
      const after = loss(tf.sub(x, tf.mul(slope, 0.5))).dataSync()[0]!;
      expect(after).toBeLessThan(before);
    });
  });

  it('the commitment loss goes to the sink of a training call, whatever the padding holds', () => {
    const layer = new RoutingAttention({ ...tiny, commitment: 0.5, centroidDecay: 1 });
    const [start, before] = [uniform64([1, 6, 8], 1), tf.memory().numTensors];
    const lossOf = (training: boolean, padding?: number): number[] =>
      tf.tidy(() => {
        const added: number[] = [];
        const losses = { add: (_name: string, value: tf.Scalar) => void added.push(value.dataSync()[0]!) };
        const x = tensor(start);
        const padded = padding === undefined ? x : tf.concat([x, tf.fill([1, 2, 8], padding)], 1);
        const mask = padding === undefined ? {} : { mask: tf.tensor2d([[1, 1, 1, 1, 1, 1, 0, 0]]) };
        layer.forward(padded, { training, losses, ...mask });
        return added;
      });
    const [loss] = lossOf(true);
    const alone = tf.tidy(() => layer.commitmentLoss(tensor(start), 0.5).dataSync()[0]!);
    expect(loss).toBeCloseTo(alone, 6);
    expect(lossOf(true, 7)[0]).toBeCloseTo(alone, 6);
    expect(lossOf(false)).toEqual([]);
    expect(tf.memory().numTensors).toBe(before);
    layer.dispose();
  });

  it('centroids move in training alone, by what a call of moveCentroids moves them, and a checkpoint keeps them', async () => {
    const layer = new RoutingAttention({ ...tiny, centroidDecay: 0.9 });
    const x = tensor(uniform64([2, 9, 8], 1));
    const values = async (given: RoutingAttention): Promise<number[]> => [...(await given.stateDict())['centroids']!.data];
    const start = await values(layer);
    const run = (given: RoutingAttention, training: boolean): number[] =>
      tf.tidy(() => [...given.forward(x, { training }).output.dataSync()]);
    const inferred = run(layer, false);
    expect(await values(layer)).toEqual(start);
    const before = tf.memory().numTensors;
    // this call still routes by the old centroids
    expect(run(layer, true)).toEqual(inferred);
    expect(tf.memory().numTensors).toBe(before);
    const moved = await values(layer);
    expect(moved).not.toEqual(start);
    const other = new RoutingAttention({ ...tiny, centroidDecay: 0.9 });
    other.moveCentroids(x);
    expect(await values(other)).toEqual(moved);
    other.fitCentroids(x);
    const weights = await layer.stateDict();
    other.loadStateDict(weights);
    expect(run(other, false)).toEqual(run(layer, false));
    expect(layer.namedParameters().get('centroids')!.trainable).toBe(false);
    layer.dispose();
    other.dispose();
    x.dispose();
  });

  it('gradients flow while centroids move', () => {
    const layer = new RoutingAttention({ ...tiny, centroidDecay: 0.5 });
    tf.tidy(() => {
      const x = tensor(uniform64([2, 9, 8], 1));
      const grad = (training: boolean): Float32Array =>
        tf
          .grad((given) => tf.sum(tf.square(layer.forward(given, { training }).output)))(x)
          .dataSync() as Float32Array;
      const still = grad(false);
      expect(grad(true)).toEqual(still);
    });
    layer.dispose();
  });
});
