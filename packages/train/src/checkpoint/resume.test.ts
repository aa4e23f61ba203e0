import { createHash } from 'node:crypto';
import type * as files from 'node:fs/promises';
import { cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { setupBackend, writeSafetensors } from '@seqloom/core';
import type { StateDict } from '@seqloom/core';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { ByteTokeniser } from '../data/byte-tokeniser.ts';
import { memoryStore } from '../data/memory-store.ts';
import { WindowData } from '../data/windows.ts';
import { metricsFile, readMetrics } from '../metrics.ts';
import { ToyModel } from '../toy-model.ts';
import { train } from '../trainer.ts';
import type { TrainEvent, TrainOptions, TrainSummary } from '../train-options.ts';
import { folderCheckpoints } from './folder.ts';

const disk = vi.hoisted(() => ({ bytesLeft: Infinity }));
// a disk that can be made to fill up
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof files>();
  return {
    ...real,
    open: async (...given: Parameters<typeof real.open>) => {
      const handle = await real.open(...given);
      if (disk.bytesLeft === Infinity) return handle;
      const write = handle.writeFile.bind(handle);
      handle.writeFile = async (content) => {
        const bytes = Buffer.from(content as Uint8Array);
        await write(bytes.subarray(0, Math.max(0, Math.min(bytes.length, disk.bytesLeft))));
        disk.bytesLeft -= bytes.length;
        if (disk.bytesLeft < 0)
          throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
      };
      return handle;
    },
  };
});

const text = Array.from({ length: 90 }, (_, i) => `${i} green bottles hanging on the wall, `).join('');
const makeData = async (options: { seed?: number; length?: number; text?: string } = {}): Promise<WindowData> =>
  new WindowData(await memoryStore(options.text ?? text, { tokeniser: new ByteTokeniser() }), {
    length: options.length ?? 16,
    seed: options.seed ?? 3,
  });

interface Outcome {
  readonly events: TrainEvent[];
  readonly summary: TrainSummary;
  readonly weights: StateDict;
}

async function go(options: Partial<TrainOptions>, model = new ToyModel({ vocabSize: 256, dim: 8 })): Promise<Outcome> {
  const data = options.data ?? (await makeData());
  const run = train(model, { rows: 4, accumulate: 2, evaluateEvery: null, ...options, data });
  const events: TrainEvent[] = [];
  try {
    for (;;) {
      const { done, value } = await run.next();
      if (done) return { events, summary: value, weights: await model.stateDict() };
      events.push(value);
    }
  } finally {
    model.dispose();
  }
}

/** Ends a run after a step as Ctrl-C does. */
async function goUntil(step: number, options: Partial<TrainOptions>): Promise<Outcome> {
  const controller = new AbortController();
  const metrics = {
    start: () => Promise.resolve(),
    write: (line: { step: number }) => Promise.resolve(line.step === step ? controller.abort() : undefined),
    close: () => Promise.resolve(),
  };
  return go({ ...options, metrics, signal: controller.signal });
}

let folder = '';
beforeAll(async () => {
  await setupBackend('wasm');
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seqloom-train-'));
});
afterEach(async () => {
  disk.bytesLeft = Infinity;
  await rm(folder, { recursive: true, force: true });
});

describe('resume', () => {
  it('equals a run that never stopped, bit for bit', async () => {
    const whole = await go({ steps: 20 });
    const before = tf.memory().numTensors;
    const first = await goUntil(10, { steps: 20, checkpoints: folderCheckpoints(folder) });
    expect(first.summary).toMatchObject({ reason: 'aborted', step: 10, total: 20 });
    const second = await go({ steps: 20, checkpoints: folderCheckpoints(folder) });
    expect(second.events[0]).toMatchObject({ type: 'start', step: 10, total: 20, resumed: true });
    expect(second.events.filter((event) => event.type === 'step')).toHaveLength(10);
    expect(second.summary).toMatchObject({ reason: 'done', step: 20, tokens: 20 * 4 * 2 * 16 });
    for (const [name, { data }] of Object.entries(whole.weights)) {
      expect(new Uint8Array(second.weights[name]!.data.buffer), name).toEqual(new Uint8Array(data.buffer));
    }
    expect(tf.memory().numTensors).toBe(before);
  });

  it('keeps a total that was made from minutes', async () => {
    let now = 0;
    const clock = (): number => (now += 0.1);
    const first = await goUntil(20, { minutes: 0.2, clock, checkpoints: folderCheckpoints(folder) });
    expect(first.summary.total).toBeGreaterThan(20);
    const second = await go({ minutes: 0.2, clock: () => (now += 5), checkpoints: folderCheckpoints(folder) });
    expect(second.summary).toMatchObject({ reason: 'done', step: first.summary.total, total: first.summary.total });
  });

  it('cuts metrics of steps that are done again, and half a line', async () => {
    const path = join(folder, 'metrics.jsonl');
    await go({ steps: 6, checkpointEvery: 4, metrics: metricsFile(path), checkpoints: folderCheckpoints(join(folder, 'a'), { keep: 5 }) });
    await writeFile(join(folder, 'a', 'latest.json'), '{"checkpoint":"step-00000004"}');
    const lines = await readFile(path, 'utf8');
    await writeFile(path, `${lines}{"step":7,"lo`);
    await go({ steps: 8, metrics: metricsFile(path), checkpoints: folderCheckpoints(join(folder, 'a')) });
    const steps: number[] = [];
    for await (const line of readMetrics(path)) steps.push(line.step);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('does nothing more for a run that is done', async () => {
    await go({ steps: 3, checkpoints: folderCheckpoints(folder) });
    const again = await go({ steps: 3, checkpoints: folderCheckpoints(folder) });
    expect(again.events.map(({ type }) => type)).toEqual(['start']);
    expect(again.summary).toMatchObject({ reason: 'done', step: 3 });
  });
});

describe('a checkpoint folder', () => {
  it('keeps the last ones and no temporary files', async () => {
    await go({ steps: 9, checkpointEvery: 2, checkpoints: folderCheckpoints(folder, { keep: 2 }) });
    expect((await readdir(folder)).toSorted()).toEqual(['latest.json', 'step-00000008', 'step-00000009']);
  });

  it('is as it was after a disk ran full, at whatever byte', async () => {
    await go({ steps: 2, checkpoints: folderCheckpoints(folder) });
    const sizes = await Promise.all(
      ['weights.safetensors', 'optimiser.safetensors', 'run.json'].map(
        async (name) => (await readFile(join(folder, 'step-00000002', name))).length,
      ),
    );
    const [one, two, three] = sizes.map((_, i) => sizes.slice(0, i + 1).reduce((sum, size) => sum + size, 0)) as [number, number, number];
    const before = await readdir(folder);
    for (const bytesLeft of [0, 100, one - 1, one + 10, two - 1, two + 10, three + 5]) {
      disk.bytesLeft = bytesLeft;
      const tensors = tf.memory().numTensors;
      await expect(go({ steps: 4, checkpointEvery: 9, checkpoints: folderCheckpoints(folder) })).rejects.toThrow(
        /ENOSPC.*Free space on the disk/,
      );
      disk.bytesLeft = Infinity;
      expect(await readdir(folder)).toEqual(before);
      expect(tf.memory().numTensors).toBe(tensors);
    }
    const after = await go({ steps: 4, checkpoints: folderCheckpoints(folder) });
    expect(after.events[0]).toMatchObject({ step: 2, resumed: true });
  });

  it('refuses what is damaged, and says so before the model changes', async () => {
    await go({ steps: 2, checkpoints: folderCheckpoints(folder) });
    const at = join(folder, 'step-00000002');
    const spoil: [string, RegExp, (copy: string) => Promise<void>][] = [
      ['truncated weights', /weights\.safetensors must be \d+ bytes long/, (copy) => truncate(join(copy, 'weights.safetensors'), 900)],
      ['missing moments', /optimiser\.safetensors must be there; got no such file/, (copy) => rm(join(copy, 'optimiser.safetensors'))],
      ['half a run file', /run\.json must be whole JSON/, (copy) => truncate(join(copy, 'run.json'), 50)],
      ['a flipped byte', /weights\.safetensors must be as it was written/, (copy) => flip(join(copy, 'weights.safetensors'))],
      [
        'a pointer to nothing',
        /step-00000007.*must be there/,
        (copy) => writeFile(join(copy, '..', 'latest.json'), '{"checkpoint":"step-00000007"}'),
      ],
      [
        'a pointer that climbs',
        /latest\.json must be the name/,
        (copy) => writeFile(join(copy, '..', 'latest.json'), '{"checkpoint":"../x"}'),
      ],
    ];
    for (const [what, message, damage] of spoil) {
      const copy = join(folder, what.replaceAll(' ', '-'));
      await cp(at, join(copy, 'step-00000002'), { recursive: true });
      await cp(join(folder, 'latest.json'), join(copy, 'latest.json'));
      await damage(join(copy, 'step-00000002'));
      await expect(go({ steps: 4, checkpoints: folderCheckpoints(copy) }), what).rejects.toThrow(message);
    }
  });

  it('is refused when a weight is NaN, or of another type', async () => {
    await go({ steps: 2, checkpoints: folderCheckpoints(folder) });
    const good = (await folderCheckpoints(folder).load())!;
    const bias = { shape: [256], data: new Float32Array(256).fill(Number.NaN) };
    const store = {
      load: () => Promise.resolve({ ...good, weights: { ...good.weights, 'head.bias': bias } }),
      save: () => Promise.resolve(),
    };
    await expect(go({ steps: 4, checkpoints: store })).rejects.toThrow('weights["head.bias"] must be finite; got NaN at index 0');
    // a file whose checksum is right and whose content is not
    const at = join(folder, 'step-00000002');
    const bytes = writeSafetensors({ 'head.bias': { dtype: 'I32', shape: [1], data: new Int32Array(1) } });
    await writeFile(join(at, 'weights.safetensors'), bytes);
    const run = JSON.parse(await readFile(join(at, 'run.json'), 'utf8')) as { files: Record<string, unknown> };
    run.files['weights.safetensors'] = { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
    await writeFile(join(at, 'run.json'), JSON.stringify(run));
    await expect(go({ steps: 4, checkpoints: folderCheckpoints(folder) })).rejects.toThrow('a file of F32 tensors; got I32 in head.bias');
  });

  it('is refused by another model, text, order or window', async () => {
    await go({ steps: 2, checkpoints: folderCheckpoints(folder) });
    const checkpoints = folderCheckpoints(folder);
    await expect(go({ steps: 4, checkpoints }, new ToyModel({ vocabSize: 256, dim: 12 }))).rejects.toThrow(
      'config must be that of this model (dim 12)',
    );
    await expect(go({ steps: 4, checkpoints, data: await makeData({ seed: 4 }) })).rejects.toThrow('position.seed must be 4');
    await expect(go({ steps: 4, checkpoints, data: await makeData({ length: 8 }) })).rejects.toThrow('position.length must be 8');
    await expect(go({ steps: 4, checkpoints, data: await makeData({ text: `${text}!` }) })).rejects.toThrow('position.text');
    await expect(go({ steps: 4, checkpoints, optimiser: { groups: [{ match: 'head.*', frozen: true }] } })).rejects.toThrow(
      'of a parameter that is trained',
    );
    expect((await go({ steps: 4, checkpoints, resume: false })).events[0]).toMatchObject({ step: 0, resumed: false });
  });
});

async function flip(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[bytes.length - 9]! ^= 64;
  await writeFile(path, bytes);
}
