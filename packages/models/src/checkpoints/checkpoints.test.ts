import * as tf from '@tensorflow/tfjs-core';
import { encodeBf16, encodeF16, setupBackend, toFloat32, writeSafetensors } from '@seqloom/core';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { defaultComponents } from '../components.ts';
import { llama, llamaTensors } from '../for-tests/tiny-llama.ts';
import type { CheckpointTensors } from '../for-tests/tiny-llama.ts';
import { defaultAdapters, findAdapter } from './adapters/index.ts';
import { ConfigReader } from './config-reader.ts';
import { formatPythonJson, parsePythonJson } from './json.ts';
import { filesRepository, loadPretrained } from './load-pretrained.ts';
import type { LoadPretrainedOptions, Pretrained } from './load-pretrained.ts';
import { planMapping } from './mapping.ts';
import { arrange, chain, concat, each, permute, reshape, split, squeeze, stack, transpose, unGroup } from './transform.ts';
import type { LaidTensor, Transform } from './transform.ts';

/** A tensor whose numbers are their places. */
const counted = (...shape: number[]): LaidTensor => ({
  shape,
  data: Float32Array.from({ length: tf.util.sizeFromShape(shape) }, (_, i) => i),
});

describe('transforms', () => {
  const cases: readonly (readonly [string, Transform, readonly LaidTensor[]])[] = [
    ['transpose', transpose, [counted(37, 70)]],
    ['permute', permute(2, 0, 3, 1), [counted(2, 3, 4, 5)]],
    ['squeeze', squeeze(1), [counted(6, 1, 4)]],
    ['reshape', reshape([6, 4], [2, 12]), [counted(6, 4)]],
    ['split', split([1, 3, 2], 1), [counted(2, 6, 3)]],
    ['concat', concat([2, 1]), [counted(2, 5), counted(1, 5)]],
    ['stack', stack(3), [counted(2, 4), counted(2, 4), counted(2, 4)]],
    ['arrange', arrange(2, 0, 1), [counted(1), counted(2), counted(3)]],
    ['unGroup', unGroup(2, [3, 1, 2], 4), [counted(12, 4)]],
    [
      'each of a group',
      each({ take: 2, make: 1, transform: concat([1, 2]) }, { take: 1, make: 2, transform: split([2, 2]) }),
      [counted(1, 3), counted(2, 3), counted(4, 3)],
    ],
    ['a chain', chain(unGroup(2, [2, 1], 5), arrange(1, 0), transpose), [counted(6, 5)]],
  ];

  it.each(cases)('%s goes back to what it came from, and knows its shapes without numbers', (_name, transform, tensors) => {
    const made = transform.forward(tensors);
    expect(transform.backward(made)).toEqual(tensors);
    const bare = (list: readonly LaidTensor[]): LaidTensor[] => list.map(({ shape }) => ({ shape, data: null }));
    expect(transform.forward(bare(tensors))).toEqual(bare(made));
    expect(transform.backward(bare(made))).toEqual(bare(tensors));
  });

  it('move numbers to where they are told', () => {
    expect([...transpose.forward([counted(2, 3)])[0]!.data!]).toEqual([0, 3, 1, 4, 2, 5]);
    const [a, b] = unGroup(2, [1, 2], 1).forward([counted(6, 1)]);
    expect([...a!.data!]).toEqual([0, 3]);
    expect([...b!.data!]).toEqual([1, 2, 4, 5]);
    expect([...permute(2, 0, 1).forward([counted(2, 1, 3)])[0]!.data!]).toEqual([0, 3, 1, 4, 2, 5]);
  });
});

describe('rules', () => {
  it('run over layers and experts, together or one by one', () => {
    const parameters = new Map([
      ['layers.0.up', [2, 4, 3]],
      ['layers.1.up', [2, 4, 3]],
      ['layers.1.parts.0.w', [3]],
      ['layers.1.parts.1.w', [3]],
      ['lonely', [1]],
    ]);
    const rules = [
      { hub: 'l.{i}.e.{e}.w', own: 'layers.{i}.up', experts: 2, transform: stack(2) },
      { hub: 'l.{i}.p.{e}', own: 'layers.{i}.parts.{e}.w', experts: 2, layers: [1] },
    ];
    const { groups, without } = planMapping({ rules }, parameters, 2);
    expect(groups.map(({ hub, shapes }) => [hub, shapes])).toEqual([
      [
        ['l.0.e.0.w', 'l.0.e.1.w'],
        [
          [4, 3],
          [4, 3],
        ],
      ],
      [
        ['l.1.e.0.w', 'l.1.e.1.w'],
        [
          [4, 3],
          [4, 3],
        ],
      ],
      [['l.1.p.0'], [[3]]],
      [['l.1.p.1'], [[3]]],
    ]);
    expect(without).toEqual(['lonely']);
  });
});

describe('JSON of Python', () => {
  it('has infinities, and keeps them', () => {
    const text = '{"a": [0.0, Infinity], "b": -Infinity, "c": NaN, "d": "Infinity \\" NaN", "Infinity": 1}';
    const value = parsePythonJson(text);
    expect(value).toEqual({ a: [0, Infinity], b: -Infinity, c: null, d: 'Infinity " NaN', Infinity: 1 });
    expect(parsePythonJson(formatPythonJson(value))).toEqual(value);
    expect(formatPythonJson({ a: [0, Infinity] })).toContain(' Infinity\n');
  });
});

describe('loading', () => {
  let before: number;
  beforeAll(async () => {
    await setupBackend('cpu');
  });
  beforeEach(() => {
    before = tf.memory().numTensors;
  });
  afterEach(() => {
    expect(tf.memory().numTensors).toBe(before);
  });

  const load = (
    config: object,
    tensors: CheckpointTensors,
    options: LoadPretrainedOptions = {},
    dtype?: 'BF16' | 'F16',
  ): Promise<Pretrained> => {
    const files = new Map<string, Blob | Uint8Array>([
      ['config.json', new Blob([JSON.stringify(config)])],
      ['model.safetensors', writeSafetensors(tensors, dtype ? { dtype } : {})],
    ]);
    return loadPretrained(filesRepository(files, 'test'), defaultComponents, options);
  };

  it('names an architecture that it does not know, and the nearest that it does', async () => {
    const { model_type: _, ...rest } = llama;
    await expect(load({ ...rest, model_type: 'mistral' }, {})).rejects.toThrow(
      /model_type must be one of llama.*got "mistral".*the nearest that is: llama/,
    );
    await expect(load({ model_type: 'mamba3', hidden_size: 8, state_size: 4, conv_kernel: 4 }, {})).rejects.toThrow(
      /nearest that is: mamba/,
    );
    await expect(load(rest, {})).rejects.toThrow(/got nothing/);
  });

  it.each([
    ['quantised weights', { quantization_config: { quant_method: 'gptq' } }, /quantization_config must be absent.*got "gptq"/],
    ['another activation', { hidden_act: 'relu2' }, /hidden_act must be one of silu, gelu, relu; got "relu2"/],
    [
      'another rope',
      { rope_scaling: { rope_type: 'longrope', factor: 2 } },
      /rope_scaling rope_type must be one of default, linear, yarn, llama3; got "longrope"/,
    ],
    ['a width that is text', { hidden_size: '8' }, /hidden_size must be a whole number from 1; got "8"/],
    ['no width', { hidden_size: undefined }, /hidden_size must be a whole number from 1; got nothing/],
    ['heads that do not divide', { num_key_value_heads: 3 }, /kvHeads/],
  ])('refuses %s before reading a weight', async (_case, change, message) => {
    await expect(load({ ...llama, ...change }, llamaTensors())).rejects.toThrow(message);
  });

  it('names what is missing, unexpected or of a wrong shape, all at once', async () => {
    const { 'model.norm.weight': norm, 'lm_head.weight': _, ...tensors } = llamaTensors();
    const spoilt: CheckpointTensors = {
      ...tensors,
      'model.norm.weights': norm!,
      'model.layers.7.extra': norm!,
      'model.layers.0.self_attn.k_proj.weight': tensors['model.layers.0.self_attn.q_proj.weight']!,
    };
    const failed = load(llama, spoilt);
    await expect(failed).rejects.toThrow(/2 missing: model\.norm\.weight, lm_head\.weight/);
    await expect(failed).rejects.toThrow(/2 unexpected: model\.layers\.7\.extra, model\.norm\.weights/);
    await expect(failed).rejects.toThrow(/1 wrong shape: model\.layers\.0\.self_attn\.k_proj\.weight \[8, 8\] instead of \[4, 8\]/);
    const { model, report } = await load(llama, spoilt, { strict: false });
    expect(report.missing).toEqual(['model.norm.weight', 'lm_head.weight']);
    expect(report.wrongShape).toEqual([{ name: 'model.layers.0.self_attn.k_proj.weight', wanted: [4, 8], given: [8, 8] }]);
    expect(report.parameters).toBe(model.countParameters() - 8 - 17 * 8 - 4 * 8);
    model.dispose();
    const many = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`more.${String(i).padStart(2, '0')}`, norm!]));
    await expect(load(llama, { ...llamaTensors(), ...many })).rejects.toThrow(/30 unexpected: more\.00, .*more\.19 and 10 more/);
  });

  it('ties the head, takes a copy that is equal, and refuses one that is not', async () => {
    const config = { ...llama, tie_word_embeddings: true };
    const tensors = llamaTensors(config);
    const { model } = await load(config, tensors);
    expect(model.head).toBeNull();
    model.dispose();
    const same = await load(config, { ...tensors, 'lm_head.weight': tensors['model.embed_tokens.weight']! });
    expect(same.report.tied).toEqual(['lm_head.weight']);
    same.model.dispose();
    await expect(load(config, llamaTensors())).rejects.toThrow(/lm_head\.weight must be equal to model\.embed_tokens\.weight/);
  });

  it('refuses weights that are not finite, and what is no checkpoint', async () => {
    const tensors = llamaTensors();
    tensors['model.norm.weight']!.data[3] = NaN;
    await expect(load(llama, tensors)).rejects.toThrow(/model\.norm\.weight must be finite; got NaN at index 3/);
    await expect(loadPretrained(filesRepository(new Map()), defaultComponents)).rejects.toThrow(/config\.json must be there/);
    const half = new Map([['config.json', new TextEncoder().encode('{"model_type": "lla')]]);
    await expect(loadPretrained(filesRepository(half), defaultComponents)).rejects.toThrow(/config\.json must be a JSON object/);
    await expect(load(llama, llamaTensors(), { dtype: 'F8' as 'F16' })).rejects.toThrow(/dtype must be F32, BF16 or F16/);
    const controller = new AbortController();
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(load(llama, llamaTensors(), { signal: controller.signal })).rejects.toBe(reason);
  });

  it.each(['BF16', 'F16'] as const)('reads %s exactly, and rounds to it when asked', async (dtype) => {
    const tensors = llamaTensors();
    const encode = dtype === 'BF16' ? encodeBf16 : encodeF16;
    const { data } = tensors['model.embed_tokens.weight']!;
    const rounded = [...toFloat32({ dtype, shape: [data.length], data: Uint16Array.from(data, encode) })];
    for (const loaded of [await load(llama, tensors, {}, dtype), await load(llama, tensors, { dtype })]) {
      expect([...(await loaded.model.embedding.weight.value.data())]).toEqual(rounded);
      loaded.model.dispose();
    }
  });

  it('takes the weights in any order and reports progress to the end', async () => {
    const seen: number[] = [];
    const { model } = await load(llama, llamaTensors(), { onProgress: ({ done, total }) => seen.push(done / total) });
    expect(seen.at(-1)).toBe(1);
    expect(seen.length).toBe(model.parameters().length);
    model.dispose();
  });

  it('holds nothing but what was loaded so far: no weight is made twice', async () => {
    const held = tf.memory().numBytes;
    const over: number[] = [];
    const { model } = await load(llama, llamaTensors(), { onProgress: ({ done }) => over.push(tf.memory().numBytes - held - done) });
    expect(Math.max(...over)).toBe(0);
    model.dispose();
  });

  it('knows every rotary scaling that its layers have', () => {
    const rotary = (change: object): unknown => {
      const { definitions } = findAdapter(new ConfigReader(llama)).toHybrid(new ConfigReader({ ...llama, ...change }));
      return definitions['attention']!['rotary'];
    };
    expect(rotary({})).toEqual({ base: 10_000 });
    expect(rotary({ rope_theta: 5e5, rope_scaling: null })).toEqual({ base: 5e5 });
    expect(rotary({ rope_parameters: { rope_theta: 7, rope_type: 'default' } })).toEqual({ base: 7, scaling: null });
    const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
    expect(rotary({ rope_theta: 5e5, rope_scaling: llama3 })).toEqual({
      base: 5e5,
      scaling: { type: 'llama3', factor: 8, originalLength: 8192, lowFrequencyFactor: 1, highFrequencyFactor: 4 },
    });
    expect(rotary({ rope_scaling: { type: 'linear', factor: 2 } })).toEqual({ base: 10_000, scaling: { type: 'linear', factor: 2 } });
    expect(() => rotary({ rope_scaling: { rope_type: 'yarn', factor: 2, mscale: 1, original_max_position_embeddings: 9 } })).toThrow(
      /mscale/,
    );
  });
});

it('has one adapter per model type', () => {
  const types = defaultAdapters.flatMap(({ modelTypes }) => modelTypes);
  expect(new Set(types).size).toBe(types.length);
});
