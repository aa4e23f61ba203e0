import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import { gatheredForm } from './gathered.ts';
import type { ExpertActivation, Experts } from './gathered.ts';
import { limitCapacity, route } from './route.ts';
import type { Routing, RoutingOptions } from './route.ts';

const MECHANISM = 'moe-channel-mixers';

/** What `routeToExperts` reads, float32. */
export interface RouteInputs {
  /** l [N, E] */
  readonly logits: tf.Tensor;
  /** b [E], added to the scores for the choice only */
  readonly selectionBias?: tf.Tensor | null | undefined;
  /** [N], 1 for tokens and 0 for padding, which goes to no expert */
  readonly valid?: tf.Tensor | null | undefined;
}

/** Inputs of `mixtureOfExperts`, float32. */
export interface MixtureInputs extends Experts {
  /** [B, T, D] */
  readonly input: tf.Tensor;
  /** W_r [D, E] */
  readonly router: tf.Tensor;
  /** b [E], added to the scores for the choice only */
  readonly selectionBias?: tf.Tensor | null | undefined;
  /** [B, T], 1 for tokens and 0 for padding, whose output is 0 */
  readonly valid?: tf.Tensor | null | undefined;
}

/** Settings of `mixtureOfExperts`. */
export interface MixtureOptions extends RoutingOptions {
  /** default silu */
  readonly activation?: ExpertActivation | undefined;
  /** C = ceil(factor N k / E) places per expert, a token that finds them taken goes without; default null: no limit */
  readonly capacity?: number | null | undefined;
}

/** What a call of `mixtureOfExperts` returns; the caller's. */
export interface MixtureResult {
  /** [B, T, D] */
  readonly output: tf.Tensor3D;
  readonly state: Record<string, never>;
  /** of the N = B T tokens, before the capacity */
  readonly routing: Routing & { readonly logits: tf.Tensor2D };
}

function complete(options: RoutingOptions, experts: number): Parameters<typeof route>[3] {
  const { topK, score = 'softmax', groups = 1, renormalise = true, scale = 1 } = options;
  const groupTopK = options.groupTopK ?? groups;
  const whole = (value: number, most: number): boolean => Number.isInteger(value) && value >= 1 && value <= most;
  const check = (argument: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(MECHANISM, argument, right, wanted, given, remedy);
  check('groups', whole(groups, experts) && experts % groups === 0, `a divisor of ${experts}`, groups, 'Groups are of equal size.');
  check('groupTopK', whole(groupTopK, groups), `a whole number from 1 to ${groups}`, groupTopK, 'Keep at most all groups.');
  const open = (groupTopK * experts) / groups;
  check('topK', whole(topK, open), `a whole number from 1 to ${open}`, topK, 'A token cannot choose more experts than it may see.');
  check('score', score === 'softmax' || score === 'sigmoid', 'softmax or sigmoid', score, 'Choose one of the two.');
  check('scale', Number.isFinite(scale), 'a finite number', scale, 'Give the factor on the weights.');
  return { topK, score, groups, groupTopK, renormalise, scale };
}

/**
 * The router: with s the softmax or sigmoid of the logits, the k experts with the largest `s + b` within the best groups, and
 * `w = scale s / sum of the chosen s`; of equal ones the lower expert.
 *
 * The bias only chooses: weights and gradients are those of s. A group is worth the sum of its two best `s + b`, without a bias its best s.
 *
 * @returns experts int32 [N, k], the most wanted one first, their weights [N, k] and all scores [N, E]; the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see "DeepSeek-V3 Technical Report" (DeepSeek-AI 2024, arXiv 2412.19437), section 2.1.2
 */
export function routeToExperts(inputs: RouteInputs, options: RoutingOptions): Routing {
  const { logits, selectionBias = null, valid = null } = inputs;
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'logits', logits, ['tokens', 'experts'], extents);
  if (selectionBias) checkTensor(MECHANISM, 'selectionBias', selectionBias, ['experts'], extents);
  if (valid) checkTensor(MECHANISM, 'valid', valid, ['tokens'], extents);
  const settings = complete(options, extents.get('experts')!);
  return tidy(() => route(logits as tf.Tensor2D, selectionBias, valid, settings));
}

/**
 * A mixture of experts: each token goes to k of E feed-forward layers, `y = sum over chosen e of w_e W_down,e (act(W_gate,e x) * W_up,e x)`.
 *
 * Experts and weights are those of `routeToExperts` with logits `x W_r`; only chosen experts compute. No token is dropped unless there is a
 * capacity.
 *
 * @returns output [B, T, D], an empty state, and where the tokens went; the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see "DeepSeek-V3 Technical Report" (DeepSeek-AI 2024, arXiv 2412.19437); "Mixtral of Experts" (Jiang et al. 2024, arXiv 2401.04088);
 *   "Switch Transformers" (Fedus et al. 2021, arXiv 2101.03961)
 */
export function mixtureOfExperts(inputs: MixtureInputs, options: MixtureOptions): MixtureResult {
  const { input, router, selectionBias = null, valid = null, gate, up, down } = inputs;
  const { activation = 'silu', capacity = null } = options;
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['B', 'T', 'D'], extents);
  checkTensor(MECHANISM, 'router', router, ['D', 'E'], extents);
  if (selectionBias) checkTensor(MECHANISM, 'selectionBias', selectionBias, ['E'], extents);
  if (valid) checkTensor(MECHANISM, 'valid', valid, ['B', 'T'], extents);
  checkTensor(MECHANISM, 'gate', gate, ['E', 'D', 'F'], extents);
  checkTensor(MECHANISM, 'up', up, ['E', 'D', 'F'], extents);
  checkTensor(MECHANISM, 'down', down, ['E', 'F', 'D'], extents);
  const [batch, length, dim] = input.shape as [number, number, number];
  const count = extents.get('E')!;
  const settings = complete(options, count);
  const known = activation === 'silu' || activation === 'gelu' || activation === 'relu';
  checkSetting(MECHANISM, 'activation', known, 'silu, gelu or relu', activation, 'Choose one of the three.');
  const roomy = capacity === null || (Number.isFinite(capacity) && capacity > 0);
  checkSetting(MECHANISM, 'capacity', roomy, 'a number above 0, or null', capacity, 'Leave it out to drop no token.');
  return tidy(() => {
    const rows = tf.reshape(input, [batch * length, dim]) as tf.Tensor2D;
    const logits = tf.matMul(rows, router as tf.Tensor2D) as tf.Tensor2D;
    const routing = route(logits, selectionBias, valid && tf.reshape(valid, [batch * length]), settings);
    const served = capacity === null ? routing : { ...routing, experts: limitCapacity(routing.experts, count, capacity) };
    const output = tf.reshape(gatheredForm(rows, served, { gate, up, down }, activation), [batch, length, dim]) as tf.Tensor3D;
    return { output, state: {}, routing: { ...routing, logits } };
  });
}
