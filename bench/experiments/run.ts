import { carryAFact } from './carry-a-fact/carry-a-fact.ts';
import { farRecallExperiment } from './far-recall/far-recall.ts';
import { frontier } from './frontier/frontier.ts';
import { recall } from './recall/recall.ts';
import { selectiveCopying } from './selective-copying/selective-copying.ts';

const experiments: Readonly<Record<string, (words: readonly string[]) => Promise<number>>> = {
  recall,
  'selective-copying': selectiveCopying,
  'carry-a-fact': carryAFact,
  'far-recall': farRecallExperiment,
  frontier,
};

const [name = '', ...words] = process.argv.slice(2);
const experiment = Object.hasOwn(experiments, name) ? experiments[name] : undefined;
if (experiment) process.exitCode = await experiment(words);
else {
  process.stderr.write(`npm run experiment -- <name> [options]\n\nexperiments: ${Object.keys(experiments).join(', ')}\n`);
  process.exitCode = 2;
}
