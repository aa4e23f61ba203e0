import * as tf from '@tensorflow/tfjs-core';
import { deferParameters, setupBackend } from '@seqloom/core';
import type { ParallelMixer, State } from '@seqloom/core';
import { failOnLeaks, furthest } from '@seqloom/testing';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ConfigReader } from '../checkpoints/config-reader.ts';
import { hymba as adapter } from '../checkpoints/adapters/hymba.ts';
import { generate } from '../generate.ts';
import { tokenIds, withModel } from '../for-tests/tiny-models.ts';
import { HybridModel } from '../hybrid-model.ts';
import { hymba } from './hymba.ts';
import type { HymbaShape } from './hymba.ts';
import { publishedConfig } from './index.ts';

const small: HymbaShape = {
  vocabSize: 11,
  dim: 8,
  depth: 4,
  heads: 4,
  kvHeads: 2,
  innerDim: 12,
  hidden: 12,
  metaTokens: 3,
  window: 4,
  globalLayers: [0, 3],
  keyValueGroups: [[1, 2]],
  stateDim: 3,
};
const one: HymbaShape = { ...small, depth: 1, globalLayers: [], keyValueGroups: [] };

function withHymba<T>(shape: HymbaShape, use: (model: HybridModel) => T): T {
  return withModel(hymba.config(shape), (model) => {
    // at their first values embeddings and meta tokens hardly move the logits
    tf.tidy(() => model.embedding.weight.assign(tf.mul(model.embedding.weight.value, 50)));
    return use(model);
  });
}

/** Takes Mamba's part out of a layer. */
function silenceMamba(model: HybridModel): void {
  for (const { mixer } of model.stack.layers) {
    const { weight } = (mixer as ParallelMixer).branches[1]!.norm!;
    tf.tidy(() => weight!.assign(tf.zerosLike(weight!.value)));
  }
}

const logitsOf = (model: HybridModel, ids: tf.Tensor): tf.Tensor => model.forward(ids).logits;

/** How far the logits of one position move when a token changes. */
function influence(model: HybridModel, length: number, from: number, at: number): number {
  return tf.tidy(() => {
    const ids = tokenIds(1, length);
    const other = [...ids.dataSync()];
    other[from] = (other[from]! + 3) % 11;
    const changed = tf.tensor2d(other, [1, length], 'int32');
    const row = (logits: tf.Tensor): tf.Tensor => tf.slice(logits, [0, at, 0], [1, 1, 11]);
    return furthest(row(logitsOf(model, ids)), row(logitsOf(model, changed)));
  });
}

beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
});

failOnLeaks();
afterEach(() => {
  vi.restoreAllMocks();
});

describe('what a layer sees', () => {
  it('without Mamba: the last tokens of its window, itself included', () => {
    withHymba(one, (model) => {
      silenceMamba(model);
      expect(influence(model, 12, 11 - (small.window - 1), 11)).toBeGreaterThan(1e-4);
      expect(influence(model, 12, 11 - small.window, 11)).toBe(0);
    });
  });

  it('with Mamba: what left the window too', () => {
    withHymba(one, (model) => expect(influence(model, 12, 1, 11)).toBeGreaterThan(1e-6));
  });

  it('always: the meta tokens, every one of them', () => {
    withHymba(one, (model) => {
      silenceMamba(model);
      tf.tidy(() => {
        const meta = model.stack.meta!;
        const [ids, before] = [tokenIds(1, 12), meta.value.clone()];
        const last = (): tf.Tensor => tf.slice(logitsOf(model, ids), [0, 11, 0], [1, 1, 11]);
        const wanted = last();
        for (let token = 0; token < small.metaTokens; token++) {
          const row = tf.reshape(tf.cast(tf.oneHot(token, small.metaTokens), 'float32'), [small.metaTokens, 1]);
          meta.assign(tf.add(before, row));
          expect(furthest(last(), wanted), `meta token ${token}`).toBeGreaterThan(1e-5);
        }
      });
    });
  });

  it('in a global layer: everything', () => {
    withHymba({ ...one, globalLayers: [0] }, (model) => {
      silenceMamba(model);
      expect(influence(model, 12, 0, 11)).toBeGreaterThan(1e-5);
    });
  });
});

describe('keys and values', () => {
  it('of a consumer are those of its producer, the very tensors, and it has no weights nor cache for any', () => {
    withHymba(small, (model) => {
      const attention = (layer: number) => (model.stack.layers[layer]!.mixer as ParallelMixer).branches[0]!.mixer;
      const seen = new Map<string, unknown>();
      for (const layer of [1, 2]) {
        const mixer = attention(layer);
        const mix = mixer.mix.bind(mixer);
        vi.spyOn(mixer, 'mix').mockImplementation((input) => {
          seen.set(`${layer} takes`, input.keyValue);
          const result = mix(input);
          seen.set(`${layer} makes`, result.keyValue);
          return result;
        });
      }
      tf.tidy(() => void logitsOf(model, tokenIds(2, 9)));
      expect(seen.get('1 takes')).toBeUndefined();
      expect(seen.get('2 takes')).toBeDefined();
      expect(seen.get('2 takes')).toBe(seen.get('1 makes'));
      const names = [...model.namedParameters().keys()].filter((name) => /branches\.0\.mixer\.(key|value)\./.test(name));
      expect(names.map((name) => /layers\.(\d)/.exec(name)![1])).toEqual(['0', '0', '1', '1', '3', '3']);
      const cached = Object.keys(model.stack.stateShapes(1)).filter((name) => /key|value/i.test(name));
      expect(cached.some((name) => name.startsWith('2.'))).toBe(false);
    });
  });

  it('are cached by 17 of the 32 layers, of which 3 grow with the text', () => {
    const model = deferParameters(() => new HybridModel(publishedConfig('hymba/1.5b')));
    const shapes = Object.entries(model.stack.stateShapes(1));
    const cached = shapes.filter(([name]) => /key|value/i.test(name));
    expect(new Set(cached.map(([name]) => name.split('.')[0])).size).toBe(17);
    const growing = cached.filter(([, shape]) => shape.includes('length')).map(([name]) => Number(name.split('.')[0]));
    expect([...new Set(growing)]).toEqual([0, 15, 31]);
    // five heads of 64 for keys and 128 for values; 128 meta tokens count everywhere
    const perToken = 4 * 5 * (64 + 128);
    expect(model.stateBytes(1, 9000) - model.stateBytes(1, 8000)).toBe(3 * perToken * 1000);
    const recurrent = 32 * 4 * (3200 * 16 + 3200 * 3);
    const positions = 4 * shapes.filter(([name]) => name.endsWith('position')).length + 4;
    expect(model.stateBytes(1, 8000)).toBe(perToken * (3 * (128 + 8000) + 14 * (128 + 1024)) + recurrent + positions);
    model.dispose();
  });
});

describe('a batch', () => {
  it('of prompts of different lengths, padded on the left by any amount, gives the logits of each alone, then token by token', () => {
    withHymba(small, (model) => {
      tf.tidy(() => {
        const lengths = [5, 12, 9];
        const whole = lengths.map((length, row) => tokenIds(1, length + 8, 10 + row));
        const alone = whole.map((ids) => logitsOf(model, ids));
        for (const padding of [0, 4]) {
          const width = Math.max(...lengths) + padding;
          const rows = lengths.map((length, row) =>
            tf.concat([tf.fill([1, width - length], 10, 'int32'), tf.slice(whole[row]!, [0, 0], [1, length])], 1),
          );
          const mask = tf.tensor2d(lengths.map((length) => Array.from({ length: width }, (_, t) => (t < width - length ? 0 : 1))));
          let { logits, state } = model.forward(tf.concat(rows, 0), { mask });
          for (const [row, length] of lengths.entries()) {
            const wanted = tf.slice(alone[row]!, [0, 0, 0], [1, length, 11]);
            expect(furthest(tf.slice(logits, [row, width - length, 0], [1, length, 11]), wanted)).toBeLessThan(1e-4);
          }
          // well beyond the window, which moves over the places where padding was
          for (let step = 0; step < 8; step++) {
            const next = tf.concat(
              lengths.map((length, row) => tf.slice(whole[row]!, [0, length + step], [1, 1])),
              0,
            );
            ({ logits, state } = model.forward(next, { state }));
            for (const [row, length] of lengths.entries()) {
              const wanted = tf.slice(alone[row]!, [0, length + step, 0], [1, 1, 11]);
              expect(furthest(tf.slice(logits, [row, 0, 0], [1, 1, 11]), wanted), `row ${row}, step ${step}`).toBeLessThan(1e-4);
            }
          }
        }
      });
    });
  });

  it('is written on as each prompt alone', async () => {
    const model = new HybridModel(hymba.config({ ...small, tied: false }));
    tf.tidy(() => model.head!.weight.assign(tf.mul(model.head!.weight.value, 50)));
    const prompts = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 0, 1, 2], [5]];
    const write = async (prompt: readonly (readonly number[])[]): Promise<number[][]> => {
      const rows: number[][] = prompt.map(() => []);
      for await (const { row, id } of generate(model, { prompt, maxNewTokens: 14, temperature: 0, prefillChunk: 4 })) rows[row]!.push(id!);
      return rows;
    };
    const together = await write(prompts);
    for (const [row, prompt] of prompts.entries()) expect(await write([prompt])).toEqual([together[row]]);
    model.dispose();
  });
});

describe('pieces', () => {
  it.each([
    ['halves', [12]],
    ['single tokens', Array.from({ length: 23 }, (_, t) => t + 1)],
    ['pieces around the window', [3, 4, 8, 13, 20]],
  ])('%s give what one call gives, meta tokens once', (_name, cuts) => {
    withHymba(small, (model) => {
      tf.tidy(() => {
        const ids = tokenIds(2, 24);
        const whole = logitsOf(model, ids);
        let state: State | undefined;
        let from = 0;
        for (const to of [...cuts, 24]) {
          const result = model.forward(tf.slice(ids, [0, from], [2, to - from]), state ? { state } : {});
          expect(furthest(result.logits, tf.slice(whole, [0, from, 0], [2, to - from, 11]))).toBeLessThan(1e-4);
          state = result.state;
          from = to;
        }
      });
    });
  });
});

describe('without meta tokens, windows, sharing and Mamba', () => {
  it('a layer is grouped-query attention with a norm before its output projection', () => {
    const plain: HymbaShape = { ...one, metaTokens: 0, globalLayers: [0] };
    const { definitions, ...rest } = hymba.config(plain);
    const {
      type: _type,
      projectOutput: _project,
      ...attention
    } = (definitions['global'] as unknown as { branches: { mixer: Record<string, unknown> }[] }).branches[0]!.mixer;
    const single = new HybridModel({
      ...rest,
      definitions: {
        ...definitions,
        global: {
          type: 'parallel',
          branches: [{ mixer: { type: 'mha-mqa-gqa', ...attention, projectOutput: false }, norm: true }],
          output: true,
        },
      },
    });
    withHymba(plain, (model) => {
      silenceMamba(model);
      tf.tidy(() => {
        const weights = model.namedParameters();
        for (const [name, parameter] of single.namedParameters()) {
          const { value } = weights.get(name)!;
          // the mean of two branches, one of which is silent
          parameter.assign(name.endsWith('mixer.output.weight') ? tf.div(value, 2) : value);
        }
        expect(furthest(logitsOf(single, tokenIds(2, 9)), logitsOf(model, tokenIds(2, 9)))).toBeLessThan(1e-5);
      });
    });
    single.dispose();
  });
});

describe('a checkpoint', () => {
  const config = {
    vocab_size: 32001,
    hidden_size: 1600,
    num_hidden_layers: 32,
    num_attention_heads: 25,
    num_key_value_heads: 5,
    intermediate_size: 5504,
    mamba_expand: 2,
    mamba_d_state: 16,
    mamba_d_conv: 4,
    mamba_dt_rank: 100,
    mamba_inner_layernorms: true,
    num_memory_tokens: 128,
    sliding_window: 1024,
    global_attn_idx: [0, 15, 31],
    kv_reuse_every_i_layer: -1,
    kv_reuse_group: [
      ...[1, 3, 5, 7, 9, 11, 13].map((layer) => [layer, layer + 1]),
      [16, 17, 18],
      ...[19, 21, 23, 25, 27, 29].map((layer) => [layer, layer + 1]),
    ],
    v_head_dim: 128,
    rope_type: 'ntk',
    rope_theta: 10000,
    orig_max_position_embeddings: 2048,
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: true,
    model_type: 'hymba',
  };

  it('of 1.5B is the published size', () => {
    expect(adapter.toHybrid(new ConfigReader(config))).toEqual(publishedConfig('hymba/1.5b'));
  });

  it('without a group for layers by themselves', () => {
    const { share } = adapter.toHybrid(new ConfigReader({ ...config, kv_reuse_group: [[1, 2], [4]] }));
    expect(share).toEqual({ keyValue: [[1, 2]] });
  });

  it.each([
    ['kq_norm', 'rms'],
    ['num_experts', 4],
    ['kv_reuse_every_i_layer', 2],
    ['kv_weight_reuse', true],
    ['mamba_proj_bias', true],
    ['v_head_dim', 64],
    ['rope_type', 'dynamic_ntk'],
    ['max_position_embeddings', 1024],
    ['kv_reuse_group', [[1, 'two']]],
    ['layer_type', ['h', 'm']],
  ])('with another %s is refused', (key, value) => {
    expect(() => adapter.toHybrid(new ConfigReader({ ...config, [key]: value }))).toThrow(key);
  });
});
