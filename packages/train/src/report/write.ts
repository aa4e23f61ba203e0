import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { onDisk, replaceFile } from '../disk.ts';
import { reportHtml } from './html.ts';
import type { PlotLibrary, ReportContent } from './html.ts';

/**
 * Writes the report of a run as one HTML file, atomically.
 *
 * @param path the file to make or replace; its folder is made when needed
 */
export async function writeReport(path: string, content: ReportContent): Promise<void> {
  const page = reportHtml(content, await plotLibrary());
  await onDisk('report', path, replaceFile(path, page));
}

async function plotLibrary(): Promise<PlotLibrary> {
  const require = createRequire(import.meta.url);
  const folder = join(dirname(require.resolve('uplot/package.json')), 'dist');
  const [script, style] = await Promise.all(['uPlot.iife.min.js', 'uPlot.min.css'].map((name) => readFile(join(folder, name), 'utf8')));
  return { script: script!, style: style! };
}
