import { exp4, fma, laneSum, put4, splat, take4 } from './lanes';

// state space scan of Mamba: h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t, y_t = sum_n C_t h_t + D u_t

let rates: usize = 0; // A in padded rows [C][N up to a multiple of 4]
let inputs: usize = 0; // B_t padded
let outputs: usize = 0; // C_t padded
let hidden: usize = 0; // [C][N], forward; [steps + 1][C][N], backward
let borders: usize = 0; // [chunks][C][N]
let carry: usize = 0; // [C][N] gradient of the state
let dRates: usize = 0;
let dInputs: usize = 0;
let dOutputs: usize = 0;
let line: usize = 0; // bytes of a padded row of N
let lanes: usize = 0; // bytes of [C][N]

/** Steps whose states the gradient holds at a time: the root of the length, so that both those and the borders between chunks stay few. */
// @ts-ignore: decorator
@inline
function stepsFor(time: i32): i32 {
  return <i32>ceil<f64>(sqrt<f64>(<f64>time));
}

function layout(at: usize, time: i32, channels: i32, states: i32, backward: bool): usize {
  line = <usize>((states + 3) & ~3) << 2;
  lanes = line * channels;
  const steps = <usize>stepsFor(time);
  rates = at;
  inputs = rates + lanes;
  outputs = inputs + line;
  hidden = outputs + line;
  if (!backward) return hidden + lanes;
  borders = hidden + lanes * (steps + 1);
  carry = borders + lanes * (steps + 1);
  dRates = carry + lanes;
  dInputs = dRates + lanes;
  dOutputs = dInputs + line;
  return dOutputs + line;
}

/** Bytes of scratch that the selective scans need. */
export function selectiveScanBytes(time: i32, channels: i32, states: i32, backward: bool): i32 {
  return <i32>layout(0, time, channels, states, backward);
}

/** Rows of `states` floats to padded rows, zeros beyond; 0 gives zeros. */
export function padRows(rows: i32, states: i32, from: usize, to: usize): void {
  for (let r = 0; r < rows; r++) {
    for (let n = 0; n < states; n += 4) v128.store(to + (<usize>n << 2), from ? take4(from + (<usize>n << 2), states - n) : splat(0));
    if (from) from += <usize>states << 2;
    to += line;
  }
}

/** Padded rows back to rows of `states` floats. */
export function unpadRows(rows: i32, states: i32, from: usize, to: usize): void {
  for (let r = 0; r < rows; r++) {
    for (let n = 0; n < states; n += 4) put4(to + (<usize>n << 2), v128.load(from + (<usize>n << 2)), states - n);
    from += line;
    to += <usize>states << 2;
  }
}

/** One token: states at `before` move on to `after` (may be the same); with `y`, the outputs are written. */
export function selectiveStep(channels: i32, u: usize, delta: usize, skip: usize, before: usize, after: usize, y: usize): void {
  let a = rates;
  for (let c = 0; c < channels; c++) {
    const x = load<f32>(u + (<usize>c << 2));
    const step = load<f32>(delta + (<usize>c << 2));
    const d = splat(step);
    const drive = splat(step * x);
    let sum = splat(0);
    for (let n: usize = 0; n < line; n += 16) {
      const h = fma(exp4(f32x4.mul(d, v128.load(a + n))), v128.load(before + n), f32x4.mul(drive, v128.load(inputs + n)));
      v128.store(after + n, h);
      sum = fma(v128.load(outputs + n), h, sum);
    }
    if (y) store<f32>(y + (<usize>c << 2), laneSum(sum) + (skip ? load<f32>(skip + (<usize>c << 2)) * x : 0));
    a += line;
    before += line;
    after += line;
  }
}

/** u, delta [batch, time, channels], transition [channels, states], b, c [batch, time, states] -> y [batch, time, channels], final [batch, channels, states]. */
export function selectiveForward(batch: i32, time: i32, channels: i32, states: i32, u: usize, delta: usize, transition: usize, b: usize, c: usize, skip: usize, state: usize, y: usize, final: usize, scratch: usize): void {
  layout(scratch, time, channels, states, false);
  padRows(channels, states, transition, rates);
  const stateBytes = <usize>(channels * states) << 2;
  const row = <usize>channels << 2;
  for (let i = 0; i < batch; i++) {
    padRows(channels, states, state ? state + <usize>i * stateBytes : 0, hidden);
    for (let t = 0; t < time; t++) {
      const token = <usize>(i * time + t);
      padRows(1, states, b + ((token * states) << 2), inputs);
      padRows(1, states, c + ((token * states) << 2), outputs);
      selectiveStep(channels, u + token * row, delta + token * row, skip, hidden, hidden, y + token * row);
    }
    unpadRows(channels, states, hidden, final + <usize>i * stateBytes);
  }
}

/** One token backwards. */
export function selectiveStepBackward(channels: i32, u: usize, delta: usize, skip: usize, before: usize, after: usize, dy: usize, gu: usize, gDelta: usize, gSkip: usize): void {
  let a = rates;
  let da = dRates;
  let g = carry;
  for (let c = 0; c < channels; c++) {
    const at = <usize>c << 2;
    const x = load<f32>(u + at);
    const step = load<f32>(delta + at);
    const up = load<f32>(dy + at);
    const d = splat(step);
    const drive = splat(step * x);
    const upstream = splat(up);
    let dDrive = splat(0);
    let dStep = splat(0);
    for (let n: usize = 0; n < line; n += 16) {
      const rate = v128.load(a + n);
      const e = exp4(f32x4.mul(d, rate));
      const dh = fma(upstream, v128.load(outputs + n), v128.load(g + n));
      v128.store(dOutputs + n, fma(upstream, v128.load(after + n), v128.load(dOutputs + n)));
      v128.store(dInputs + n, fma(dh, drive, v128.load(dInputs + n)));
      dDrive = fma(dh, v128.load(inputs + n), dDrive);
      const decayed = f32x4.mul(dh, e);
      const dExponent = f32x4.mul(decayed, v128.load(before + n));
      dStep = fma(dExponent, rate, dStep);
      v128.store(da + n, fma(dExponent, d, v128.load(da + n)));
      v128.store(g + n, decayed);
    }
    const driven = laneSum(dDrive);
    store<f32>(gDelta + at, laneSum(dStep) + driven * x);
    store<f32>(gu + at, driven * step + (skip ? load<f32>(skip + at) * up : 0));
    if (gSkip) store<f32>(gSkip + at, load<f32>(gSkip + at) + up * x);
    a += line;
    da += line;
    g += line;
    before += line;
    after += line;
  }
}

/** Gradients of selectiveForward; gSkip is added to, gState may be 0. */
export function selectiveBackward(batch: i32, time: i32, channels: i32, states: i32, u: usize, delta: usize, transition: usize, b: usize, c: usize, skip: usize, state: usize, dy: usize, dFinal: usize, gu: usize, gDelta: usize, gTransition: usize, gb: usize, gc: usize, gSkip: usize, gState: usize, scratch: usize): void {
  layout(scratch, time, channels, states, true);
  padRows(channels, states, transition, rates);
  memory.fill(dRates, 0, lanes);
  const stateBytes = <usize>(channels * states) << 2;
  const row = <usize>channels << 2;
  const steps = stepsFor(time);
  for (let i = 0; i < batch; i++) {
    // states at the borders of the chunks
    padRows(channels, states, state ? state + <usize>i * stateBytes : 0, hidden);
    for (let t = 0; t < time; t++) {
      const token = <usize>(i * time + t);
      if (t % steps == 0) memory.copy(borders + <usize>(t / steps) * lanes, hidden, lanes);
      padRows(1, states, b + ((token * states) << 2), inputs);
      selectiveStep(channels, u + token * row, delta + token * row, 0, hidden, hidden, 0);
    }
    padRows(channels, states, dFinal + <usize>i * stateBytes, carry);
    for (let chunk = (time - 1) / steps; chunk >= 0; chunk--) {
      const start = chunk * steps;
      const end = min(time, start + steps);
      memory.copy(hidden, borders + <usize>chunk * lanes, lanes);
      for (let t = start; t < end; t++) {
        const token = <usize>(i * time + t);
        const at = hidden + <usize>(t - start) * lanes;
        padRows(1, states, b + ((token * states) << 2), inputs);
        selectiveStep(channels, u + token * row, delta + token * row, 0, at, at + lanes, 0);
      }
      for (let t = end - 1; t >= start; t--) {
        const token = <usize>(i * time + t);
        const at = hidden + <usize>(t - start) * lanes;
        padRows(1, states, b + ((token * states) << 2), inputs);
        padRows(1, states, c + ((token * states) << 2), outputs);
        memory.fill(dInputs, 0, line);
        memory.fill(dOutputs, 0, line);
        selectiveStepBackward(channels, u + token * row, delta + token * row, skip, at, at + lanes, dy + token * row, gu + token * row, gDelta + token * row, gSkip);
        unpadRows(1, states, dInputs, gb + ((token * states) << 2));
        unpadRows(1, states, dOutputs, gc + ((token * states) << 2));
      }
    }
    if (gState) unpadRows(channels, states, carry, gState + <usize>i * stateBytes);
  }
  unpadRows(channels, states, dRates, gTransition);
}
