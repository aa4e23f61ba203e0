import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Random } from '@seqloom/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readMetrics } from '../metrics.ts';
import type { StepMetrics } from '../train-options.ts';

// ten lives of at most 40 steps and some milliseconds each never reach the end, however fast the machine
const STEPS = 600;
const script = fileURLToPath(new URL('kill-child.ts', import.meta.url));
const random = new Random(Date.now());
let folder = '';

interface Life {
  /** step that the process went on from */
  readonly started: number;
  /** exit code, null when killed */
  readonly code: number | null;
  readonly lastStep: number;
}

/** Trains in a process of its own, and kills it some steps and milliseconds after its start, or lets it end. */
function live(run: string, killAfter: { readonly steps: number; readonly milliseconds: number } | null): Promise<Life> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--conditions=@seqloom/source', script, join(folder, run), String(STEPS)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let started = -1;
    let lastStep = -1;
    let dying = false;
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const lines = text.split('\n');
      text = lines.pop()!;
      for (const line of lines) {
        const [what, number] = line.split(' ');
        if (what === 'start') started = Number(number);
        else lastStep = Number(number);
        const done = Math.max(0, lastStep - started);
        if (killAfter !== null && !dying && done >= killAfter.steps) {
          dying = true;
          setTimeout(() => child.kill('SIGKILL'), killAfter.milliseconds);
        }
      }
    });
    child.on('error', reject);
    child.on('exit', (code) => resolve({ started, code, lastStep }));
  });
}

async function newestStep(run: string): Promise<number> {
  try {
    const { checkpoint } = JSON.parse(await readFile(join(folder, run, 'checkpoints', 'latest.json'), 'utf8')) as { checkpoint: string };
    return Number(/^step-(\d+)/.exec(checkpoint)![1]);
  } catch {
    const names = await readdir(join(folder, run, 'checkpoints')).catch(() => []);
    const whole = names.filter((name) => name.startsWith('step-')).toSorted();
    return whole.length === 0 ? 0 : Number(/^step-(\d+)/.exec(whole.at(-1)!)![1]);
  }
}

async function finalFiles(run: string): Promise<Buffer[]> {
  const { checkpoint } = JSON.parse(await readFile(join(folder, run, 'checkpoints', 'latest.json'), 'utf8')) as { checkpoint: string };
  const at = join(folder, run, 'checkpoints', checkpoint);
  return Promise.all(['weights.safetensors', 'optimiser.safetensors'].map((name) => readFile(join(at, name))));
}

async function metricsOf(run: string): Promise<Omit<StepMetrics, 'tokensPerSecond'>[]> {
  const lines: Omit<StepMetrics, 'tokensPerSecond'>[] = [];
  for await (const { tokensPerSecond: _speed, ...line } of readMetrics(join(folder, run, 'metrics.jsonl'))) lines.push(line);
  return lines;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seqloom-kill-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('kill -9', () => {
  it('at ten random moments changes no bit of the result', async () => {
    const whole = await live('whole', null);
    expect(whole).toEqual({ started: 0, code: 0, lastStep: STEPS });
    const starts: number[] = [];
    for (let kill = 0; kill < 10; kill++) {
      const newest = await newestStep('killed');
      const life = await live('killed', { steps: random.below(41), milliseconds: random.below(6) });
      expect(life.code, `kill ${kill + 1} came after the end: make the run longer`).toBeNull();
      expect(life.started, 'each start goes on from the last checkpoint').toBe(newest);
      starts.push(life.started);
    }
    const last = await live('killed', null);
    expect(last).toMatchObject({ code: 0, lastStep: STEPS });
    expect(last.started).toBeGreaterThan(0);
    process.stdout.write(`kill -9: ten starts at steps ${starts.join(', ')}, then ${last.started} to ${STEPS}\n`);
    const [a, b] = [await finalFiles('whole'), await finalFiles('killed')];
    expect(a.map((file, i) => file.equals(b[i]!))).toEqual([true, true]);
    expect(await metricsOf('killed')).toEqual(await metricsOf('whole'));
    // nothing half written is left
    const names = await readdir(join(folder, 'killed', 'checkpoints'));
    expect(names.filter((name) => name.startsWith('.'))).toEqual([]);
  });
});
