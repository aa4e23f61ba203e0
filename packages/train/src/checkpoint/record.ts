import type { StateDict } from '@seqloom/core';
import type { DataPosition } from '../data/windows.ts';
import type { OptimiserState } from '../optimiser/adamw.ts';

/** One held-out result of a run. */
export interface HistoryPoint {
  readonly step: number;
  readonly bitsPerByte: number;
}

/** Where a run stands, apart from weights and moments; plain JSON. */
export interface RunState {
  /** steps done, skipped ones included */
  readonly step: number;
  /** steps in all; null while `minutes` has not been turned into steps yet */
  readonly total: number | null;
  /** labels that were learned from */
  readonly tokens: number;
  /** steps left out because the gradient was not finite */
  readonly skipped: number;
  /** time spent, over all starts */
  readonly seconds: number;
  readonly data: DataPosition;
  readonly evaluations: readonly HistoryPoint[];
}

/** Everything that a run needs to go on as if it had never stopped. */
export interface Checkpoint {
  readonly run: RunState;
  /** the model's config */
  readonly config: unknown;
  readonly weights: StateDict;
  readonly optimiser: OptimiserState;
}

/** Where checkpoints are kept. */
export interface CheckpointStore {
  /** the newest checkpoint, or null when there is none */
  load(): Promise<Checkpoint | null>;
  /** adds one; when it fails, those before stay as they were */
  save(checkpoint: Checkpoint): Promise<void>;
}
