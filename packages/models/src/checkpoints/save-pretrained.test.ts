import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSafetensors, setupBackend, writeSafetensors } from '@seqloom/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultComponents } from '../components.ts';
import type { HybridConfig } from '../config.ts';
import { llama, llamaTensors } from '../for-tests/tiny-llama.ts';
import { HybridModel } from '../hybrid-model.ts';
import { architectures } from '../published/index.ts';
import { fromPretrained } from './from-pretrained.ts';
import { filesRepository, loadPretrained } from './load-pretrained.ts';
import type { Pretrained } from './load-pretrained.ts';
import { savePretrained } from './save-pretrained.ts';

describe('saving', () => {
  let folder: string;
  beforeEach(async () => {
    await setupBackend('cpu');
    folder = await mkdtemp(join(tmpdir(), 'seqloom-save-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const made = async (): Promise<Pretrained> =>
    loadPretrained(
      filesRepository(
        new Map<string, Blob | Uint8Array>([
          ['config.json', new Blob([JSON.stringify(llama)])],
          ['model.safetensors', writeSafetensors(llamaTensors())],
        ]),
      ),
      defaultComponents,
    );

  it('stores a narrower type, but for what it would harm, and says so in the config', async () => {
    const { model, config } = await made();
    const target = join(folder, 'new');
    await writeFile(join(folder, 'tokenizer.json'), '{}');
    expect(await savePretrained(model, target, { config, dtype: 'BF16', companions: folder })).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
    ]);
    const { tensors, metadata } = readSafetensors(await readFile(join(target, 'model.safetensors')));
    expect(metadata).toEqual({ format: 'pt' });
    expect(tensors['model.embed_tokens.weight']!.dtype).toBe('BF16');
    expect(tensors['model.layers.1.input_layernorm.weight']!.dtype).toBe('F32');
    expect(JSON.parse(await readFile(join(target, 'config.json'), 'utf8'))).toEqual({ ...llama, torch_dtype: 'bfloat16' });
    const again = await fromPretrained(target);
    expect(again.report.dtypes).toEqual({ BF16: 16, F32: 5 });
    again.model.dispose();
    model.dispose();
  });

  it('leaves an older folder alone unless told, and as it was when it is aborted', async () => {
    const { model, config } = await made();
    const target = join(folder, 'new');
    await savePretrained(model, target, { config, maxShardBytes: 1000 });
    const before = await readdir(target);
    expect(before.length).toBeGreaterThan(3);
    await expect(savePretrained(model, target, { config })).rejects.toThrow(/must be a new or empty folder; got \d+ entries/);
    const controller = new AbortController();
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(savePretrained(model, target, { config, overwrite: true, signal: controller.signal })).rejects.toBe(reason);
    expect(await readdir(target)).toEqual(before);
    expect(await readdir(folder)).toEqual(['new']);
    // no shard of the older one is left to be read in place of the new file
    expect(await savePretrained(model, target, { config, overwrite: true })).toEqual(['config.json', 'model.safetensors']);
    expect(await readdir(folder)).toEqual(['new']);
    model.dispose();
  });

  it.each([
    ['another epsilon', { rms_norm_eps: 1e-3 }, /whose stack\.layers\.0\.norm1\.epsilon is 0\.000001; got 0\.001/],
    ['another base', { rope_theta: 3 }, /whose stack\.layers\.0\.mixer\.rotary\.base is 10000; got 3/],
    ['another width', { intermediate_size: 13 }, /whose stack\.layers\.0\.channel\.hidden is 12; got 13/],
    ['a layer more', { num_hidden_layers: 3 }, /whose stack\.layers\.2 is nothing; got Block/],
    ['a tied head', { tie_word_embeddings: true }, /whose tieEmbeddings is false; got true/],
  ])('refuses a config with %s', async (_case, change, message) => {
    const { model, config } = await made();
    const failed = savePretrained(model, join(folder, 'new'), { config: { ...config, ...change } });
    await expect(failed).rejects.toThrow(/config \(read as llama\) must be a description of this model/);
    await expect(failed).rejects.toThrow(message);
    expect(await readdir(folder)).toEqual([]);
    model.dispose();
  });

  it('takes a config that says the same in other words', async () => {
    const { model: loaded, config } = await made();
    const weights = await loaded.stateDict();
    loaded.dispose();
    const attention = { type: 'mha-mqa-gqa', heads: 2, kvHeads: 1, rotary: { base: 10000 } };
    const written: HybridConfig = {
      vocabSize: 17,
      dim: 8,
      mixers: 'first, second',
      channels: ['inner', 'inner'],
      // defaults that the adapter writes out are left out, and others written
      definitions: { first: attention, second: { ...attention, outputDeviation: 0.1 }, inner: { type: 'mlp', gated: true } },
      overrides: [{ at: '0-1', channel: { hidden: 12 } }],
      norm: { epsilon: 1e-6, affine: true },
      tieEmbeddings: false,
      seed: 3,
    };
    const model = new HybridModel(written);
    model.loadStateDict(weights);
    await savePretrained(model, join(folder, 'new'), { config });
    model.dispose();
    const again = await fromPretrained(join(folder, 'new'));
    expect(await again.model.stateDict()).toEqual(weights);
    again.model.dispose();
    // what has no shape is seen all the same
    const wrong = new HybridModel({ ...written, overrides: [...written.overrides!, { at: [1], mixer: { softCap: 30 } }] });
    await expect(savePretrained(wrong, join(folder, 'wrong'), { config })).rejects.toThrow(
      /whose stack\.layers\.1\.mixer\.softCap is 30; got null/,
    );
    wrong.dispose();
  });

  it('takes a published shape for the checkpoint of its family', async () => {
    const shape = { vocabSize: 17, dim: 8, depth: 2, heads: 2, kvHeads: 1, hidden: 12, epsilon: 1e-5 };
    const model = new HybridModel(architectures['transformer-pp'].config(shape));
    await savePretrained(model, join(folder, 'new'), { config: { ...llama, rms_norm_eps: 1e-5 } });
    const { adapter, model: again } = await fromPretrained(join(folder, 'new'));
    expect(adapter).toBe('llama');
    expect(await again.stateDict()).toEqual(await model.stateDict());
    model.dispose();
    again.dispose();
  });

  it('keeps any hybrid in our own form', async () => {
    const model = new HybridModel({
      vocabSize: 11,
      dim: 8,
      mixers: 'conv,linear',
      definitions: { conv: { type: 'gated-convolution' }, linear: { type: 'linear-attention', heads: 2 }, mlp: { type: 'mlp', hidden: 8 } },
      seed: 4,
    });
    await savePretrained(model, join(folder, 'own'));
    const again = await fromPretrained(join(folder, 'own'));
    expect(again.adapter).toBe('seqloom');
    expect(again.model.config).toEqual(model.config);
    const [one, two] = [await model.stateDict(), await again.model.stateDict()];
    expect(two).toEqual(one);
    model.dispose();
    again.model.dispose();
  });
});
