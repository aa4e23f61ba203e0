import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { StepMetrics } from '../train-options.ts';
import { reportHtml } from './html.ts';
import { thinSeries } from './series.ts';
import { writeReport } from './write.ts';

const metrics: StepMetrics[] = Array.from({ length: 5000 }, (_, i) => ({
  step: i + 1,
  loss: i === 7 ? Number.NaN : 2,
  bitsPerByte: 3,
  learningRate: 1e-3,
  gradientNorm: 0.5,
  tokensPerSecond: 1000 + i,
  skipped: i >= 7 ? 1 : 0,
}));

describe('report', () => {
  it('thins long runs and leaves skipped steps out', () => {
    const series = thinSeries(metrics, 100);
    expect(series.step.length).toBeLessThanOrEqual(100);
    expect(series.step.at(-1)).toBe(5000);
    expect(series.smooth.every((value) => Math.abs(value - 3) < 1e-9)).toBe(true);
    expect(series.tokensPerSecond.every(Number.isFinite)).toBe(true);
    expect(thinSeries([])).toMatchObject({ step: [], smooth: [] });
  });

  it('says how the model compares, and shows texts as texts', () => {
    const plot = { script: 'var uPlot = "</script>";', style: '' };
    const page = reportHtml(
      {
        title: 'A <run>',
        metrics,
        heldOutBitsPerByte: 2.2,
        markovBitsPerByte: [3.45, 2.81, 2.32, 2.12, 2.12],
        samples: [{ prompt: 'a & b', text: '</pre><script>alert(1)</script>' }],
        details: { config: { text: '</script>' } },
      },
      plot,
    );
    expect(page).toContain('better than byte Markov models of order 1, 2, 3');
    expect(page).toContain('<h1>A &lt;run&gt;</h1>');
    expect(page).not.toContain('<script>alert');
    expect(page).toContain('a &amp; b');
    // three of the page itself
    expect(page.match(/<\/script>/g)).toHaveLength(3);
    expect(reportHtml({ title: 't', metrics: [], heldOutBitsPerByte: 4, markovBitsPerByte: [3] }, plot)).toContain(
      'no byte Markov model is beaten yet',
    );
    expect(reportHtml({ title: 't', metrics: [], heldOutBitsPerByte: 1, markovBitsPerByte: [3, 2] }, plot)).toContain(
      'every byte Markov model up to order 2',
    );
  });

  it('is one file that needs nothing else', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'seqloom-report-'));
    const path = join(folder, 'new', 'report.html');
    await writeReport(path, { title: 'run', metrics });
    const page = await readFile(path, 'utf8');
    expect(page).toContain('uPlot=function');
    expect(page).toContain('.uplot');
    expect(page).not.toMatch(/(src|href)="|@import|url\(/);
    expect(await readdir(join(folder, 'new'))).toEqual(['report.html']);
    await rm(folder, { recursive: true });
  });
});
