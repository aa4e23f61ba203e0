import { fail } from '@seqloom/core';
import { canonicalJson } from '../data/fingerprint.ts';
import type { TrainingData } from '../data/windows.ts';
import type { TrainableModel } from '../model.ts';
import type { AdamW } from '../optimiser/adamw.ts';
import type { Checkpoint } from './record.ts';

/**
 * Puts a checkpoint into a model, an optimiser and a data source; refuses before anything is changed.
 *
 * @throws SeqLoomError when it belongs to another architecture, text, window length or seed
 */
export function loadCheckpoint(checkpoint: Checkpoint, model: TrainableModel, optimiser: AdamW, data: TrainingData): void {
  checkArchitecture(checkpoint.config, model.config);
  const before = data.position;
  data.seek(checkpoint.run.data);
  try {
    // weights last: they are checked as a whole before one is set
    optimiser.load(checkpoint.optimiser);
    model.loadStateDict(checkpoint.weights);
  } catch (error) {
    data.seek(before);
    throw error;
  }
}

function checkArchitecture(saved: unknown, own: unknown): void {
  if (canonicalJson(saved) === canonicalJson(own)) return;
  const [a, b] = [saved, own].map((config) => (typeof config === 'object' && config !== null ? config : {}) as Record<string, unknown>);
  const keys = [...new Set([...Object.keys(a!), ...Object.keys(b!)])].filter((key) => canonicalJson(a![key]) !== canonicalJson(b![key]));
  fail({
    mechanism: 'checkpoint',
    argument: 'config',
    wanted: `that of this model (${keys.map((key) => `${key} ${canonicalJson(b![key])}`).join(', ')})`,
    given: keys.map((key) => `${key} ${canonicalJson(a![key])}`).join(', '),
    remedy: 'Resume with the config that the checkpoint was made from, or train into another folder.',
  });
}
