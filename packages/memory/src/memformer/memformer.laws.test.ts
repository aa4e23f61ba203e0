import { MultiHeadAttention } from '@seqloom/attention';
import { Block, childState, gatherRows, joinStates, SequenceMixer, tidy } from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { goldenSuite, mixerLaws, nestedByName, opLaws, opTensor, relativeError64, runEachRow, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import type { Affine, NormTensors } from '../dense.ts';
import { card } from './card.ts';
import { MemformerEncoder } from './encoder-layer.ts';
import { memformerEncoder } from './encoder.ts';
import { Memformer } from './layer.ts';
import { memformerMemory } from './memformer.ts';
import { naiveMemformerMemory } from './naive.ts';
import type { NaiveMemformerParameters } from './naive.ts';
import type { AttentionTensors, MemformerParameters } from './parameters.ts';
import { MemformerRecurrence } from './recurrence.ts';

const DIM = 4;
const SLOTS = 3;
type Writer = 'normalised' | 'gated';
const settingsOf = (temperature = 0.5): { heads: number; segmentLength: number; temperature: number; updates: number } => ({
  heads: 2,
  segmentLength: 5,
  temperature,
  updates: 2,
});

const ATTENTION = { query: [DIM, DIM], key: [DIM, DIM], value: [DIM, DIM], output: [DIM, DIM] };
const GATES = { gateInput: [DIM, 3 * DIM], gateMemory: [DIM, 3 * DIM], up: [DIM, 4 * DIM], down: [4 * DIM, DIM] };

function arrays(writer: Writer, length: number, seed: number): Record<string, Array64> {
  const made: Record<string, Array64> = {
    input: uniform64([2, length, DIM], seed, -2, 2),
    memory: uniform64([2, SLOTS, DIM], seed + 1),
  };
  let next = seed + 2;
  const maps = { read: ATTENTION, write: writer === 'gated' ? { ...ATTENTION, ...GATES } : ATTENTION };
  for (const [part, shapes] of Object.entries(maps))
    for (const [name, shape] of Object.entries(shapes)) {
      made[`${part}.${name}.weight`] = uniform64(shape, next++, -0.7, 0.7);
      // softmax does not see the bias of a key
      if (name !== 'key') made[`${part}.${name}.bias`] = uniform64([shape[1]!], next++);
    }
  if (writer === 'normalised') made['write.slotBias'] = uniform64([SLOTS, DIM], next++);
  else {
    made['write.norm.weight'] = uniform64([DIM], next++, 0.5, 1.5);
    made['write.norm.bias'] = uniform64([DIM], next++);
  }
  return made;
}

function naive(given: Arrays64): Arrays64 {
  const numbers = Object.fromEntries(Object.entries(given).map(([name, array]) => [name, array!.data]));
  const parameters = nestedByName<Float64Array>(numbers) as unknown as NaiveMemformerParameters;
  return runEachRow(given, (tokens, memory) => naiveMemformerMemory(tokens, memory, parameters, settingsOf()));
}

const run = (inputs: OpTensors, temperature?: number): Record<string, tf.Tensor> => {
  const parameters = nestedByName(inputs) as unknown as MemformerParameters;
  const { output, state } = memformerMemory({ input: inputs.input!, memory: inputs.memory! }, parameters, settingsOf(temperature));
  return { output, memory: state.memory };
};

/** The memory after ten tokens, two segments, with some inputs changed. */
async function memoryWith(writer: Writer, change: (given: Record<string, Array64>) => void, temperature?: number): Promise<Float32Array> {
  const given = arrays(writer, 5, 5);
  change(given);
  const inputs = Object.fromEntries(Object.entries(given).map(([name, array]) => [name, opTensor(array)]));
  const outputs = run(inputs, temperature);
  const memory = (await outputs.memory!.data()) as Float32Array;
  tf.dispose([inputs, outputs]);
  return memory;
}

const rowsOf = (memory: Float32Array): Float32Array[] => Array.from({ length: 2 * SLOTS }, (_, i) => memory.slice(i * DIM, (i + 1) * DIM));

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a slot bias that is huge resets the memory to its direction',
    run: async () => {
      let bias: Float64Array = new Float64Array();
      const memory = await memoryWith('normalised', (given) => {
        given['write.slotBias']!.data.forEach((value, at, data) => (data[at] = Math.fround(1e6 * value)));
        bias = given['write.slotBias']!.data;
      });
      for (const [i, row] of rowsOf(memory).entries()) {
        const own = bias.slice((i % SLOTS) * DIM, ((i % SLOTS) + 1) * DIM);
        const size = Math.hypot(...own);
        expect(
          relativeError64(
            row,
            own.map((value) => value / size),
          ),
        ).toBeLessThan(1e-5);
      }
    },
  },
  {
    title: 'without a slot bias the memory is what was attended to, normed',
    run: async () => {
      const zero = (given: Record<string, Array64>): void => void given['write.slotBias']!.data.fill(0);
      const memory = await memoryWith('normalised', zero);
      const scaled = await memoryWith('normalised', (given) => {
        zero(given);
        // what was attended to, ten times as large
        for (const name of ['weight', 'bias'])
          given[`write.output.${name}`]!.data.forEach((value, at, data) => (data[at] = Math.fround(10 * value)));
      });
      for (const row of rowsOf(memory)) expect(Math.hypot(...row)).toBeCloseTo(1, 5);
      expect(relativeError64(scaled, memory)).toBeLessThan(1e-4);
    },
  },
  {
    title: 'what a slot becomes does not depend on the other slots',
    run: async () => {
      for (const writer of ['normalised', 'gated'] as const) {
        const before = await memoryWith(writer, () => undefined);
        // the last slot of the first row
        const after = await memoryWith(writer, (given) => given.memory!.data.fill(3, (SLOTS - 1) * DIM, SLOTS * DIM));
        expect([...after.slice(0, (SLOTS - 1) * DIM)]).toEqual([...before.slice(0, (SLOTS - 1) * DIM)]);
        expect(after[(SLOTS - 1) * DIM]).not.toBe(before[(SLOTS - 1) * DIM]);
      }
    },
  },
  {
    title: 'at a temperature near 0 each slot takes one row, its own or a token',
    run: async () => {
      // one head at a time: with values and outputs as they are, a head of a slot holds one row's channels
      const plain = (given: Record<string, Array64>): void => {
        for (const name of ['value', 'output']) {
          given[`write.${name}.weight`]!.data.forEach((_, at, data) => (data[at] = at % (DIM + 1) === 0 ? 1 : 0));
          given[`write.${name}.bias`]!.data.fill(0);
        }
        given['write.slotBias']!.data.fill(0);
        given.memory!.data.forEach((value, at, data) => (data[at] = value));
      };
      let rows: number[][] = [];
      const memory = await memoryWith(
        'normalised',
        (given) => {
          plain(given);
          const { input, memory: slots } = given as Record<'input' | 'memory', Array64>;
          rows = [0, 1].flatMap((b) => [
            ...Array.from({ length: 5 }, (_, t) => [...input.data.slice((b * 5 + t) * DIM, (b * 5 + t + 1) * DIM)]),
            ...Array.from({ length: SLOTS }, (_, n) => [...slots.data.slice((b * SLOTS + n) * DIM, (b * SLOTS + n + 1) * DIM)]),
          ]);
        },
        1e-4,
      );
      // directions of the two heads' channels are those of some row
      for (const row of rowsOf(memory))
        for (const head of [0, 2]) {
          const angle = Math.atan2(row[head + 1]!, row[head]!);
          const nearest = Math.min(...rows.map((each) => Math.abs(Math.atan2(each[head + 1]!, each[head]!) - angle)));
          expect(nearest).toBeLessThan(1e-4);
        }
    },
  },
];

function subjectOf(writer: Writer): OpSubject {
  return {
    card,
    name: `memformer, ${writer} writer`,
    degenerate,
    lengths: [1, 7, 65],
    inputs: (length, seed) => arrays(writer, length, seed),
    gradients:
      writer === 'normalised'
        ? Object.keys(arrays(writer, 1, 1))
        : ['input', 'memory', ...Object.keys(GATES).map((name) => `write.${name}.weight`)],
    naive,
    forms: { recurrent: (inputs) => run(inputs) },
    hard: [
      {
        title: 'tokens of 1e3',
        // float32 keeps logits of that size to 1e-4
        tolerance: 1e-3,
        inputs: () => {
          const given = arrays(writer, 11, 3);
          given.input!.data.forEach((value, at, data) => (data[at] = Math.fround(1e3 * value)));
          return given;
        },
      },
    ],
    badInputs: [
      { title: 'an input of rank 2', argument: 'input', call: () => refused({}, { input: [2, 4] }) },
      { title: 'a memory of another width', argument: 'memory', call: () => refused({}, { memory: [1, 3, 5] }) },
      { title: 'heads that do not divide', argument: 'heads', call: () => refused({ heads: 3 }) },
      { title: 'a segment of nothing', argument: 'segmentLength', call: () => refused({ segmentLength: 0 }) },
      { title: 'a temperature of 0', argument: 'temperature', call: () => refused({ temperature: 0 }) },
      { title: 'no updates', argument: 'updates', call: () => refused({ updates: 0 }) },
    ],
  };
}

function refused(settings: object, shapes: { input?: number[]; memory?: number[] } = {}): unknown {
  const { input = [1, 2, 4], memory = [1, 3, 4] } = shapes;
  const none = {} as MemformerParameters;
  return tidy(() =>
    memformerMemory({ input: tf.zeros(input), memory: tf.zeros(memory) }, none, { heads: 2, segmentLength: 2, ...settings }),
  );
}

opLaws(subjectOf('normalised'));
opLaws(subjectOf('gated'));

const config = { dim: 4, heads: 2, slots: 3, segmentLength: 4, seed: 3 };
mixerLaws({
  card,
  name: 'memformer, normalised writer',
  build: () => new Memformer(config),
  dims: { dim: 4, slots: 3, segmentLength: 4 },
  badConfigs: [
    { build: () => new Memformer({ ...config, heads: 3 }), argument: 'config.heads' },
    { build: () => new Memformer({ ...config, temperature: 0 }), argument: 'config.temperature' },
  ],
});
mixerLaws({
  card,
  name: 'memformer, gated writer',
  build: () => new Memformer({ ...config, slots: 2, writer: 'gated', segmentLength: 5 }),
  dims: { dim: 4, slots: 2, segmentLength: 5 },
  // the norm of four channels is strongly curved
  gradientStep: 1e-3,
});
mixerLaws({
  card: { ...card, decode: 'none' },
  name: 'memformer encoder',
  build: () => new MemformerEncoder({ ...config, dim: 6, segmentLength: 6 }),
});

/** Causal attention, then a layer that reads the context. */
class ReadingStack extends SequenceMixer {
  readonly mechanism = 'reading-stack';
  readonly pattern = 'causal-self';
  readonly dim = 4;
  readonly attention = new Block({ mixer: new MultiHeadAttention({ dim: 4, heads: 2, seed: 4 }) });
  readonly reader = new Block({ mixer: new MultiHeadAttention({ dim: 4, heads: 2, pattern: 'noncausal-cross', seed: 5 }) });

  stateShapes(batch: number): StateShapes {
    const inner = Object.entries(this.attention.stateShapes(batch)).map(([name, shape]) => [`attention.${name}`, shape]);
    return { ...(Object.fromEntries(inner) as StateShapes), 'attention.position': [batch] };
  }

  mix(input: MixInput): MixerResult {
    const { output, state } = this.attention.mix({ ...input, context: null, state: childState(input.state, 'attention') });
    const read = this.reader.mix({ ...input, x: output });
    return { output: read.output, state: joinStates(read.state.position, { attention: state }) };
  }
}

mixerLaws({
  card: { ...card, decode: 'bounded-cache' },
  name: 'memformer around a stack',
  build: () => new MemformerRecurrence({ dim: 4, heads: 2, slots: 2, segmentLength: 4, seed: 3 }, new ReadingStack()),
  badConfigs: [
    {
      build: () => {
        const stack = Object.assign(Object.create(ReadingStack.prototype) as ReadingStack, { dim: 4, pattern: 'causal-self' });
        return new MemformerRecurrence({ dim: 8, heads: 2, slots: 2, segmentLength: 4 }, stack);
      },
      argument: 'stack',
    },
  ],
});

goldenSuite({
  op: 'memformer',
  folder: new URL('../../golden/memformer/memformer/', import.meta.url),
  run: ({ inputs, parameters }, { config: settings }) => {
    const given = settings as Record<string, number>;
    const [batch, segments, length, dim] = [given.B!, given.segments!, given.T!, given.dim!];
    const linear = (weight: string, bias: string, from = 0, count?: number): Affine => {
      const [matrix, vector] = [parameters[weight]!, parameters[bias]!];
      const rows = count ?? matrix.shape[0]!;
      // theirs is [out, in]
      return { weight: tf.transpose(tf.slice(matrix, [from, 0], [rows, -1])), bias: tf.slice(vector, [from], [rows]) };
    };
    const map = (name: string, from?: number, count?: number): Affine => linear(`${name}.weight`, `${name}.bias`, from, count);
    const norm = (name: string): NormTensors => ({ weight: parameters[`${name}.weight`]!, bias: parameters[`${name}.bias`]! });
    const attention = (name: string): AttentionTensors => ({
      query: map(`${name}.to_q`),
      key: map(`${name}.to_kv`, 0, dim),
      value: map(`${name}.to_kv`, dim, dim),
      output: map(`${name}.to_out`),
    });
    const layers = Array.from({ length: given.enc_depth! }, (_, index) => {
      const at = `encoder.layer_blocks.layers.${index}`;
      return {
        selfNorm: norm(`${at}.0.fn.norm`),
        self: attention(`${at}.0.fn.fn`),
        readNorm: norm(`${at}.1.fn.norm`),
        read: attention(`${at}.1.fn.fn`),
        channelNorm: norm(`${at}.2.fn.norm`),
        up: map(`${at}.2.fn.fn.net.0`),
        down: map(`${at}.2.fn.fn.net.2`),
      };
    });
    const tensors = {
      layers,
      positionBias: parameters['encoder.layer_blocks.rel_pos_emb.relative_attention_bias.weight']!,
      norm: norm('encoder.norm'),
      write: {
        ...attention('mem_updater'),
        gateInput: linear('gru.weight_ih', 'gru.bias_ih'),
        gateMemory: linear('gru.weight_hh', 'gru.bias_hh'),
        norm: norm('mem_ff.fn.norm'),
        up: map('mem_ff.fn.fn.net.0'),
        down: map('mem_ff.fn.fn.net.2'),
      },
    };
    const ids = inputs['src']!;
    const mask = inputs['src_mask'] ? tf.cast(inputs['src_mask'], 'float32') : null;
    let memory: tf.Tensor = tf.add(tf.zeros([batch, given.num_memory_slots!, dim]), tf.expandDims(parameters['memory_slots']!, 0));
    const outputs: tf.Tensor[] = [];
    for (let segment = 0; segment < segments; segment++) {
      const indices = tf.reshape(tf.slice(ids, [0, segment, 0], [batch, 1, length]), [batch * length]);
      const input = tf.reshape(gatherRows({ table: parameters['encoder.token_emb.weight']!, indices }), [batch, length, dim]);
      const result = memformerEncoder({ input, memory, mask }, tensors, {
        heads: given.enc_heads!,
        writeHeads: given.mem_update_attn_heads!,
        updates: given.num_mem_updates ?? 1,
      });
      outputs.push(tf.expandDims(result.output, 1));
      memory = result.state.memory;
    }
    return { enc_out: tf.concat(outputs, 1), final_mem: memory };
  },
});
