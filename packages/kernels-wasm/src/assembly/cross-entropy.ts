import { expNegative4, fma, laneMax, laneSum, nfma, put4, splat, take4, tanh4 } from './lanes';
import { logarithm } from './attention-tiles';

/** Row of logits, soft-capped when cap > 0, into `to`; returns the largest. */
export function raise(count: i32, x: usize, cap: f32, to: usize): f32 {
  const c = splat(cap);
  const inverse = splat(<f32>1 / cap);
  let top = splat(-Infinity);
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    let y = v128.load(x + ((<usize>j) << 2));
    if (cap > 0) y = f32x4.mul(c, tanh4(f32x4.mul(y, inverse)));
    v128.store(to + ((<usize>j) << 2), y);
    top = f32x4.max(top, y);
  }
  let highest = laneMax(top);
  for (; j < count; j++) {
    let y = v128.load32_splat(x + ((<usize>j) << 2));
    if (cap > 0) y = f32x4.mul(c, tanh4(f32x4.mul(y, inverse)));
    store<f32>(to + ((<usize>j) << 2), f32x4.extract_lane(y, 0));
    highest = max(highest, f32x4.extract_lane(y, 0));
  }
  return highest;
}

/** Sum of e^(x - top) over a row; with `to`, the exponentials are stored there. */
export function sumExponentials(count: i32, x: usize, top: f32, to: usize): f32 {
  const shift = splat(top);
  let sum = splat(0);
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    const e = expNegative4(f32x4.sub(v128.load(x + ((<usize>j) << 2)), shift));
    if (to) v128.store(to + ((<usize>j) << 2), e);
    sum = f32x4.add(sum, e);
  }
  let total = laneSum(sum);
  for (; j < count; j++) {
    const e = f32x4.extract_lane(expNegative4(splat(load<f32>(x + ((<usize>j) << 2)) - top)), 0);
    if (to) store<f32>(to + ((<usize>j) << 2), e);
    total += e;
  }
  return total;
}

/** loss = lse - (1 - e) l[label] - e mean(l) + z lse^2 per row, 0 where the label is negative; `line` holds one row of scratch. */
export function crossEntropyForward(
  rows: i32,
  count: i32,
  logits: usize,
  labels: usize,
  smoothing: f32,
  zLoss: f32,
  cap: f32,
  loss: usize,
  lse: usize,
  line: usize,
): void {
  for (let i = 0; i < rows; i++) {
    const top = raise(count, logits, cap, line);
    // all that follows is relative to the largest logit: at logits of 1e4 the log-sum-exp itself has lost three digits
    const spread = logarithm(sumExponentials(count, line, top, 0));
    const label = load<i32>(labels + ((<usize>i) << 2));
    store<f32>(lse + ((<usize>i) << 2), top + spread);
    let value: f32 = 0;
    if (label >= 0) {
      value = spread - (1 - smoothing) * (load<f32>(line + ((<usize>label) << 2)) - top);
      if (smoothing > 0) {
        let mean: f64 = 0;
        for (let j = 0; j < count; j++) mean += <f64>(load<f32>(line + ((<usize>j) << 2)) - top);
        value -= smoothing * <f32>(mean / <f64>count);
      }
      value += zLoss * (top + spread) * (top + spread);
    }
    store<f32>(loss + ((<usize>i) << 2), value);
    logits += (<usize>count) << 2;
  }
}

/** Gradient of crossEntropyForward by the logits. */
export function crossEntropyBackward(
  rows: i32,
  count: i32,
  logits: usize,
  labels: usize,
  smoothing: f32,
  zLoss: f32,
  cap: f32,
  lse: usize,
  dLoss: usize,
  dLse: usize,
  out: usize,
  line: usize,
): void {
  const inverse = splat(<f32>1 / cap);
  const one = splat(1);
  for (let i = 0; i < rows; i++) {
    const label = load<i32>(labels + ((<usize>i) << 2));
    const given = label >= 0 ? load<f32>(dLoss + ((<usize>i) << 2)) : 0;
    const weight = load<f32>(dLse + ((<usize>i) << 2)) + given * (1 + 2 * zLoss * load<f32>(lse + ((<usize>i) << 2)));
    const top = raise(count, logits, cap, line);
    const sum = sumExponentials(count, line, top, out);
    const factor = splat(weight / sum);
    const even = splat((given * smoothing) / <f32>count);
    for (let j = 0; j < count; j += 4) {
      const at = out + ((<usize>j) << 2);
      put4(at, f32x4.sub(f32x4.mul(take4(at, count - j), factor), even), count - j);
    }
    if (label >= 0) {
      const at = out + ((<usize>label) << 2);
      store<f32>(at, load<f32>(at) - given * (1 - smoothing));
    }
    if (cap > 0) {
      for (let j = 0; j < count; j += 4) {
        const at = out + ((<usize>j) << 2);
        const y = f32x4.mul(take4(line + ((<usize>j) << 2), count - j), inverse);
        put4(at, f32x4.mul(take4(at, count - j), nfma(y, y, one)), count - j);
      }
    }
    logits += (<usize>count) << 2;
    out += (<usize>count) << 2;
  }
}
