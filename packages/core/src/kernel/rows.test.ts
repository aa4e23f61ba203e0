import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { array64, checkKernelParity, naiveGatherRows, naiveScatterAddRows, uniform64 } from '@seqloom/testing';
import { gatherRows, scatterAddRows } from './rows.ts';
import type { GatherRowsInputs, ScatterAddRowsInputs } from './rows.ts';

describe.each(['cpu', 'wasm'])('rows on %s', (backend) => {
  it.each([[[2, 3]], [[7]], [[1]], [[]], [[2, 0]], [[2, 2, 2]]])(
    'gathers for indices of shape %j and differentiates by the table',
    async (shape) => {
      const count = shape.reduce((product, extent) => product * extent, 1);
      await checkKernelParity(backend, {
        inputs: {
          table: uniform64([5, 3], 1),
          indices: array64(
            shape,
            Array.from({ length: count }, (_, place) => [4, 0, 4, 2, 4, 0, 2, 4][place]!),
          ),
        },
        integers: ['indices'],
        run: (inputs) => ({ rows: gatherRows(inputs as GatherRowsInputs) }),
        oracle: (inputs) => naiveGatherRows(inputs as never),
        differentiate: ['table'],
        outputTolerance: 1e-12,
        gradientTolerance: 1e-6,
      });
    },
  );

  it.each([[[3, 1, 3, 3, 0]], [[2]], [[]]])('adds up rows at %j, duplicates included', async (indices) => {
    await checkKernelParity(backend, {
      inputs: { rows: uniform64([indices.length, 4], 2), indices: array64([indices.length], indices) },
      integers: ['indices'],
      run: (inputs) => ({ table: scatterAddRows(inputs as ScatterAddRowsInputs, { rowCount: 6 }) }),
      oracle: (inputs) => naiveScatterAddRows(inputs as never, { rowCount: 6 }),
      differentiate: ['rows'],
      outputTolerance: 1e-6,
      gradientTolerance: 1e-6,
    });
  });

  it('trains an embedding: steepest descent pulls the rows that are read to their targets', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    const indices = tf.tensor1d([1, 3, 3], 'int32');
    const target = tf.tensor2d([1, 2, 3, 4, 3, 4], [3, 2]);
    let table: tf.Tensor = tf.zeros([4, 2]);
    for (let step = 0; step < 60; step++) {
      const next = tf.tidy(() => {
        const residual = tf.sub(gatherRows({ table, indices }), target);
        const [gradient] = tf.grads((moving) => gatherRows({ table: moving!, indices }))([table], residual);
        return tf.sub(table, tf.mul(gradient!, 0.25));
      });
      table.dispose();
      table = next;
    }
    const values = Array.from(await table.data());
    const wanted = [0, 0, 1, 2, 0, 0, 3, 4];
    values.forEach((value, place) => expect(value).toBeCloseTo(wanted[place]!, 5));
    tf.dispose([indices, target, table]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('refuses indices out of range and leaves nothing behind', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    const table = tf.ones([3, 2]);
    const indices = tf.tensor1d([0, 3], 'int32');
    expect(() => gatherRows({ table, indices })).toThrow('gather-rows: indices must be from 0 to 2 everywhere; got 3 at place 1.');
    const rows = tf.ones([2, 2]);
    expect(() => scatterAddRows({ rows, indices }, { rowCount: 2 })).toThrow(/scatter-add-rows: indices/);
    tf.dispose([table, indices, rows]);
    expect(tf.memory().numTensors).toBe(before);
  });
});

describe('the doors of rows', () => {
  it.each([
    ['float indices', () => gatherRows({ table: tf.ones([2, 2]), indices: tf.ones([2]) })],
    ['a table of rank 1', () => gatherRows({ table: tf.ones([2]), indices: tf.tensor1d([0], 'int32') })],
    ['no indices', () => gatherRows({ table: tf.ones([2, 2]), indices: undefined as never })],
    ['a negative index', () => gatherRows({ table: tf.ones([2, 2]), indices: tf.tensor1d([-1], 'int32') })],
    ['a row count of 0', () => scatterAddRows({ rows: tf.ones([1, 2]), indices: tf.tensor1d([0], 'int32') }, { rowCount: 0 })],
    ['too few indices', () => scatterAddRows({ rows: tf.ones([2, 2]), indices: tf.tensor1d([0], 'int32') }, { rowCount: 2 })],
  ])('refuse %s', (_what, call) => {
    expect(() => tf.tidy(call)).toThrow(/^(gather|scatter-add)-rows: .* must be .*; got .*\. /);
  });
});
