import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { runSuite } from './measure/run-suite.ts';
import { PEER_NAMES } from './peers/load.ts';
import type { PeerName } from './peers/load.ts';
import { SeqLoomError } from '@seqloom/core';
import { markdownReport } from './report/markdown.ts';
import { defaultPanels } from './report/panels.ts';
import { drawPanels } from '@seqloom/train';
import { OURS } from './measure/candidate.ts';
import { machineLine } from './measure/machine.ts';
import { suites } from './suites/all.ts';

const usage = `npm run bench -- <suite> [options]

suites: ${suites.map(({ name }) => name).join(', ')}; all runs each in a process of its own

--json FILE     also writes the results as JSON to FILE; for one suite at a time
--quick         small sizes and few samples: shows that everything works; writes no results unless --out is given
--out DIR       where <suite>.json, .md and .svg go (bench/results)
--only TEXT     only cases whose name contains TEXT; writes no results unless --out is given
--peers LIST    ${PEER_NAMES.join(',')} or none (all)
--build NAME    simd or relaxed (the best that runs here)
--clock NAME    wall or cpu: processor time, for a machine that is shared (wall)
--too-slow MS   a candidate other than ours whose call takes longer is not timed (30000)
--budget MS     a candidate takes no more samples in a case once they took this long, three at least (2500)
`;

/** Exit code of a suite that this machine has no backend for. */
const CANNOT_RUN = 3;

/** Parses the command line, runs a suite and writes its report; returns the exit code. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'string' },
      quick: { type: 'boolean', default: false },
      out: { type: 'string' },
      only: { type: 'string' },
      peers: { type: 'string', default: PEER_NAMES.join(',') },
      build: { type: 'string' },
      clock: { type: 'string', default: 'wall' },
      'too-slow': { type: 'string', default: '30000' },
      budget: { type: 'string' },
    },
  });
  const [name] = positionals;
  if (name === 'all' && positionals.length === 1 && values.json === undefined)
    return runAll(process.argv.slice(2).filter((argument) => argument !== 'all'));
  const suite = suites.find((each) => each.name === name);
  const peers = values.peers === 'none' ? [] : (values.peers.split(',') as PeerName[]);
  const { build, clock } = values;
  const known =
    peers.every((peer) => PEER_NAMES.includes(peer)) &&
    (build === undefined || build === 'simd' || build === 'relaxed') &&
    (clock === 'wall' || clock === 'cpu');
  if (!suite || !known || positionals.length > 1) {
    process.stderr.write(usage);
    return 2;
  }
  const result = await runSuite(suite, {
    command: process.argv.slice(2).join(' '),
    quick: values.quick,
    only: values.only,
    peers,
    clock,
    build,
    tooSlowMs: Number(values['too-slow']),
    budgetMs: values.budget === undefined ? undefined : Number(values.budget),
    say: (line) => process.stderr.write(`${line}\n`),
  }).catch((error: unknown) => {
    if (!(error instanceof SeqLoomError && error.mechanism === 'setupBackend')) throw error;
    process.stderr.write(`${suite.name} cannot run here: ${error.message}\n`);
    return null;
  });
  if (!result) return CANNOT_RUN;
  const panels =
    suite.panels?.(result.cases) ?? defaultPanels(result.cases, name === 'decode' ? 'tokens of context' : 'sequence length T', clock);
  const json = `${JSON.stringify(result, null, 2)}\n`;
  const out = values.out ?? (values.quick || values.only !== undefined ? null : join(import.meta.dirname, 'results'));
  const figure = panels.length > 0 ? `${suite.name}.svg` : null;
  const page = markdownReport(result, out === null ? null : figure);
  if (out !== null) {
    mkdirSync(out, { recursive: true });
    writeFileSync(join(out, `${suite.name}.json`), json);
    writeFileSync(join(out, `${suite.name}.md`), page);
    if (figure) writeFileSync(join(out, figure), drawPanels(machineLine(result.machine), panels));
  }
  if (values.json !== undefined) {
    mkdirSync(dirname(values.json), { recursive: true });
    writeFileSync(values.json, json);
  }
  process.stdout.write(page);
  // a red candidate of ours is a defect, a missed floor a finding
  const red = result.cases.filter(({ rows, refused }) => refused.some((each) => each.name.startsWith(OURS)) || rows.length === 0);
  for (const { name: which } of red) process.stderr.write(`red: ${which}\n`);
  return red.length > 0 ? 1 : 0;
}

/** Each suite in its own process, so that none runs on another's heap. */
function runAll(rest: readonly string[]): number {
  let worst = 0;
  for (const { name } of suites) {
    const { status } = spawnSync(process.execPath, [...process.execArgv, import.meta.filename, name, ...rest], { stdio: 'inherit' });
    // one that this machine has nothing for was left out, which it has said
    if (status !== CANNOT_RUN) worst = Math.max(worst, status ?? 1);
  }
  return worst;
}

process.exitCode = await main();
