/** A tiny training run for the kill test: `kill-child.ts <folder> <steps>`; tells start and steps on stdout. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setupBackend } from '@seqloom/core';
import { openByteFile } from '../data/byte-file.ts';
import { WindowData } from '../data/windows.ts';
import { metricsFile } from '../metrics.ts';
import { ToyModel } from '../toy-model.ts';
import { train } from '../trainer.ts';
import { folderCheckpoints } from './folder.ts';

const [folder, steps] = process.argv.slice(2) as [string, string];
await setupBackend('wasm');
await mkdir(folder, { recursive: true });
const text = join(folder, 'text.txt');
await writeFile(text, Array.from({ length: 200 }, (_, i) => `${i} sheep went over the gate, `).join(''));
const data = new WindowData(await openByteFile(text), { length: 16, seed: 5 });
const run = train(new ToyModel({ vocabSize: 256, dim: 16 }), {
  data,
  rows: 4,
  steps: Number(steps),
  evaluateEvery: 40,
  checkpointEvery: 3,
  checkpoints: folderCheckpoints(join(folder, 'checkpoints')),
  metrics: metricsFile(join(folder, 'metrics.jsonl')),
});
for await (const event of run) if (event.type === 'start' || event.type === 'step') process.stdout.write(`${event.type} ${event.step}\n`);
await data.store.close();
