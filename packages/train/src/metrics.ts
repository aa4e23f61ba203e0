import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { onDisk } from './disk.ts';
import type { MetricsSink, StepMetrics } from './train-options.ts';

/**
 * Metrics as JSON lines in a file, one line a step.
 *
 * When a run resumes, lines of steps that it will do again are cut off, a half line of a killed process too.
 *
 * @param path the file; its folder is made when needed
 */
export function metricsFile(path: string): MetricsSink {
  let handle: FileHandle | null = null;
  const begin = async (step: number): Promise<void> => {
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.${randomUUID()}.tmp`;
    const kept = await open(temporary, 'wx');
    try {
      if (step > 0) for await (const line of readMetrics(path)) if (line.step <= step) await kept.write(`${JSON.stringify(line)}\n`);
      await kept.close();
      await rename(temporary, path);
    } catch (error) {
      await kept.close().catch(() => undefined);
      await rm(temporary, { force: true });
      throw error;
    }
    handle = await open(path, 'a');
  };
  return {
    start: (step) => onDisk('metrics', path, begin(step)),
    async write(metrics) {
      if (handle) await onDisk('metrics', path, handle.write(`${JSON.stringify(metrics)}\n`));
    },
    async close() {
      await handle?.close();
      handle = null;
    },
  };
}

/** The lines of a metrics file in order, as a stream; none when there is no such file. Lines that are no JSON end it. */
export async function* readMetrics(path: string): AsyncGenerator<StepMetrics, void, undefined> {
  const stream = createReadStream(path, 'utf8');
  try {
    for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) {
      let metrics: StepMetrics;
      try {
        metrics = JSON.parse(line) as StepMetrics;
      } catch {
        return;
      }
      yield metrics;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  } finally {
    stream.destroy();
  }
}
