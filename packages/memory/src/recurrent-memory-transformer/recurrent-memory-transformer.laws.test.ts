import { rotaryEmbedding } from '@seqloom/attention';
import { Block, GatedConvolution, gatherRows, rmsNorm, softmaxAttention, tidy } from '@seqloom/core';
import { goldenSuite, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { RecurrentMemoryTransformer } from './layer.ts';
import { naiveRecurrentMemory } from './naive.ts';
import { recurrentMemory } from './recurrent-memory-transformer.ts';

type Cell = (rows: tf.Tensor3D) => tf.Tensor3D;

const DIM = 4;

/** A small stack: y_i = tanh(x_i W + mean of the rows that i sees). */
const meanCell =
  (weight: tf.Tensor, causal: boolean): Cell =>
  (rows) => {
    const [batch, length] = rows.shape;
    const mixed = tf.reshape(tf.matMul(tf.reshape(rows, [batch * length, DIM]), weight as tf.Tensor2D), rows.shape);
    const counts = tf.reshape(tf.range(1, length + 1, 1, 'float32'), [1, length, 1]);
    const mean = causal ? tf.div(tf.cumsum(rows, 1), counts) : tf.mean(rows, 1, true);
    return tf.tanh(tf.add(mixed, mean));
  };

const naiveMeanCell =
  (weight: Float64Array, causal: boolean) =>
  (rows: Float64Array[]): Float64Array[] =>
    rows.map((row, i) => {
      const seen = causal ? rows.slice(0, i + 1) : rows;
      return row.map((_, e) => {
        const mixed = row.reduce((sum, value, d) => sum + value * weight[d * DIM + e]!, 0);
        return Math.tanh(mixed + seen.reduce((sum, other) => sum + other[e]!, 0) / seen.length);
      });
    });

const distance = async (a: tf.Tensor, b: tf.Tensor): Promise<number> => relativeError64(await a.data(), await b.data());

/** Largest gradient of the last segment's outputs by the tokens of the first one. */
async function reach(bpttDepth: number | null): Promise<number> {
  const [input, memory, weight] = [randomTensor([1, 12, DIM], 1), randomTensor([1, 2, DIM], 2), randomTensor([DIM, DIM], 3)];
  const gradient = tf.grad((x: tf.Tensor) => {
    const { output } = recurrentMemory({ input: x, memory }, { cell: meanCell(weight, true), segmentLength: 4, bpttDepth });
    return tf.sum(tf.slice(output, [0, 8, 0], [1, 4, DIM]));
  })(input);
  const first = tf.tidy(() => tf.max(tf.abs(tf.slice(gradient, [0, 0, 0], [1, 4, DIM]))));
  const [value] = await first.data();
  tf.dispose([input, memory, weight, gradient, first]);
  return value!;
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'without memory tokens and with one segment it is the stack itself',
    run: async () => {
      const [input, weight] = [randomTensor([2, 6, DIM], 1), randomTensor([DIM, DIM], 2)];
      const cell = meanCell(weight, true);
      const { output, state } = recurrentMemory({ input, memory: tf.zeros([2, 0, DIM]) }, { cell, segmentLength: 8 });
      const wanted = tidy(() => cell(input as tf.Tensor3D));
      expect(await distance(output, wanted)).toBe(0);
      tf.dispose([input, weight, output, wanted, state.memory]);
    },
  },
  {
    title: 'a stack that maps each token alone gives outputs that no memory changes',
    run: async () => {
      const input = randomTensor([2, 6, DIM], 1);
      const cell: Cell = (rows) => tf.tanh(rows);
      const wanted = tidy(() => cell(input as tf.Tensor3D));
      for (const seed of [2, 3]) {
        const memory = randomTensor([2, 3, DIM], seed);
        const { output, state } = recurrentMemory({ input, memory }, { cell, segmentLength: 4 });
        expect(await distance(output, wanted)).toBeLessThan(1e-7);
        tf.dispose([memory, output, state.memory]);
      }
      tf.dispose([input, wanted]);
    },
  },
  {
    title: 'with bpttDepth 1 or 2 no gradient of the third segment reaches the first, with none it does',
    run: async () => {
      expect(await reach(null)).toBeGreaterThan(1e-6);
      expect(await reach(1)).toBe(0);
      expect(await reach(2)).toBe(0);
      expect(await reach(3)).toBeGreaterThan(1e-6);
    },
  },
];

function subjectOf(name: string, settings: { align?: 'left' | 'right'; encoder?: boolean }, lengths?: number[]): OpSubject {
  const { align = 'left', encoder = false } = settings;
  return {
    card,
    name,
    degenerate,
    ...(lengths ? { lengths } : {}),
    inputs: (length, seed): Record<string, Array64> => ({
      input: uniform64([2, length, DIM], seed),
      memory: uniform64([2, 3, DIM], seed + 1),
      weight: uniform64([DIM, DIM], seed + 2),
    }),
    gradients: ['input', 'memory', 'weight'],
    naive: ({ input, memory, weight }) =>
      naiveRecurrentMemory(
        { input: input!, memory: memory! },
        { cell: naiveMeanCell(weight!.data, !encoder), segmentLength: 8, align, encoder },
      ) as unknown as Arrays64,
    forms: {
      recurrent: ({ input, memory, weight }) => {
        const cell = meanCell(weight!, !encoder);
        const { output, state } = recurrentMemory({ input: input!, memory: memory! }, { cell, segmentLength: 8, align, encoder });
        return { output, memory: state.memory };
      },
    },
    badInputs: [
      {
        title: 'an input of rank 2',
        argument: 'input',
        call: () =>
          tidy(() => recurrentMemory({ input: tf.zeros([2, 4]), memory: tf.zeros([2, 1, 4]) }, { cell: (x) => x, segmentLength: 2 })),
      },
      {
        title: 'a memory of another width',
        argument: 'memory',
        call: () =>
          tidy(() => recurrentMemory({ input: tf.zeros([2, 3, 4]), memory: tf.zeros([2, 1, 5]) }, { cell: (x) => x, segmentLength: 2 })),
      },
      {
        title: 'a segment of half a token',
        argument: 'segmentLength',
        call: () =>
          tidy(() => recurrentMemory({ input: tf.zeros([2, 3, 4]), memory: tf.zeros([2, 1, 4]) }, { cell: (x) => x, segmentLength: 0.5 })),
      },
    ],
  };
}

opLaws(subjectOf('recurrent-memory-transformer', {}, [1, 7, 65]));
opLaws(subjectOf('recurrent-memory-transformer, aligned to the end', { align: 'right' }));
opLaws(subjectOf('recurrent-memory-transformer, encoder', { encoder: true }, [1, 7, 65]));

const badConfigs = [
  { build: () => new RecurrentMemoryTransformer({ dim: 8, segmentLength: 0 }), argument: 'config.segmentLength' },
  { build: () => new RecurrentMemoryTransformer({ dim: 8, segmentLength: 4, heads: 3 }), argument: 'config.heads' },
];

mixerLaws({
  card,
  name: 'recurrent-memory-transformer around a convolution',
  build: () => {
    const stack = new Block({ mixer: new GatedConvolution({ dim: 6, expand: 1, seed: 2 }) });
    return new RecurrentMemoryTransformer({ dim: 6, segmentLength: 5, memoryTokens: 2, memoryDeviation: 0.5 }, stack);
  },
  badConfigs: [
    {
      build: () => {
        const stack = Object.assign(Object.create(GatedConvolution.prototype) as GatedConvolution, { dim: 6, pattern: 'causal-self' });
        return new RecurrentMemoryTransformer({ dim: 8, segmentLength: 4 }, stack);
      },
      argument: 'stack',
    },
  ],
});
mixerLaws({
  card,
  name: 'recurrent-memory-transformer around attention',
  build: () => new RecurrentMemoryTransformer({ dim: 8, heads: 2, segmentLength: 4, memoryTokens: 2, memoryDeviation: 0.5, seed: 3 }),
  dims: { dim: 8, memoryTokens: 2, segmentLength: 4, depth: 1 },
  badConfigs,
});
mixerLaws({
  card,
  name: 'recurrent-memory-transformer, noncausal',
  build: () =>
    new RecurrentMemoryTransformer({
      dim: 8,
      heads: 2,
      segmentLength: 6,
      memoryTokens: 2,
      memoryDeviation: 0.5,
      pattern: 'noncausal-self',
    }),
});

/** The Llama stack of the vectors, from their parameters. */
function llama(parameters: Readonly<Record<string, tf.Tensor>>, layers: number, heads: number): Cell {
  const weight = (name: string): tf.Tensor => parameters[`memory_cell.model.lm.model.${name}.weight`]!;
  const linear = (x: tf.Tensor, name: string): tf.Tensor => {
    const matrix = tf.transpose(weight(name)) as tf.Tensor2D; // theirs is [out, in]
    const [batch, length, width] = x.shape as [number, number, number];
    return tf.reshape(tf.matMul(tf.reshape(x, [batch * length, width]), matrix), [batch, length, matrix.shape[1]]);
  };
  const norm = (x: tf.Tensor, name: string): tf.Tensor => rmsNorm({ input: x, weight: weight(name) }, { epsilon: 1e-5 });
  return (rows) => {
    const [batch, length, dim] = rows.shape;
    let x: tf.Tensor = rows;
    for (let layer = 0; layer < layers; layer++) {
      const at = `layers.${layer}`;
      const normed = norm(x, `${at}.input_layernorm`);
      const head = (name: string): tf.Tensor =>
        tf.reshape(linear(normed, `${at}.self_attn.${name}_proj`), [batch, length, heads, dim / heads]);
      const rotated = rotaryEmbedding({ query: head('q'), key: head('k'), positions: { start: 0, length } });
      const { output } = softmaxAttention({ ...rotated, value: head('v') }, { causal: true });
      x = tf.add(x, linear(tf.reshape(output, [batch, length, dim]), `${at}.self_attn.o_proj`));
      const wide = norm(x, `${at}.post_attention_layernorm`);
      const gate = linear(wide, `${at}.mlp.gate_proj`);
      x = tf.add(x, linear(tf.mul(tf.mul(gate, tf.sigmoid(gate)), linear(wide, `${at}.mlp.up_proj`)), `${at}.mlp.down_proj`));
    }
    return norm(x, 'norm') as tf.Tensor3D;
  };
}

goldenSuite({
  op: 'rmt',
  folder: new URL('../../golden/recurrent-memory-transformer/rmt/', import.meta.url),
  run: ({ inputs, parameters }, { config }) => {
    const {
      layers,
      heads,
      num_mem: slots,
      hidden,
      segment_size: segmentLength,
      align,
      B: batch,
      T: length,
      vocab,
    } = config as Record<string, number>;
    const table = parameters['memory_cell.model.lm.model.embed_tokens.weight']!;
    const input = tf.reshape(gatherRows({ table, indices: inputs['input_ids']! }), [batch!, length!, hidden!]);
    const memory = tf.add(tf.zeros([batch!, slots!, hidden!]), tf.expandDims(parameters['memory_cell.memory']!, 0));
    const cell = llama(parameters, layers!, heads!);
    const { output } = recurrentMemory({ input, memory }, { cell, segmentLength: segmentLength!, align: align as unknown as 'left' });
    const head = tf.transpose(parameters['memory_cell.model.lm.lm_head.weight']!) as tf.Tensor2D;
    return { logits: tf.reshape(tf.matMul(tf.reshape(output, [batch! * length!, hidden!]), head), [batch!, length!, vocab!]) };
  },
});
