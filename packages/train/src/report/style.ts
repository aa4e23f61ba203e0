/** Style of the report: one set of colours per scheme, one column that becomes three. */
export const style = `
:root { color-scheme: light dark; --page: #fcfcfb; --ink: #1d1f21; --soft: #62676d; --line: #e2e4e6; --card: #ffffff;
  --raw: #a9c6e8; --mean: #1f6fc4; --held: #d1520f; --markov: #7a8087; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --ink: #e8eaec; --soft: #9aa1a9; --line: #2c3036; --card: #1c1f23;
    --raw: #35567a; --mean: #6fb1f5; --held: #ff9a5a; --markov: #8d949c; }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 20px 48px; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 13px; font-weight: 600; color: var(--soft); margin: 0 0 8px; }
p { margin: 0 0 16px; }
.figures { display: flex; flex-wrap: wrap; gap: 8px 32px; margin: 16px 0 20px; }
.figures dt { font-size: 12px; color: var(--soft); }
.figures dd { margin: 0; font-size: 20px; font-variant-numeric: tabular-nums; }
section, details { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; margin: 0 0 16px; min-width: 0; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 0 16px; }
.chart { height: 220px; overflow: hidden; }
.chart.tall { height: 430px; }
.u-legend { font-size: 12px; color: var(--soft); }
.u-legend .u-value { font-variant-numeric: tabular-nums; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.55 ui-monospace, monospace; }
.sample b { color: var(--mean); font-weight: 600; }
summary { cursor: pointer; font-weight: 600; font-size: 14px; }
details pre { margin-top: 10px; }
@media print { section, details { break-inside: avoid; } }
`;
