import * as tf from '@tensorflow/tfjs-core';
import type { Pattern } from '../card.ts';
import { fail } from '../error.ts';
import { Linear } from '../module/linear.ts';
import { Module } from '../module/module.ts';
import { makeNorm } from '../module/norm.ts';
import type { Norm, NormConfig } from '../module/norm.ts';
import { childState, joinStates } from '../state/state.ts';
import type { State, StateShapes } from '../state/state.ts';
import { SequenceMixer, advance } from './sequence-mixer.ts';
import type { MixerResult, MixInput, SharedKeyValue } from './sequence-mixer.ts';

/** One branch of a parallel mixer. */
export interface BranchParts {
  readonly mixer: SequenceMixer;
  /** norm of the branch's output; default none */
  readonly norm?: NormConfig | null | undefined;
  /** factor on the branch's input, default 1 */
  readonly inputScale?: number | undefined;
  /** factor on the branch's output, after its norm, default 1 */
  readonly outputScale?: number | undefined;
}

/** How the outputs of branches become one: their sum, mean or concatenation, or `y_0 * sigmoid(y_1)`. */
export type Combination = 'sum' | 'mean' | 'concat' | 'gated';

/** A mixer with the norm of its output and its factors. */
class Branch extends Module {
  readonly mixer: SequenceMixer;
  readonly norm: Norm | null;
  readonly inputScale: number;
  readonly outputScale: number;

  constructor({ mixer, norm, inputScale = 1, outputScale = 1 }: BranchParts) {
    super();
    this.mixer = mixer;
    this.norm = norm ? makeNorm(mixer.outputDim, norm) : null;
    this.inputScale = inputScale;
    this.outputScale = outputScale;
  }
}

const MECHANISM = 'parallel';

/**
 * Mixers side by side on one input: `y = W combine_b(s_b norm_b(mixer_b(r_b x)))`, as in Hymba, Falcon-H1 and Titans' memory as a gate.
 *
 * Branches without output projections of their own (`projectOutput: false`) are joined before the one that they share, W. The state holds the
 * branches' states under `<index>.<name>`.
 *
 * Source: Dong et al. 2024, "Hymba", arXiv 2411.13676, equation 5.
 */
export class ParallelMixer extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly dim: number;
  readonly pattern: Pattern;
  readonly branches: readonly Branch[];
  readonly combine: Combination;
  /** W, [joined width, D]; null: the joined branches are the output */
  readonly output: Linear | null;

  /**
   * @param parts branches; how they combine (default sum); whether W follows (default: when the joined width is not D); seed and standard
   *   deviation of W
   * @throws SeqLoomError when widths or patterns do not fit
   */
  constructor(parts: {
    readonly branches: readonly BranchParts[];
    readonly combine?: Combination | undefined;
    readonly output?: boolean | undefined;
    readonly seed?: number | undefined;
    readonly outputDeviation?: number | undefined;
  }) {
    super();
    const { branches, combine = 'sum', seed = 0, outputDeviation } = parts;
    const mixers = branches.map(({ mixer }) => mixer);
    const first = mixers[0] ?? refuse('branches', 'at least one', '0', 'Name the mixers that run side by side.');
    if (combine === 'gated' && mixers.length !== 2)
      refuse('branches', 'two for combine: gated', String(mixers.length), 'The second branch gates the first.');
    for (const mixer of mixers) {
      if (mixer.dim !== first.dim) refuse('branches', `inputs of width ${first.dim}`, String(mixer.dim), 'Build all for one width.');
      if (mixer.pattern !== first.pattern)
        refuse('branches', `one pattern, ${first.pattern}`, mixer.pattern, 'Mix causal branches with causal ones only.');
      if (combine !== 'concat' && mixer.outputDim !== first.outputDim)
        refuse('branches', `outputs of width ${first.outputDim}`, String(mixer.outputDim), 'Make the inner widths equal, or concatenate.');
    }
    const width = combine === 'concat' ? mixers.reduce((sum, mixer) => sum + mixer.outputDim, 0) : first.outputDim;
    const projected = parts.output ?? width !== first.dim;
    if (!projected && width !== first.dim)
      refuse('output', `true, since the joined width ${width} is not ${first.dim}`, 'false', 'Let an output projection follow.');
    this.dim = first.dim;
    this.pattern = first.pattern;
    this.combine = combine;
    this.branches = branches.map((branch) => new Branch(branch));
    this.output = projected ? new Linear({ in: width, out: first.dim, seed, deviation: outputDeviation }) : null;
  }

  stateShapes(batch: number): StateShapes {
    const entries = this.branches.flatMap(({ mixer }, index) => [
      ...Object.entries(mixer.stateShapes(batch)).map(([name, shape]) => [`${index}.${name}`, shape] as const),
      [`${index}.position`, [batch]] as const,
    ]);
    return Object.fromEntries(entries);
  }

  override mixingFlops(length: number): number {
    return this.branches.reduce((sum, { mixer }) => sum + mixer.mixingFlops(length), 0);
  }

  mix(input: MixInput): MixerResult {
    const states: Record<string, State> = {};
    let keyValue: SharedKeyValue | undefined;
    const outputs = this.branches.map(({ mixer, norm, inputScale, outputScale }, index) => {
      const x = inputScale === 1 ? input.x : (tf.mul(input.x, inputScale) as tf.Tensor3D);
      const result = mixer.mix({ ...input, x, state: childState(input.state, String(index)) });
      states[index] = result.state;
      keyValue ??= result.keyValue;
      const normed = norm?.forward(result.output) ?? result.output;
      return outputScale === 1 ? normed : (tf.mul(normed, outputScale) as tf.Tensor3D);
    });
    const joined = join(outputs, this.combine);
    const output = (this.output?.forward(joined) ?? joined) as tf.Tensor3D;
    const position = advance(input.state.position, input.x, input.lengths);
    return { output, state: joinStates(position, states), keyValue };
  }
}

function join(outputs: readonly tf.Tensor[], combine: Combination): tf.Tensor {
  if (combine === 'concat') return tf.concat([...outputs], 2);
  if (combine === 'gated') return tf.mul(outputs[0]!, tf.sigmoid(outputs[1]!));
  const sum = outputs.reduce((total: tf.Tensor, output) => tf.add(total, output));
  return combine === 'mean' ? tf.div(sum, outputs.length) : sum;
}

function refuse(argument: string, wanted: string, given: string, remedy: string): never {
  return fail({ mechanism: MECHANISM, argument, wanted, given, remedy });
}
