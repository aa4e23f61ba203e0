import * as v from 'valibot';
import { naturalNumber, positiveInteger, positiveNumber } from '@seqloom/core';

const scaling = v.variant('type', [
  v.strictObject({ type: v.literal('linear'), factor: positiveNumber }),
  v.strictObject({ type: v.literal('ntk'), factor: positiveNumber }),
  v.strictObject({ type: v.literal('dynamic-ntk'), factor: positiveNumber, originalLength: positiveInteger, length: positiveInteger }),
  v.strictObject({
    type: v.literal('yarn'),
    factor: positiveNumber,
    originalLength: positiveInteger,
    betaFast: v.optional(positiveNumber),
    betaSlow: v.optional(positiveNumber),
    truncate: v.optional(v.boolean()),
    magnitude: v.optional(positiveNumber),
  }),
  v.strictObject({
    type: v.literal('llama3'),
    factor: positiveNumber,
    originalLength: positiveInteger,
    lowFrequencyFactor: v.optional(positiveNumber),
    highFrequencyFactor: v.optional(positiveNumber),
  }),
]);

/** Schema of a layer's rotary settings; the same keys as `RotaryOptions`. */
export const rotarySchema = v.strictObject({
  /** channels per head that are rotated, even; default all */
  dims: v.optional(positiveInteger),
  base: v.optional(positiveNumber, 10000),
  /** pairs (2r, 2r + 1) instead of (r, r + R / 2) */
  interleaved: v.optional(v.boolean(), false),
  scaling: v.optional(v.nullable(scaling), null),
  xpos: v.optional(v.nullable(v.strictObject({ scaleBase: v.optional(positiveNumber), centre: v.optional(naturalNumber) })), null),
});
