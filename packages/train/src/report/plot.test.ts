import { describe, expect, it } from 'vitest';
import { drawPanels, logTicks } from './plot.ts';

describe('plots', () => {
  it('puts ticks at round numbers', () => {
    expect(logTicks(0.9, 60, 10)).toEqual([1, 2, 5, 10, 20, 50]);
    expect(logTicks(256, 4096, 2)).toEqual([256, 512, 1024, 2048, 4096]);
    expect(logTicks(1, 1e4, 10)).toEqual([1, 10, 100, 1000, 10000]);
  });

  it('draws a range that is given on a linear axis, ticks at its fifths', () => {
    const points = [4, 8, 16].map((x, i) => ({ x, y: i / 2 }));
    const svg = drawPanels('', [{ title: 'shares', xLabel: 'x', yLabel: 'y', yRange: [0, 1], lines: [{ label: 'a', points }] }]);
    const heights = [...svg.matchAll(/<circle cx="[\d.]+" cy="([\d.]+)"/g)].map(([, y]) => Number(y));
    expect(heights).toHaveLength(3);
    expect(heights[0]! - heights[1]!).toBeCloseTo(heights[1]! - heights[2]!, 6);
    for (const tick of ['0', '0.2', '0.4', '0.6', '0.8', '1']) expect(svg).toContain(`>${tick}</text>`);
    expect(svg).not.toContain('NaN');
    const linear = drawPanels('', [
      { title: 'depth', xLabel: 'x', yLabel: 'y', xRange: [0, 16], yRange: [0, 1], lines: [{ label: 'a', points }] },
    ]);
    const places = [...linear.matchAll(/<circle cx="([\d.]+)"/g)].map(([, x]) => Number(x));
    expect(places[2]! - places[1]!).toBeCloseTo(2 * (places[1]! - places[0]!), 6);
    expect(linear).toContain('>3.2</text>');
  });

  it('draws a curve per candidate, in one colour over all panels, with its texts escaped', () => {
    const line = (label: string, y: number) => ({
      label,
      points: [256, 1024].map((x) => ({ x, y: y * x, low: y * x * 0.9, high: y * x * 1.1 })),
    });
    const panel = (title: string) => ({ title, xLabel: 'T', yLabel: 'ms', lines: [line('a < b', 1), line('c', 3)] });
    const svg = drawPanels('a machine', [
      panel('one'),
      panel('two'),
      { title: 'bars', valueLabel: 'GFLOP/s', groups: [{ label: 'case', bars: [{ label: 'c', value: 2 }] }] },
    ]);
    expect(svg.match(/<path /g)).toHaveLength(4);
    expect(svg.match(/a &lt; b/g)).toHaveLength(2);
    expect(svg).not.toContain('NaN');
    const colourOf = (tag: string): Set<string> =>
      new Set([...svg.matchAll(new RegExp(`<${tag} [^>]*stroke="(#\\w+)" stroke-width`, 'g'))].map(([, colour]) => colour!));
    expect(colourOf('path').size).toBe(2);
    expect(svg.trim().endsWith('</svg>')).toBe(true);
  });
});
