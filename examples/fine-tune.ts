// Loads a checkpoint as it stands on a hub (Llama, Mamba, Hymba, Kimi Linear, …), trains it further on a text, and saves it under its original names.
//
//   npm run example examples/fine-tune.ts [id-or-folder] [text] [out-folder] [steps]
//
// Without an id it makes a small Llama over bytes first, so that it runs without a network.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setupBackend } from '@seqloom/core';
import { HybridModel } from '@seqloom/models';
import { fromPretrained, savePretrained } from '@seqloom/models/node';
import { ConfigReader, findAdapter } from '@seqloom/models/pretrained';
import { ByteTokeniser, evaluate, memoryStore, train, WindowData } from '@seqloom/train';
import type { Tokeniser } from '@seqloom/train';
import { loadTokeniser } from '@seqloom/train/node';

const [source = await makeBase('runs/base-llama'), text = 'bench/README.md', out = 'runs/fine-tuned', steps = '40'] = process.argv.slice(2);
await setupBackend('auto');

const { model, config, folder, report } = await fromPretrained(source);
console.log(`loaded ${report.parameters.toLocaleString('en')} parameters from ${source}`);

const tokeniser: Tokeniser = existsSync(join(folder, 'tokenizer.json')) ? await loadTokeniser(folder) : new ByteTokeniser();
const store = await memoryStore(await readFile(text, 'utf8'), { tokeniser });
const data = new WindowData(store, { length: 64, seed: 3 });
const score = async (): Promise<string> => (await evaluate(model, data)).bitsPerByte.toFixed(2);
console.log(`${text}, held out, before: ${await score()} bits per byte`);

// the table of ids and the norms stay as they are; only what mixes learns
for (const [name, parameter] of model.namedParameters()) if (/embedding|head|norm/i.test(name)) parameter.trainable = false;
const run = train(model, {
  data,
  rows: 4,
  steps: Number(steps),
  schedule: { shape: 'cosine', peak: 1e-3, warmup: 4 },
  evaluateEvery: null,
});
for await (const event of run)
  if (event.type === 'step' && event.step % 10 === 0) console.log(`step ${event.step}: ${event.bitsPerByte.toFixed(2)}`);
console.log(`${text}, held out, after: ${await score()} bits per byte`);

await savePretrained(model, out, { config, companions: folder, overwrite: true });
console.log(`saved to ${out}, in the names that it came with`);
model.dispose();

/** A Llama of 100,000 parameters that has read this repository's README. */
async function makeBase(target: string): Promise<string> {
  if (existsSync(target)) return target;
  await setupBackend('auto');
  const config = {
    ...{ model_type: 'llama', architectures: ['LlamaForCausalLM'], vocab_size: 256, hidden_size: 64, num_hidden_layers: 2 },
    ...{ num_attention_heads: 4, num_key_value_heads: 2, intermediate_size: 128, rms_norm_eps: 1e-6, tie_word_embeddings: true },
  };
  const reader = new ConfigReader(config);
  const base = new HybridModel(findAdapter(reader).toHybrid(reader));
  const readme = await memoryStore(await readFile('README.md', 'utf8'), { tokeniser: new ByteTokeniser() });
  const windows = new WindowData(readme, { length: 64, seed: 2 });
  const run = train(base, { data: windows, rows: 8, steps: 60, schedule: { shape: 'cosine', peak: 4e-3, warmup: 6 }, evaluateEvery: null });
  for await (const event of run)
    if (event.type === 'step' && event.step % 20 === 0) console.log(`base, step ${event.step}: ${event.bitsPerByte.toFixed(2)}`);
  await savePretrained(base, target, { config });
  base.dispose();
  return target;
}
