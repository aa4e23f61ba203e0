/** One line of a plot. */
export interface Line {
  readonly label: string;
  /** ascending in x, all above 0 where the axis is logarithmic */
  readonly points: readonly { readonly x: number; readonly y: number; readonly low?: number; readonly high?: number }[];
}

/** A plot on logarithmic axes. */
export interface CurvePanel {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  /** makes the x axis linear, from the first number to the second */
  readonly xRange?: readonly [low: number, high: number];
  /** makes the y axis linear, from the first number to the second */
  readonly yRange?: readonly [low: number, high: number];
  readonly lines: readonly Line[];
}

/** Horizontal bars in groups. */
export interface BarPanel {
  readonly title: string;
  readonly valueLabel: string;
  readonly groups: readonly { readonly label: string; readonly bars: readonly { readonly label: string; readonly value: number }[] }[];
}

/** What `drawPanels` draws. */
export type Panel = CurvePanel | BarPanel;

// told apart by colour-blind eyes too (Okabe and Ito)
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];
const [WIDTH, LEFT, RIGHT, TOP, PLOT_HEIGHT] = [640, 70, 20, 34, 250];
const COLUMNS = 2;

const escape = (value: string): string => value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const at = (value: number): string => value.toFixed(1);

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${at(x)}" y="${at(y)}" ${attributes}>${escape(content)}</text>`;
}

/** Ticks of a logarithmic axis: powers of ten, with 2 and 5 between them when there are few, or of two. */
export function logTicks(low: number, high: number, base: 2 | 10): number[] {
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log(low) / Math.log(base)); base ** power <= high * 1.0001; power++) {
    const steps = base === 10 && high / low < 1000 ? [1, 2, 5] : [1];
    for (const step of steps) {
      const tick = step * base ** power;
      if (tick >= low * 0.9999 && tick <= high * 1.0001) ticks.push(tick);
    }
  }
  return ticks;
}

/** How the numbers of a label are drawn: with more labels than colours, the later ones are dashed, then dotted. */
interface Style {
  readonly colour: string;
  readonly dash: string;
}

/** Numbers of one label always in one style over all panels of a picture. */
function palette(panels: readonly Panel[]): (label: string) => Style {
  const labels = [
    ...new Set(
      panels.flatMap((panel) => ('lines' in panel ? panel.lines : panel.groups.flatMap(({ bars }) => bars)).map(({ label }) => label)),
    ),
  ];
  return (label) => {
    const place = labels.indexOf(label);
    const round = Math.floor(place / colours.length);
    return { colour: colours[place % colours.length]!, dash: ['', ' stroke-dasharray="6 4"', ' stroke-dasharray="2 3"'][round % 3]! };
  };
}

function legend(labels: readonly string[], style: (label: string) => Style, top: number): { parts: string[]; height: number } {
  let [x, y] = [LEFT, top];
  const parts: string[] = [];
  for (const label of labels) {
    const width = 36 + label.length * 7;
    if (x > LEFT && x + width > WIDTH - RIGHT) [x, y] = [LEFT, y + 18];
    const { colour, dash } = style(label);
    const stroke = `stroke="${colour}" stroke-width="${dash ? 3 : 9}"${dash}`;
    parts.push(`<line x1="${at(x)}" x2="${at(x + 14)}" y1="${at(y - 4)}" y2="${at(y - 4)}" ${stroke}/>`, text(x + 18, y, label));
    x += width;
  }
  return { parts, height: y - top + 18 };
}

function curvePanel(panel: CurvePanel, style: (label: string) => Style): { body: string; height: number } {
  const points = panel.lines.flatMap((line) => line.points);
  const xs = points.map(({ x }) => x);
  const ys = points.flatMap(({ y, low, high }) => [y, low ?? y, high ?? y]);
  const [x0, x1] = panel.xRange ?? [Math.min(...xs), Math.max(...xs)];
  // a little air above and below
  const [y0, y1] = panel.yRange ?? [Math.min(...ys) / 1.3, Math.max(...ys) * 1.3];
  const place = (value: number, low: number, high: number): number => (high === low ? 0.5 : Math.log(value / low) / Math.log(high / low));
  const linear = (value: number, low: number, high: number): number => (value - low) / (high - low);
  const toX = (value: number): number => LEFT + (panel.xRange ? linear : place)(value, x0, x1) * (WIDTH - LEFT - RIGHT);
  const toY = (value: number): number => TOP + (1 - (panel.yRange ? linear : place)(value, y0, y1)) * PLOT_HEIGHT;
  const fifths = (low: number, high: number): number[] => [0, 1, 2, 3, 4, 5].map((fifth) => low + (fifth * (high - low)) / 5);
  const bottom = TOP + PLOT_HEIGHT;
  const parts = [text(LEFT, 20, panel.title, 'font-weight="600" font-size="14"')];
  for (const tick of panel.yRange ? fifths(y0, y1) : logTicks(y0, y1, 10)) {
    parts.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at(toY(tick))}" y2="${at(toY(tick))}" stroke="#ddd"/>`);
    parts.push(text(LEFT - 6, toY(tick) + 4, digits(tick), 'text-anchor="end"'));
  }
  for (const tick of panel.xRange ? fifths(x0, x1) : logTicks(x0, x1, 2)) {
    parts.push(`<line x1="${at(toX(tick))}" x2="${at(toX(tick))}" y1="${TOP}" y2="${bottom}" stroke="#eee"/>`);
    parts.push(text(toX(tick), bottom + 16, tick >= 1024 && tick % 1024 === 0 ? `${tick / 1024}k` : digits(tick), 'text-anchor="middle"'));
  }
  for (const { label, points } of panel.lines) {
    const path = points.map(({ x, y }, index) => `${index === 0 ? 'M' : 'L'}${at(toX(x))} ${at(toY(y))}`).join('');
    const { colour, dash } = style(label);
    parts.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`);
    for (const { x, y, low = y, high = y } of points) {
      const whisker = `<line x1="${at(toX(x))}" x2="${at(toX(x))}" y1="${at(toY(low))}" y2="${at(toY(high))}" stroke="${colour}"/>`;
      parts.push(whisker, `<circle cx="${at(toX(x))}" cy="${at(toY(y))}" r="3" fill="${colour}"/>`);
    }
  }
  parts.push(text((LEFT + WIDTH - RIGHT) / 2, bottom + 34, panel.xLabel, 'text-anchor="middle"'));
  const middle = TOP + PLOT_HEIGHT / 2;
  parts.push(text(16, middle, panel.yLabel, `text-anchor="middle" transform="rotate(-90 16 ${at(middle)})"`));
  const key = legend(
    panel.lines.map(({ label }) => label),
    style,
    bottom + 56,
  );
  return { body: [...parts, ...key.parts].join('\n'), height: bottom + 56 + key.height };
}

function barPanel(panel: BarPanel, style: (label: string) => Style): { body: string; height: number } {
  const largest = Math.max(...panel.groups.flatMap(({ bars }) => bars.map(({ value }) => value)));
  const parts = [text(LEFT, 20, `${panel.title}, ${panel.valueLabel}`, 'font-weight="600" font-size="14"')];
  let y = 36;
  for (const { label, bars } of panel.groups) {
    parts.push(text(10, y + 10, label));
    y += 18;
    for (const bar of bars) {
      const width = (bar.value / largest) * (WIDTH - 250);
      parts.push(`<rect x="120" y="${at(y)}" width="${at(Math.max(1, width))}" height="11" fill="${style(bar.label).colour}"/>`);
      parts.push(text(114, y + 10, bar.label, 'text-anchor="end"'), text(126 + width, y + 10, digits(bar.value)));
      y += 15;
    }
    y += 8;
  }
  return { body: parts.join('\n'), height: y + 8 };
}

/**
 * Draws panels side by side as one SVG, with a title line above; the x axis of curves is logarithmic.
 *
 * @param title a line of small print: machine, command
 * @returns the SVG document
 */
export function drawPanels(title: string, panels: readonly Panel[]): string {
  const style = palette(panels);
  const drawn = panels.map((panel) => ('lines' in panel ? curvePanel(panel, style) : barPanel(panel, style)));
  const columns = Math.min(COLUMNS, Math.max(1, drawn.length));
  const parts: string[] = [];
  let y = 30;
  for (let first = 0; first < drawn.length; first += columns) {
    const row = drawn.slice(first, first + columns);
    row.forEach(({ body }, column) => parts.push(`<g transform="translate(${column * WIDTH} ${y})">\n${body}\n</g>`));
    y += Math.max(...row.map(({ height }) => height)) + 10;
  }
  // the title may be longer than one panel is wide
  const [width, height] = [Math.max(columns * WIDTH, 20 + title.length * 7), Math.ceil(y)];
  const open = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="11.5" fill="#222">`;
  return [open, `<rect width="${width}" height="${height}" fill="#fff"/>`, text(10, 18, title, 'fill="#666"'), ...parts, '</svg>', ''].join(
    '\n',
  );
}

/** Three significant digits as text, without an exponent where that stays readable; `-` for what is not finite. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return '-';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
  return size >= 100 ? Math.round(value).toString() : Number(value.toPrecision(3)).toString();
}
