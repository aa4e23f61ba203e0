import { expect, it } from 'vitest';
import { describeMachine } from '../measure/machine.ts';
import { spreadOf } from '../measure/statistics.ts';
import type { SuiteResult } from '../measure/suite.ts';
import { markdownReport } from './markdown.ts';

const spread = spreadOf([1]);
const onGpu = (software: boolean): SuiteResult => ({
  suite: 'gpu',
  title: 'Kernels',
  about: 'All of them.',
  command: 'gpu',
  quick: false,
  clock: 'wall',
  kernels: 'kernels-gpu (wgsl)',
  baseline: 'seqloom',
  machine: { ...describeMachine(), gpu: 'a fine adapter', load: [0, 0, 0] },
  warning: null,
  gpu: { adapter: 'a fine adapter', software },
  peak: null,
  timing: { samples: 3, sampleMs: 2, warmMs: 0, budgetMs: 100 },
  peers: { versions: { webgpu: '1.2.3' }, skipped: [] },
  cases: [
    {
      ...{ name: 'MatMul', series: null, x: null, work: {}, refused: [], samples: 5, disturbed: 2, profile: null },
      rows: [
        {
          ...{ candidate: 'seqloom', implementation: 'wgsl', wall: spread, cpu: spread, repeats: 1, ms: 1, ratio: 1, gflops: null },
          ...{ ofPeak: null, gbPerSecond: null, tokensPerSecond: null, peakHeapBytes: null, facts: { submits: 2, 'peak bytes': 4096 } },
        },
      ],
    },
  ],
  floors: [
    { what: 'speed', wanted: 'at least 8x', measured: 3, met: null, open: 'needs a GPU' },
    { what: 'submits', wanted: 'at most 2', measured: 2, met: true },
  ],
  notes: [],
});

it('a page about a GPU names the adapter, shows counts, and leaves open what an emulated one cannot decide', () => {
  const page = markdownReport(onGpu(true), null);
  expect(page).toMatch(/^- Machine: .*GPU a fine adapter/m);
  expect(page).toContain('> This GPU is emulated on the processor');
  expect(page).not.toContain('FMA loop');
  expect(page).toContain('2 of 5 samples were disturbed');
  expect(page).toMatch(/\| submits \| peak bytes \|\n.*\n.*\| 2 \| 4,096 \|/);
  expect(page).toContain('| speed | at least 8x | 3 | needs a GPU |');
  expect(page).toContain('| submits | at most 2 | 2 | yes |');
  expect(markdownReport(onGpu(false), null)).not.toContain('emulated');
});
