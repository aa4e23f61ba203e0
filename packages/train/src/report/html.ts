import type { HistoryPoint } from '../checkpoint/record.ts';
import type { StepMetrics } from '../train-options.ts';
import { chartScript } from './charts.ts';
import { thinSeries } from './series.ts';
import { style } from './style.ts';

/** What a report shows; leave out what there is not. */
export interface ReportContent {
  readonly title: string;
  /** one entry per step */
  readonly metrics: readonly StepMetrics[];
  /** held-out results while training */
  readonly evaluations?: readonly HistoryPoint[];
  /** held-out bits per byte of byte Markov models of order 1, 2, ... */
  readonly markovBitsPerByte?: readonly number[];
  /** held-out bits per byte of the trained model */
  readonly heldOutBitsPerByte?: number | null;
  /** more figures for the head of the page, by label */
  readonly figures?: Readonly<Record<string, string | number>>;
  /** texts that the model wrote */
  readonly samples?: readonly { readonly prompt: string; readonly text: string }[];
  /** plain JSON, shown as it is: model, training, backend, kernels */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The plot library, to be put into the page. */
export interface PlotLibrary {
  readonly script: string;
  readonly style: string;
}

/**
 * A training run as one HTML page that needs nothing else: curves, figures, samples, config; readable in light and dark.
 *
 * @param plot sources of uPlot (`dist/uPlot.iife.min.js` and `dist/uPlot.min.css`)
 * @returns the page
 */
export function reportHtml(content: ReportContent, plot: PlotLibrary): string {
  const { title, metrics, evaluations = [], markovBitsPerByte = [], samples = [], details = {} } = content;
  const data = { series: thinSeries(metrics), evaluations, markov: markovBitsPerByte };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>${plot.style}
${style}</style>
</head>
<body>
<main>
<h1>${escape(title)}</h1>
${verdict(content)}
<dl class="figures">
${Object.entries(headFigures(content))
  .map(([label, value]) => `<div><dt>${escape(label)}</dt><dd>${escape(String(value))}</dd></div>`)
  .join('\n')}
</dl>
<section><h2>Bits per byte</h2><div id="loss" class="chart tall"></div></section>
<div class="row">
<section><h2>Learning rate</h2><div id="rate" class="chart"></div></section>
<section><h2>Gradient norm</h2><div id="norm" class="chart"></div></section>
<section><h2>Tokens per second</h2><div id="speed" class="chart"></div></section>
</div>
${samples.map(({ prompt, text }) => `<section><h2>Sample</h2><pre class="sample"><b>${escape(prompt)}</b>${escape(text)}</pre></section>`).join('\n')}
${Object.entries(details)
  .map(
    ([label, value]) => `<details><summary>${escape(label)}</summary><pre>${escape(JSON.stringify(value, null, 2) ?? '')}</pre></details>`,
  )
  .join('\n')}
</main>
<script type="application/json" id="data">${JSON.stringify(data).replaceAll('<', '\\u003c')}</script>
<script>${plot.script.replaceAll('</script', '<\\/script')}</script>
<script>${chartScript}</script>
</body>
</html>
`;
}

/** One sentence on how the model compares with the Markov models. */
function verdict({ heldOutBitsPerByte, markovBitsPerByte = [] }: ReportContent): string {
  if (heldOutBitsPerByte === undefined || heldOutBitsPerByte === null || markovBitsPerByte.length === 0) return '';
  const beaten = markovBitsPerByte.flatMap((bits, i) => (heldOutBitsPerByte < bits ? [i + 1] : []));
  const own = `On held-out text the model needs <strong>${heldOutBitsPerByte.toFixed(3)}</strong> bits per byte`;
  if (beaten.length === 0) return `<p>${own}: no byte Markov model is beaten yet.</p>`;
  const order =
    beaten.length === markovBitsPerByte.length ? `every byte Markov model up to order ${beaten.length}` : `order ${beaten.join(', ')}`;
  return `<p>${own}: better than ${beaten.length === markovBitsPerByte.length ? order : `byte Markov models of ${order}`}.</p>`;
}

function headFigures({ metrics, heldOutBitsPerByte, figures = {} }: ReportContent): Record<string, string | number> {
  const last = metrics.at(-1);
  const speeds = metrics.map(({ tokensPerSecond }) => tokensPerSecond).toSorted((a, b) => a - b);
  return {
    ...(typeof heldOutBitsPerByte === 'number' ? { 'held-out bits/byte': heldOutBitsPerByte.toFixed(3) } : {}),
    ...(last ? { steps: last.step.toLocaleString('en') } : {}),
    ...(speeds.length > 0 ? { 'tokens/s (median)': Math.round(speeds[Math.floor(speeds.length / 2)]!).toLocaleString('en') } : {}),
    ...(last && last.skipped > 0 ? { 'skipped steps': last.skipped } : {}),
    ...figures,
  };
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
