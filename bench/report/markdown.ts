import { OURS } from '../measure/candidate.ts';
import { loadWarning, machineLine } from '../measure/machine.ts';
import { bytesText, digits } from '../measure/statistics.ts';
import type { CaseResult, Row, SuiteResult } from '../measure/suite.ts';

type Clock = SuiteResult['clock'];
type Column = readonly [title: string, cell: (row: Row, result: CaseResult, clock: Clock) => string | null];

const ratioColumn = (baseline: string): Column => [
  baseline === OURS ? 'time / ours' : `time / ${baseline}`,
  ({ ratio, candidate }) => (ratio === null || candidate === baseline ? null : `${digits(ratio)}x`),
];

const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** A long list of kernels as their number; the JSON holds their names. */
function shortened(implementation: string): string {
  const [, before, list] = /^(.*composed )(.+)$/.exec(implementation) ?? [];
  const count = list?.split(', ').length ?? 0;
  return count > 2 ? `${before}(${count} kernels)` : implementation;
}

const columns: readonly Column[] = [
  ['case', (_row, { name }) => name],
  ['candidate', ({ candidate }) => candidate],
  ['what ran', ({ implementation }) => shortened(implementation)],
  ['median ms', ({ ms }) => digits(ms)],
  ['min .. max', (row, _result, clock) => `${digits(row[clock].min)} .. ${digits(row[clock].max)}`],
  ['µs/token', ({ ms }, { work }) => (work.tokens ? digits((ms * 1000) / work.tokens) : null)],
  ['tokens/s', ({ tokensPerSecond }) => (tokensPerSecond === null ? null : digits(tokensPerSecond))],
  ['GFLOP/s', ({ gflops }) => (gflops === null ? null : digits(gflops))],
  ['of peak', ({ ofPeak }) => (ofPeak === null ? null : percent(ofPeak))],
  ['moved GB/s', ({ gbPerSecond }) => (gbPerSecond === null ? null : digits(gbPerSecond))],
  ['peak heap', ({ peakHeapBytes }) => (peakHeapBytes === null ? null : bytesText(peakHeapBytes))],
];

function table(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const clean = (cell: string): string => cell.replaceAll('|', '\\|');
  return [
    `| ${header.join(' | ')} |`,
    `| ${header.map(() => '---').join(' | ')} |`,
    ...rows.map((row) => `| ${row.map(clean).join(' | ')} |`),
  ];
}

function figureTable({ cases: results, clock, baseline }: SuiteResult): string[] {
  const facts = [...new Set(results.flatMap(({ rows }) => rows.flatMap((row) => Object.keys(row.facts))))];
  const all: readonly Column[] = [
    ...columns.slice(0, 5),
    ratioColumn(baseline),
    ...columns.slice(5),
    ...facts.map((fact): Column => [fact, ({ facts: given }) => (given[fact] === undefined ? null : given[fact].toLocaleString('en'))]),
  ];
  const cells = results.flatMap((result) => result.rows.map((row) => all.map(([, cell]) => cell(row, result, clock))));
  // a column that says nothing is left out
  const used = all.map((_, index) => cells.some((row) => row[index] !== null));
  return table(
    all.filter((_, index) => used[index]).map(([title]) => title),
    cells.map((row) => row.filter((_, index) => used[index]).map((cell) => cell ?? '')),
  );
}

/** The kernels in which most of a call's time goes. */
function profileTable({ name, profile }: CaseResult): string[] {
  if (!profile) return [];
  const top = profile.slice(0, 15).map(({ kernel, calls, ms, share }) => [kernel, String(calls), digits(ms), percent(share)]);
  return ['', `## Where the time of one call goes: ${name}`, '', ...table(['kernel', 'calls', 'ms', 'share'], top)];
}

const emulated =
  'This GPU is emulated on the processor: times and ratios are those of an emulated GPU with small shapes, and say nothing about a real one. What is counted (dispatches, submits, read-backs, copies, bytes) holds on any device.';

/** What became of the samples during which the machine did something else. */
function disturbance(cases: readonly CaseResult[]): string[] {
  const total = (key: 'samples' | 'disturbed'): number => cases.reduce((sum, each) => sum + each[key], 0);
  if (total('disturbed') === 0) return [];
  return [
    `- ${total('disturbed')} of ${total('samples')} samples were disturbed: a loop of multiply-adds ran slower before or after them. They were taken again, and count only where others were fewer than six and less than half`,
  ];
}

/** A suite's results as a page of Markdown; `figure` is the picture's file name. */
export function markdownReport(result: SuiteResult, figure: string | null): string {
  const { peak, gpu, cases, floors, notes, peers, timing } = result;
  const refused = cases.flatMap(({ name, refused: left }) => left.map((each) => `- ${name}: ${each.name}: ${each.reason}`));
  const peaks = peak && [
    `- Peak of a pure FMA loop on one core: ${digits(peak.simd)} GFLOP/s with separate instructions`,
    ...(peak.relaxed === null ? [] : [`${digits(peak.relaxed)} with fused ones`]),
  ];
  const versions = Object.entries(peers.versions).map(([name, version]) => `${name} ${version}`);
  const lines = [
    `# ${result.title}`,
    '',
    result.about,
    '',
    `- Command: \`npm run bench -- ${result.command}\``,
    `- Machine: ${machineLine(result.machine)}`,
    `- Kernels: ${result.kernels}; peers: ${versions.join(', ')}`,
    ...(peaks ? [peaks.join(', ')] : []),
    `- Medians of up to ${timing.samples} samples of at least ${timing.sampleMs} ms each, candidates in turns, ${result.clock === 'wall' ? 'wall clock' : 'processor time of the whole process'}; ratios${peak ? ', and shares of the peak,' : ''} are medians of those within rounds`,
    ...disturbance(cases),
    ...peers.skipped.map(({ name, reason }) => `- Skipped ${name}: ${reason}`),
    ...(gpu?.software ? ['', `> ${emulated}`] : []),
    ...(loadWarning(result.machine) ? ['', `> ${loadWarning(result.machine)}`] : []),
    ...(result.quick ? ['', '> A quick run with small sizes: it shows that everything works, its times say nothing.'] : []),
    '',
    ...figureTable(result),
    ...(floors.length > 0
      ? [
          '',
          '## Floors',
          '',
          ...table(
            ['what', 'wanted', 'measured', 'met'],
            floors.map(({ what, wanted, measured, met, open }) => [
              what,
              wanted,
              measured === null ? 'not measured' : digits(measured),
              open ?? (met === null ? '' : met ? 'yes' : 'no'),
            ]),
          ),
        ]
      : []),
    ...cases.flatMap(profileTable),
    ...(notes.length > 0 ? ['', '## Notes', '', ...notes.map((note) => `- ${note}`)] : []),
    ...(refused.length > 0 ? ['', '## Not timed', '', ...refused] : []),
    ...(figure ? ['', `![${result.title}](${figure})`] : []),
    '',
  ];
  return lines.join('\n');
}
