import * as tf from '@tensorflow/tfjs-core';
import { disposeState, fail, tidy, valueAndGradients } from '@seqloom/core';
import type { Parameter, State } from '@seqloom/core';
import { carriesGradient } from './state-policy.ts';

/** One segment: its loss, a scalar, and the state after it. It runs more than once, and must give the same each time. */
export type SegmentStep = (segment: number, state: State) => { readonly loss: tf.Scalar; readonly state: State };

/** Settings of `replayBackward`. */
export interface ReplayOptions {
  /** by name; frozen ones get no gradient */
  readonly parameters: ReadonlyMap<string, Parameter>;
  /** S */
  readonly segments: number;
  /** before the first segment; stays the caller's */
  readonly state: State;
  /** w_t, per segment; default all 1 (a mean over unequal segments wants tokens of the segment / tokens of all) */
  readonly weights?: readonly number[];
  /** c, segments whose activations are alive at once: 1, the default, is memory replay; S is plain back-propagation through time */
  readonly checkpointEvery?: number;
  /** k, no gradient goes from segment n k to the one before it; default null, through all */
  readonly detachEvery?: number | null;
  /** state tensors through which no gradient goes from segment to segment, such as caches; needs checkpointEvery 1 */
  readonly detached?: (name: string) => boolean;
  /** largest norm of the gradient that goes from group to group of segments; default null, none */
  readonly clipState?: number | null;
}

/** What a replay gives; the caller owns all tensors. */
export interface ReplayResult {
  /** sum of w_t loss_t */
  readonly loss: tf.Scalar;
  /** by parameter name; a parameter that the loss does not depend on has none */
  readonly gradients: Map<string, tf.Tensor>;
  /** by name of the state tensor before the first segment */
  readonly stateGradients: Map<string, tf.Tensor>;
  /** after the last segment */
  readonly state: State;
}

/**
 * Back-propagation through time over segments, with the activations of a few segments instead of all.
 *
 * A first pass without gradients stores the states between groups of c segments. Then, from the last group to the first, the group is run
 * again from its stored state s and `sum of w_t loss_t + <s_out, g>` is differentiated once, g being the gradient that came back from the
 * group after it; the gradient by s is the next g. The result is exactly that of plain back-propagation (`checkpointEvery` = S). Activations
 * take c / S of its memory, one more forward pass is the price.
 *
 * @param step runs one segment; called within a tidy
 * @returns loss, gradients, and the state to go on with
 * @throws SeqLoomError on options that do not fit
 * @see memory replay back-propagation: Wu et al. 2020, "Memformer", arXiv 2010.06891
 */
export function replayBackward(step: SegmentStep, options: ReplayOptions): ReplayResult {
  const { parameters, state, detachEvery = null, clipState = null, detached = () => false } = options;
  checkOptions(options);
  const weights = options.weights ?? Array.from({ length: options.segments }, () => 1);
  const groups = cutGroups(options);
  const trained = [...parameters].filter(([, parameter]) => parameter.trainable);
  const stored: State[] = [state];
  const gradients = new Map<string, tf.Tensor>();
  const losses: tf.Tensor[] = [];
  let after: State | null = null;
  let back = new Map<string, tf.Tensor>();
  try {
    for (const group of groups.slice(0, -1)) stored.push(runGroup(step, group, stored.at(-1)!));
    for (let place = groups.length - 1; place >= 0; place--) {
      const group = groups[place]!;
      const start = stored[place]!;
      const leaves = Object.entries(start).filter(([name, tensor]) => carriesGradient(name, tensor));
      const kept: tf.Tensor[] = [];
      const ended: [string, tf.Tensor][] = [];
      try {
        const scalar = (): tf.Scalar => {
          let held = start;
          let total: tf.Tensor = tf.scalar(0);
          for (let segment = group.from; segment < group.to; segment++) {
            const result = step(segment, held);
            total = tf.add(total, tf.mul(result.loss, weights[segment]!));
            held = result.state;
          }
          kept.push(tf.keep(tf.clone(total)));
          if (place === groups.length - 1) {
            for (const [name, tensor] of Object.entries(held)) {
              ended.push([name, tf.keep(tf.clone(tensor))]);
              kept.push(ended.at(-1)![1]);
            }
          }
          for (const [name, gradient] of back) total = tf.add(total, tf.sum(tf.mul(held[name]!, gradient)));
          return total as tf.Scalar;
        };
        const by = [...trained.map(([, { variable }]) => variable), ...leaves.map(([, tensor]) => tensor)];
        const result = valueAndGradients(scalar, by);
        result.value.dispose();
        trained.forEach(([name], i) => addTo(gradients, name, result.gradients[i]!));
        tf.dispose([...back.values()]);
        back = new Map<string, tf.Tensor>();
        leaves.forEach(([name], i) => addTo(back, name, result.gradients[trained.length + i]!));
      } catch (error) {
        tf.dispose(kept);
        throw error;
      }
      losses.push(kept[0]!);
      if (ended.length > 0) after = Object.fromEntries(ended) as unknown as State;
      if (place === 0) break;
      disposeState(stored.pop()!);
      const cut = detachEvery !== null && group.from % detachEvery === 0;
      for (const [name, gradient] of back) {
        if (!cut && !detached(name)) continue;
        gradient.dispose();
        back.delete(name);
      }
      if (clipState !== null) back = clipped(back, clipState);
    }
    const loss = tf.tidy(() => tf.addN(losses)) as tf.Scalar;
    tf.dispose(losses);
    return { loss, gradients, stateGradients: back, state: after! };
  } catch (error) {
    tf.dispose([...gradients.values(), ...back.values(), ...losses]);
    if (after) disposeState(after);
    for (const each of stored.slice(1)) disposeState(each);
    throw error;
  }
}

/** Segments from, and up to but without to, whose activations are alive together. */
interface Group {
  readonly from: number;
  readonly to: number;
}

/** A group ends after c segments, and where gradients are cut. */
function cutGroups({ segments, checkpointEvery = 1, detachEvery = null }: ReplayOptions): Group[] {
  const groups: Group[] = [];
  for (let from = 0; from < segments;) {
    const cut = detachEvery === null ? segments : (Math.floor(from / detachEvery) + 1) * detachEvery;
    const to = Math.min(segments, from + checkpointEvery, cut);
    groups.push({ from, to });
    from = to;
  }
  return groups;
}

/** The state after a group, without gradients; owned by the caller. */
function runGroup(step: SegmentStep, { from, to }: Group, start: State): State {
  return tidy(() => {
    let held = start;
    for (let segment = from; segment < to; segment++) held = step(segment, held).state;
    const theirs = new Set<tf.Tensor>(Object.values(start));
    const own = Object.entries(held).map(([name, tensor]) => [name, theirs.has(tensor) ? tf.clone(tensor) : tensor]);
    return Object.fromEntries(own) as unknown as State;
  });
}

/** Adds a gradient to what is held under a name, and takes it over. */
function addTo(sums: Map<string, tf.Tensor>, name: string, gradient: tf.Tensor | null): void {
  if (!gradient) return;
  const held = sums.get(name);
  sums.set(name, held ? tf.add(held, gradient) : gradient);
  if (held) tf.dispose([held, gradient]);
}

/** `g min(1, c / |g|)` over all tensors together; takes the given ones over. */
function clipped(gradients: Map<string, tf.Tensor>, most: number): Map<string, tf.Tensor> {
  if (gradients.size === 0) return gradients;
  const names = [...gradients.keys()];
  const tensors = tidy(() => {
    const squares = tf.addN([...gradients.values()].map((gradient) => tf.sum(tf.square(gradient))));
    const factor = tf.minimum(1, tf.div(most, tf.maximum(tf.sqrt(squares), 1e-30)));
    return [...gradients.values()].map((gradient) => tf.mul(gradient, factor));
  });
  tf.dispose([...gradients.values()]);
  return new Map(names.map((name, i) => [name, tensors[i]!]));
}

function checkOptions({ segments, weights, checkpointEvery = 1, detachEvery = null, detached, clipState = null }: ReplayOptions): void {
  const refuse = (argument: string, wanted: string, given: string, remedy: string): never =>
    fail({ mechanism: 'replayBackward', argument, wanted, given, remedy });
  const whole = (value: number): boolean => Number.isInteger(value) && value >= 1;
  if (!whole(segments)) refuse('segments', 'a whole number of at least 1', String(segments), 'Cut the sequence into segments.');
  if (!whole(checkpointEvery)) refuse('checkpointEvery', 'a whole number of at least 1', String(checkpointEvery), 'Use 1 for replay.');
  if (detachEvery !== null && !whole(detachEvery))
    refuse('detachEvery', 'null or a whole number of at least 1', String(detachEvery), 'Leave it out for gradients through all segments.');
  if (detached && checkpointEvery !== 1)
    refuse(
      'detached',
      'left out where checkpointEvery is not 1',
      'a function',
      'Chosen tensors are cut at every segment: use checkpointEvery 1.',
    );
  if (clipState !== null && !(clipState > 0)) refuse('clipState', 'null or above 0', String(clipState), 'Leave it out for no limit.');
  if (weights && weights.length !== segments)
    refuse('weights', `${segments} numbers, one per segment`, String(weights.length), 'Leave it out for a plain sum.');
}
