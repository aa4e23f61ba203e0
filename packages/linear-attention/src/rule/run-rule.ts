import { checkSetting, checkTensor, keepValid, linearAttentionUpdate, tidy } from '@seqloom/core';
import type { Extents, LinearAttentionRule } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';

/** Tensors of an op that runs on a rule of the `LinearAttention` kernel, all float32. */
export interface RuleTensors {
  /** [B, T, Hq, K]; query head h reads state head floor(h * H / Hq) */
  readonly query: tf.Tensor;
  /** [B, T, H, K] */
  readonly key: tf.Tensor;
  /** [B, T, H, V] */
  readonly value: tf.Tensor;
  /** natural log of the decay, at most 0, [B, T, H] or [B, T, H, K]; for the gated rules */
  readonly logDecay?: tf.Tensor;
  /** strength of the write [B, T, H]; for the delta rules */
  readonly beta?: tf.Tensor;
}

/** What such an op carries from piece to piece. */
export interface RuleState {
  readonly [name: string]: tf.Tensor;
  /** [B, H, K, V] */
  readonly memory: tf.Tensor;
}

/** Options of such an op; everything has a default. */
export interface RuleOptions {
  /** state of an earlier call */
  readonly state?: RuleState;
  /** factor of the output, default K^-0.5 */
  readonly scale?: number;
  /** default chunk */
  readonly form?: 'chunk' | 'recurrent';
  /** tokens per chunk, default 64; a matter of speed, not of the result */
  readonly chunkSize?: number;
  /** [B, T], 1 for tokens and 0 for padding, which writes nothing and lets nothing decay; what stands there must be finite */
  readonly mask?: tf.Tensor;
}

/** Output and state of such an op; the caller owns both. */
export interface RuleResult {
  /** [B, T, Hq, V] */
  readonly output: tf.Tensor4D;
  readonly state: RuleState;
}

/**
 * Runs one of the four update rules on the `LinearAttention` kernel, with everything checked in the name of the mechanism.
 *
 * @param mechanism who asks, for errors
 * @param updateRule see `linearAttentionKernel` for the formulas
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 */
export function runRule(mechanism: string, updateRule: LinearAttentionRule, tensors: RuleTensors, options: RuleOptions = {}): RuleResult {
  checkRule(mechanism, updateRule, tensors, options);
  const { state, scale, form = 'chunk', chunkSize = 64, mask = null } = options;
  const { query, key, value, logDecay, beta } = tensors;
  const result = tidy(() =>
    linearAttentionUpdate(
      {
        query,
        key: keepValid(key, mask),
        value,
        ...(logDecay ? { logDecay: keepValid(logDecay, mask) } : {}),
        ...(beta ? { beta: keepValid(beta, mask) } : {}),
        ...(state ? { state: state.memory } : {}),
      },
      { updateRule, chunkSize: form === 'recurrent' ? 1 : chunkSize, ...(scale === undefined ? {} : { scale }) },
    ),
  );
  return { output: result.output, state: { memory: result.state } };
}

/** Refuses tensors and options that do not fit the rule. */
export function checkRule(mechanism: string, updateRule: LinearAttentionRule, tensors: RuleTensors, options: RuleOptions): void {
  const { query, key, value, logDecay, beta } = tensors;
  const extents: Extents = new Map<string, number>();
  checkTensor(mechanism, 'query', query, ['B', 'T', 'Hq', 'K'], extents);
  checkTensor(mechanism, 'key', key, ['B', 'T', 'H', 'K'], extents);
  checkTensor(mechanism, 'value', value, ['B', 'T', 'H', 'V'], extents);
  const setting = (name: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(mechanism, name, right, wanted, given, remedy);
  const [queryHeads, heads] = [query.shape[2]!, key.shape[2]!];
  setting('query', queryHeads % heads === 0, `of a multiple of ${heads} heads`, `${queryHeads} heads`, 'Group query heads evenly.');
  if (updateRule.startsWith('gated'))
    checkTensor(mechanism, 'logDecay', logDecay, logDecay?.rank === 3 ? ['B', 'T', 'H'] : ['B', 'T', 'H', 'K'], extents);
  if (updateRule.endsWith('delta')) checkTensor(mechanism, 'beta', beta, ['B', 'T', 'H'], extents);
  const { state, scale = 1, form = 'chunk', chunkSize = 64, mask } = options;
  if (state) checkTensor(mechanism, 'state.memory', state.memory, ['B', 'H', 'K', 'V'], extents);
  setting('scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for K^-0.5.');
  setting('form', form === 'chunk' || form === 'recurrent', 'chunk or recurrent', form, 'Leave it out for chunk.');
  setting('chunkSize', Number.isInteger(chunkSize) && chunkSize >= 1, 'a whole number from 1', chunkSize, 'Leave it out for 64.');
  if (mask) {
    const fits = mask.rank === 2 && mask.shape[0] === extents.get('B') && mask.shape[1] === extents.get('T');
    const given = `[${mask.shape.join(', ')}]`;
    setting(
      'mask',
      fits,
      `[${extents.get('B')}, ${extents.get('T')}], 1 for tokens and 0 for padding`,
      given,
      'Give one number per token.',
    );
  }
}
