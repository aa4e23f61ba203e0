// Weaves a hybrid that nobody published, trains it for a moment, and saves it as two files that any program can load.
//
//   npm run example examples/compose-hybrid.ts [text] [out-folder] [steps]
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setupBackend, writeSafetensors } from '@seqloom/core';
import { generate, HybridModel } from '@seqloom/models';
import { ByteTokeniser, memoryStore, train, WindowData } from '@seqloom/train';

const [text = 'README.md', folder = 'runs/compose-hybrid', steps = '80'] = process.argv.slice(2);
await setupBackend('auto');

const model = new HybridModel({
  vocabSize: 256,
  dim: 64,
  // attention and Mamba heads side by side, two delta-rule layers, and a layer that reads a large memory instead of an MLP
  mixers: 'beside, delta*2, beside',
  channels: 'mlp, memory, mlp, mlp',
  definitions: {
    beside: {
      type: 'parallel',
      branches: [
        { mixer: { type: 'sliding-window-attention', heads: 4, window: 32, projectOutput: false }, norm: true },
        { mixer: { type: 'mamba-s6', innerDim: 64, projectOutput: false }, norm: true },
      ],
      combine: 'mean',
      output: true,
    },
    delta: { type: 'gated-delta-net', heads: 2, headDim: 32 },
    mlp: { type: 'mlp', hidden: 128 },
    memory: { type: 'memory-layers-at-scale', halfKeys: 32, heads: 2, topK: 8 },
  },
  metaTokens: { count: 4 },
});
console.log(`${model.countParameters().toLocaleString('en')} parameters; state after 10,000 tokens: ${model.stateBytes(1, 10_000)} bytes`);

const codec = new ByteTokeniser();
const data = new WindowData(await memoryStore(await readFile(text, 'utf8'), { tokeniser: codec }), { length: 128, seed: 1 });
const run = train(model, { data, rows: 4, steps: Number(steps), schedule: { shape: 'cosine', peak: 4e-3, warmup: 10 }, evaluateEvery: 0 });
let bits = 0;
for await (const event of run) {
  if (event.type === 'step') bits += event.bitsPerByte / 20;
  if (event.type === 'step' && event.step % 20 === 0) {
    console.log(`step ${event.step}: ${bits.toFixed(2)} bits per byte over the last 20`);
    bits = 0;
  }
  if (event.type === 'evaluation') console.log(`held out: ${event.bitsPerByte.toFixed(2)} bits per byte`);
}

await mkdir(folder, { recursive: true });
await writeFile(join(folder, 'config.json'), JSON.stringify(model.config));
const weights = Object.entries(await model.stateDict()).map(([name, tensor]) => [name, { dtype: 'F32' as const, ...tensor }] as const);
await writeFile(join(folder, 'model.safetensors'), writeSafetensors(weights));

for await (const piece of generate(model, { prompt: 'The ', codec, maxNewTokens: 60, temperature: 0.8, seed: 1 }))
  process.stdout.write(piece.text);
console.log(`\nsaved to ${folder}`);
model.dispose();
