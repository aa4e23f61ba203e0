// prints the sum of the runs recorded in the file of SEQLOOM_TOTALS; fails when a test failed or none ran
import { existsSync, readFileSync } from 'node:fs';
import { type Totals, totalsLine } from './totals-reporter.ts';

const file = process.env.SEQLOOM_TOTALS ?? '';
const runs = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').filter(Boolean) : [];
const sum: Totals = { passed: 0, failed: 0, skipped: 0 };
for (const line of runs) {
  const run = JSON.parse(line) as Totals;
  sum.passed += run.passed;
  sum.failed += run.failed;
  sum.skipped += run.skipped;
}
console.log(totalsLine(sum));
if (sum.failed > 0 || sum.passed === 0) process.exitCode = 1;
