import { disposeState, setupBackend } from '@seqloom/core';
import { gradientFaults, opTensor, relativeError64, uniform64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { BasedTaylor } from '../based-taylor/layer.ts';
import { PrefixLinearAttention } from './layer.ts';

const MOST = 4;
const build = (prefixLength = MOST): PrefixLinearAttention =>
  new PrefixLinearAttention({ dim: 8, heads: 2, featureDim: 3, seed: 5, prefixLength });

const piece = (x: tf.Tensor, from: number, to: number): tf.Tensor => tf.slice(x, [0, from, 0], [x.shape[0]!, to - from, 8]);

async function expectClose(given: tf.Tensor, wanted: tf.Tensor): Promise<void> {
  expect(given.shape).toEqual(wanted.shape);
  expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
}

describe.each(['cpu', 'wasm'] as const)('prefix linear attention on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each([
    [4, 7],
    [5, 6],
    [4, 1, 1, 1, 1, 1, 1, 1],
    [10, 1],
  ])('pieces after the prefix continue from the state: %j', async (...sizes) => {
    const before = tf.memory().numTensors;
    const layer = build();
    const x = opTensor(uniform64([2, 11, 8], 1, -1, 1));
    const whole = layer.forward(x);
    let state: typeof whole.state | undefined;
    let from = 0;
    for (const size of sizes) {
      const part = piece(x, from, from + size);
      const next = layer.forward(part, state ? { state } : {});
      const wanted = piece(whole.output, from, from + size);
      await expectClose(next.output, wanted);
      tf.dispose([part, wanted, next.output]);
      if (state) disposeState(state);
      state = next.state;
      from += size;
    }
    await expectClose(state!.memory!, whole.state.memory!);
    await expectClose(state!.position, whole.state.position);
    tf.dispose([x, whole.output, { ...whole.state }, { ...state! }]);
    layer.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('tokens of the prefix see all of it and nothing after it, tokens after it see no later one', async () => {
    const layer = build();
    const values = uniform64([1, 9, 8], 2, -1, 1);
    const outputs = async (changed: number | null): Promise<number[][]> => {
      const data = Float64Array.from(values.data);
      if (changed !== null) for (let d = 0; d < 8; d++) data[changed * 8 + d]! += 1;
      const x = opTensor({ shape: values.shape, data });
      const { output, state } = layer.forward(x);
      const rows = (await output.array()) as number[][][];
      tf.dispose([x, output, { ...state }]);
      return rows[0]!;
    };
    const base = await outputs(null);
    for (let changed = 0; changed < 9; changed++) {
      const after = await outputs(changed);
      for (let i = 0; i < 9; i++) {
        const difference = Math.max(...after[i]!.map((value, d) => Math.abs(value - base[i]![d]!)));
        if (changed < MOST || i >= changed) expect(difference, `token ${i} sees ${changed}`).toBeGreaterThan(1e-4);
        else expect(difference, `token ${i} does not see ${changed}`).toBe(0);
      }
    }
    layer.dispose();
  });

  it('rows have prefixes of their own length when the prefixes are given first, with a mask', async () => {
    const layer = build();
    const x = opTensor(uniform64([2, 9, 8], 3, -1, 1));
    const lengths = [4, 2];
    // row 1: two tokens of the prefix, padding on the left
    const mask = tf.tensor2d([1, 1, 1, 1, 0, 0, 1, 1], [2, 4]);
    const [first, rest] = [piece(x, 0, 4), piece(x, 4, 9)];
    const prefixes = layer.forward(first, { mask });
    const together = layer.forward(rest, { state: prefixes.state });
    for (const [row, length] of lengths.entries()) {
      const [own, later] = tf.tidy(() => [
        tf.slice(first, [row, 4 - length, 0], [1, length, 8]),
        tf.slice(rest, [row, 0, 0], [1, 5, 8]),
      ]) as [tf.Tensor, tf.Tensor];
      const start = layer.forward(own);
      const alone = layer.forward(later, { state: start.state });
      const given = tf.slice(together.output, [row, 0, 0], [1, 5, 8]);
      await expectClose(given, alone.output);
      // a prompt that is shorter than the longest prefix is the prefix, whatever is generated after it
      const longer = tf.concat([own, later], 1);
      const once = layer.forward(longer);
      if (length < MOST) {
        const other = await once.output.data();
        expect(relativeError64(other.slice(length * 8), await alone.output.data())).toBeGreaterThan(1e-3);
      }
      tf.dispose([
        own,
        later,
        start.output,
        { ...start.state },
        alone.output,
        { ...alone.state },
        given,
        longer,
        once.output,
        { ...once.state },
      ]);
    }
    tf.dispose([x, mask, first, rest, prefixes.output, { ...prefixes.state }, together.output, { ...together.state }]);
    layer.dispose();
  });

  it.each([2, MOST, 9])('gradients of everything, those of a prefix of %d tokens too, equal central differences', async (prefixLength) => {
    const layer = build(prefixLength);
    const x = opTensor(uniform64([2, 6, 8], 6, -1, 1));
    const movables = [
      { label: 'x', tensor: x, parameter: false },
      ...[...layer.namedParameters()].map(([label, parameter]) => ({ label, tensor: parameter.value, parameter: true })),
    ];
    expect(movables.map(({ label }) => label)).toContain('prefixKey.weight');
    const faults = await gradientFaults(
      (swap) => {
        const { output, state } = layer.forward(swap(x));
        return [output, state.memory!];
      },
      movables,
      {},
    );
    expect(faults.filter((fault) => fault !== null)).toEqual([]);
    x.dispose();
    layer.dispose();
  });

  it('inputs a hundred times too large give finite outputs and states', async () => {
    const layer = build();
    const x = opTensor(uniform64([2, 9, 8], 7, -100, 100));
    const { output, state } = layer.forward(x);
    expect((await output.data()).every((value) => Number.isFinite(value))).toBe(true);
    expect((await state.memory!.data()).every((value) => Number.isFinite(value))).toBe(true);
    tf.dispose([x, output, { ...state }]);
    layer.dispose();
  });

  it('without a prefix it is the BASED layer of the same seed', async () => {
    const [layer, based] = [build(0), new BasedTaylor({ dim: 8, heads: 2, featureDim: 3, seed: 5 })];
    expect([...layer.namedParameters().keys()]).toEqual([...based.namedParameters().keys()]);
    const x = opTensor(uniform64([2, 9, 8], 4, -1, 1));
    const [given, wanted] = [layer.forward(x), based.forward(x)];
    await expectClose(given.output, wanted.output);
    await expectClose(given.state.memory!, wanted.state.memory!);
    tf.dispose([x, given.output, { ...given.state }, wanted.output, { ...wanted.state }]);
    layer.dispose();
    based.dispose();
  });
});
