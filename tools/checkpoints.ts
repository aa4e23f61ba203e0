/** Loads every golden checkpoint, compares it with what the original code gave, and writes the table of packages/models/CHECKPOINTS.md. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSafetensors, setupBackend, toFloat32 } from '@seqloom/core';
import { generate } from '@seqloom/models';
import { fromPretrained, savePretrained } from '@seqloom/models/node';
import * as tf from '@tensorflow/tfjs-core';
import { root } from './workspace.ts';

const folder = join(root, 'packages/models/golden/models');
const out = mkdtempSync(join(tmpdir(), 'seqloom-checkpoints-'));

const rows: string[] = [];
for (const name of readdirSync(folder).toSorted()) {
  const io = readSafetensors(readFileSync(join(folder, name, 'io.safetensors'))).tensors;
  const wanted = { logits: toFloat32(io['logits']!), ids: [...(io['generated_ids']!.data as Int32Array)] };
  const input = io['input_ids']!;
  const cells: string[] = [name];
  for (const backend of ['cpu', 'wasm'] as const) {
    await setupBackend(backend);
    const { model, config } = await fromPretrained(join(folder, name));
    if (backend === 'cpu') cells.push(model.countParameters().toLocaleString('en'));
    const ids = tf.tensor2d(input.data as Int32Array, input.shape as [number, number], 'int32');
    const [error, logits] = logitError(model, ids, wanted.logits);
    cells.push(error.toExponential(1));
    const written: number[][] = Array.from({ length: ids.shape[0] }, () => []);
    const prompt = (await ids.array()) as number[][];
    for await (const { row, id } of generate(model, { prompt, maxNewTokens: 16, temperature: 0 })) written[row]!.push(id!);
    const equal = written.flat().join() === wanted.ids.join();
    const copy = join(out, `${name}-${backend}`);
    await savePretrained(model, copy, { config });
    const again = await fromPretrained(copy);
    const [, reloaded] = logitError(again.model, ids, wanted.logits);
    cells.push(
      equal ? 'equal' : 'DIFFER',
      Buffer.compare(Buffer.from(logits.buffer), Buffer.from(reloaded.buffer)) === 0 ? 'equal' : 'DIFFER',
    );
    ids.dispose();
    model.dispose();
    again.model.dispose();
  }
  rows.push(`| ${cells.join(' | ')} |`);
  process.stderr.write(`${rows.at(-1)}\n`);
}
rmSync(out, { recursive: true });

const page = `# Checkpoints against the original code

Written by \`npm run docs:checkpoints\`. Each checkpoint is a small model that the original code made, with its logits and sixteen greedy tokens for two prompts
([provenance](golden/PROVENANCE.md)). Per backend: the largest difference of a logit relative to the largest logit, whether the sixteen tokens of both
rows are the same, and whether the model saved and loaded again gives the same logits bit for bit.

| checkpoint | parameters | cpu: logits | greedy | reloaded | wasm: logits | greedy | reloaded |
| --- | --: | --: | --- | --- | --: | --- | --- |
${rows.join('\n')}
`;
writeFileSync(join(root, 'packages/models/CHECKPOINTS.md'), page);
if (page.includes('DIFFER')) process.exitCode = 1;

function logitError(
  model: Awaited<ReturnType<typeof fromPretrained>>['model'],
  ids: tf.Tensor2D,
  wanted: Float32Array,
): [number, Float32Array<ArrayBuffer>] {
  const { logits, state } = model.forward(ids);
  const given = Float32Array.from(logits.dataSync());
  tf.dispose([logits, { ...state }]);
  let [error, largest] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    error = Math.max(error, Math.abs(given[i]! - wanted[i]!));
    largest = Math.max(largest, Math.abs(wanted[i]!));
  }
  return [error / largest, given];
}
