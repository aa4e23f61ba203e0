/** Script of the report: draws the charts with uPlot, and again when width or colour scheme change. */
export const chartScript = `
(() => {
  const { series, evaluations, markov } = JSON.parse(document.getElementById('data').textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
  const short = (value) => value == null ? '-' : Math.abs(value) >= 1000 ? (value / 1000).toPrecision(3) + 'k'
    : Math.abs(value) >= 0.01 || value === 0 ? String(+value.toPrecision(4)) : value.toExponential(1);
  let plots = [];

  // dashed lines of the Markov models, each with its name at the right end
  const markovLines = (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour('markov');
    ctx.lineWidth = devicePixelRatio;
    ctx.font = 11 * devicePixelRatio + 'px system-ui, sans-serif';
    ctx.textAlign = 'left';
    ctx.textBaseline = 'bottom';
    markov.map((bits, i) => ({ bits, name: 'order ' + (i + 1) })).sort((a, b) => a.bits - b.bits).forEach(({ bits, name }, i, all) => {
      const y = plot.valToPos(bits, 'y', true);
      if (y < bbox.top || y > bbox.top + bbox.height) return;
      ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      // lines that lie on one another share a label
      const near = all.filter((other) => Math.abs(plot.valToPos(other.bits, 'y', true) - y) < 13 * devicePixelRatio);
      if (near[0].name !== name) return;
      const text = near.map((other) => other.name + ': ' + other.bits.toFixed(2)).sort().join(', ');
      ctx.fillText('Markov ' + text, bbox.left + 6 * devicePixelRatio, y - 2 * devicePixelRatio);
    });
    ctx.restore();
  };

  const chart = (id, data, lines, more = {}) => {
    const place = document.getElementById(id);
    place.textContent = '';
    const grid = { stroke: colour('line'), width: 1 };
    const axis = { stroke: colour('soft'), grid, ticks: grid, font: '11px system-ui, sans-serif' };
    const tall = place.classList.contains('tall');
    plots.push(new uPlot({
      width: place.clientWidth,
      height: place.clientHeight - (tall ? 30 : 28),
      scales: { x: { time: false }, y: more.range ? { range: more.range } : {} },
      axes: [{ ...axis, label: undefined }, { ...axis, size: 56, values: (_, ticks) => ticks.map(short) }],
      cursor: { points: { size: 6 } },
      series: [{ label: 'step' }, ...lines.map((line) => ({ value: (_, value) => short(value), ...line }))],
      hooks: more.draw ? { draw: [more.draw] } : {},
    }, data, place));
  };

  const draw = () => {
    plots.forEach((plot) => plot.destroy());
    plots = [];
    const held = new Map(evaluations.map(({ step, bitsPerByte }) => [step, bitsPerByte]));
    const steps = [...new Set([...series.step, ...held.keys()])].sort((a, b) => a - b);
    const at = new Map(series.step.map((step, i) => [step, i]));
    const column = (name) => steps.map((step) => at.has(step) ? series[name][at.get(step)] : undefined);
    const all = [...series.smooth, ...held.values(), ...markov].sort((a, b) => a - b);
    const low = all[0] ?? 0, high = all[all.length - 1] ?? 8;
    // the fall from eight bits in the first steps would press everything else flat
    const top = Math.min(high, Math.max(1.2 * (markov[0] ?? 0), 1.6 * (all[Math.floor(all.length / 2)] ?? high)));
    chart('loss', [steps, column('bitsPerByte'), column('smooth'), steps.map((step) => held.get(step))], [
      { label: 'training', stroke: colour('raw'), width: 1, points: { show: false } },
      { label: 'training, mean', stroke: colour('mean'), width: 2, points: { show: false } },
      { label: 'held out', stroke: colour('held'), width: 2, spanGaps: true, points: { show: true, size: 7, fill: colour('held') } },
    ], { range: () => [low - 0.05 * (top - low), top + 0.03 * (top - low)], draw: markov.length ? markovLines : undefined });
    for (const [id, name, label] of [['rate', 'learningRate', 'rate'], ['norm', 'gradientNorm', 'norm'], ['speed', 'tokensPerSecond', 'tokens/s']]) {
      chart(id, [series.step, series[name]], [{ label, stroke: colour('mean'), width: 1.5, points: { show: false } }],
        { range: (_, least, most) => [Math.min(0, least), most > 0 ? most * 1.05 : 1] });
    }
  };
  let timer;
  addEventListener('resize', () => { clearTimeout(timer); timer = setTimeout(draw, 100); });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  draw();
})();
`;
