/**
 * What it takes to read and write one family of public checkpoints.
 *
 * An adapter is data and two small functions: `toHybrid` turns a `config.json` into a hybrid config, `mapping` says which checkpoint
 * tensors make which of the model's. To add a family:
 *
 * 1. write `adapters/<id>.ts` with a `CheckpointAdapter`, reading the config through `ConfigReader` (it refuses what is missing or of the
 *    wrong kind; a value that the layers cannot do is an error, never a guess);
 * 2. add it to `adapters/index.ts`;
 * 3. put a tiny checkpoint made by the original code into `golden/models/<id>/` and add a row to `golden.test.ts`.
 *
 * A rule names checkpoint tensors (`hub`) and parameters of ours (`own`). In both, `{i}` stands for the layer, and `{e}` for the expert:
 * with `{e}` on both sides there is one group per expert, with `{e}` in `hub` alone the experts of a layer form one group (see `stack`).
 * A rule whose own parameters a model does not have (a bias that is off) is passed over; every parameter must be met by exactly one rule, and
 * every tensor of the checkpoint must be used, tied or ignored. Transforms run forwards when loading and backwards when saving.
 */
import type { HybridConfig } from '../config.ts';
import type { ConfigReader } from './config-reader.ts';
import type { Transform } from './transform.ts';

/** Checkpoint tensors and the parameters that they make. */
export interface Rule {
  /** names in the checkpoint, in the order that the transform takes */
  readonly hub: string | readonly string[];
  /** parameter names of the model, in the order that the transform gives */
  readonly own: string | readonly string[];
  /** default: `identity` */
  readonly transform?: Transform;
  /** layers that `{i}` runs over; default: all */
  readonly layers?: readonly number[];
  /** number of experts that `{e}` runs over */
  readonly experts?: number;
}

/** All rules of one checkpoint. */
export interface Mapping {
  readonly rules: readonly Rule[];
  /** names of a tensor that is stored elsewhere already: when a file has it, it must be equal, and it is never written */
  readonly tied?: readonly { readonly hub: string; readonly of: string }[];
  /** checkpoint tensors without a meaning here, such as buffers that are computed */
  readonly ignore?: readonly RegExp[];
  /** checkpoint tensors that keep float32 when a checkpoint is saved in a narrower type */
  readonly keepFloat32?: readonly RegExp[];
}

/** Names and shapes of a model's parameters. */
export type ParameterShapes = ReadonlyMap<string, readonly number[]>;

/** One family of checkpoints. */
export interface CheckpointAdapter {
  /** name in messages, such as `llama` */
  readonly id: string;
  /** values of `model_type` that it reads */
  readonly modelTypes: readonly string[];
  /** keys of `config.json` that it reads, by which the nearest family to an unknown one is found */
  readonly keys: readonly string[];
  /**
   * The hybrid config of a checkpoint.
   *
   * @throws SeqLoomError on a missing or wrong value, or one that our layers cannot do
   */
  toHybrid(config: ConfigReader): HybridConfig;
  /** Which tensors make which parameters. */
  mapping(config: ConfigReader, parameters: ParameterShapes): Mapping;
}
