import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readSafetensors } from '@seqloom/core';
import { afterAll, expect, test } from 'vitest';
import { root } from '../tools/workspace.ts';

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'seqloom-examples-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function example(...words: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, ['--conditions=@seqloom/source', '--no-warnings', ...words], {
    cwd: root,
    timeout: 300_000,
  });
  return stdout;
}

test('a hybrid is composed, learns, writes, and is saved whole', async () => {
  const out = await example('examples/compose-hybrid.ts', 'README.md', join(folder, 'hybrid'), '40');
  const bits = [...out.matchAll(/step \d+: ([\d.]+) bits/g)].map((match) => Number(match[1]));
  expect(bits.at(-1)).toBeLessThan(bits[0]!);
  const { tensors } = readSafetensors(readFileSync(join(folder, 'hybrid', 'model.safetensors')));
  const count = Object.values(tensors).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  expect(out).toContain(`${count.toLocaleString('en')} parameters`);
});

test('a checkpoint is loaded, learns a text, and is saved under the names that it came with', async () => {
  const runs = join(root, 'runs');
  for (const name of ['base-llama', 'fine-tuned']) rmSync(join(runs, name), { recursive: true, force: true });
  const out = await example('examples/fine-tune.ts');
  const [before, after] = [...out.matchAll(/held out, (?:before|after): ([\d.]+)/g)].map((match) => Number(match[1]));
  expect(after).toBeLessThan(before!);
  const names = (name: string): string[] =>
    Object.keys(readSafetensors(readFileSync(join(runs, name, 'model.safetensors'))).tensors).toSorted();
  expect(names('fine-tuned')).toEqual(names('base-llama'));
  expect(names('fine-tuned')).toContain('model.layers.1.self_attn.q_proj.weight');
});

test('a state goes to another process, which writes what this one would have written', async () => {
  expect(await example('examples/hand-over-state.ts')).toContain('and this one writes the same');
});
