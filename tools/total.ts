// prints the sum of the runs recorded in the file of SEQLOOM_TOTALS; fails when a test failed, or a tier named on the command line passed none
import { existsSync, readFileSync } from 'node:fs';
import { type RecordedTotals, totalsLine } from './totals-reporter.ts';

const file = process.env.SEQLOOM_TOTALS ?? '';
const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').filter(Boolean) : [];
const runs = lines.map((line) => JSON.parse(line) as RecordedTotals);
const sum = { passed: 0, failed: 0, skipped: 0 };
for (const run of runs) {
  sum.passed += run.passed;
  sum.failed += run.failed;
  sum.skipped += run.skipped;
}
const empty = process.argv.slice(2).filter((tier) => !runs.some((run) => run.tier === tier && run.passed > 0));
for (const tier of empty) console.log(`No test of the ${tier} tier passed: it did not run, or everything in it failed or was skipped.`);
sum.failed += empty.length;
console.log(totalsLine(sum));
if (sum.failed > 0 || sum.passed === 0) process.exitCode = 1;
