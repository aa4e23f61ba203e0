import { exp4, fma, laneSum, put4, splat, take4 } from './lanes';

// state space scan of Mamba: h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t, y_t = sum_n C_t h_t + D u_t

/** bytes of states and decays that the gradient keeps at a time: they stay in the second cache */
const KEPT: usize = 0x80000;
/** channels that the gradient takes through a segment before the next: their numbers of one token fill a line of the cache */
const BLOCK: i32 = 16;

let rates: usize = 0; // A in padded rows [C][N up to a multiple of 4]
let inputRow: usize = 0; // [N] a padded row
let outputRow: usize = 0;
let hidden: usize = 0; // forward: [C][N]; backward: [segment + 1][block][N]
let decays: usize = 0; // [segment][block][N] exp(delta A)
let borders: usize = 0; // [segments][C][N] states at the starts of the segments
let carry: usize = 0; // [C][N] gradient of the state
let dRates: usize = 0; // [C][N]
let dInputs: usize = 0;
let dOutputs: usize = 0;
let segment: i32 = 0; // tokens whose states the gradient keeps at a time
let line: usize = 0; // bytes of a padded row of N
let lanes: usize = 0; // bytes of [C][N]

function layout(at: usize, time: i32, channels: i32, states: i32, backward: bool): usize {
  line = <usize>((states + 3) & ~3) << 2;
  lanes = line * channels;
  rates = at;
  inputRow = rates + lanes;
  outputRow = inputRow + line;
  hidden = outputRow + line;
  if (!backward) return hidden + lanes;
  const held = line * min(channels, BLOCK);
  segment = min(time, max(16, <i32>(KEPT / (held << 1))));
  decays = hidden + held * (segment + 1);
  borders = decays + held * segment;
  carry = borders + lanes * ((time + segment - 1) / segment);
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

/** A row of `states` floats where it lies, or a padded copy at `to` when it does not fill its lanes. */
// @ts-ignore: decorator
@inline
function rowOf(states: i32, from: usize, to: usize): usize {
  if ((states & 3) == 0) return from;
  padRows(1, states, from, to);
  return to;
}

/** One token forward: states at `before` move on to `after` (may be the same). The decays go to `kept` with `keep`, the outputs to `y` with `read`. */
// @ts-ignore: decorator
@inline
function step(
  channels: i32, u: usize, delta: usize, skip: usize, a: usize, b: usize, c: usize, before: usize, after: usize, keep: bool, kept: usize, read: bool, y: usize,
): void {
  for (let i = 0; i < channels; i++) {
    const x = load<f32>(u + (<usize>i << 2));
    const width = load<f32>(delta + (<usize>i << 2));
    const d = splat(width);
    const drive = splat(width * x);
    const row = line * i;
    let sum = splat(0);
    for (let n: usize = 0; n < line; n += 16) {
      const e = exp4(f32x4.mul(d, v128.load(a + row + n)));
      const h = fma(e, v128.load(before + row + n), f32x4.mul(drive, v128.load(b + n)));
      v128.store(after + row + n, h);
      if (keep) v128.store(kept + row + n, e);
      if (read) sum = fma(v128.load(c + n), h, sum);
    }
    if (read) store<f32>(y + (<usize>i << 2), laneSum(sum) + (skip ? load<f32>(skip + (<usize>i << 2)) * x : 0));
  }
}

// the steps are functions of their own: V8 optimises a function when it has been called often

/** One token: the states at `hidden` move on, and the outputs are written. */
export function selectiveStep(channels: i32, u: usize, delta: usize, skip: usize, b: usize, c: usize, y: usize): void {
  step(channels, u, delta, skip, rates, b, c, hidden, hidden, false, 0, true, y);
}

/** One token: the states at `state` move on. */
export function selectiveMove(channels: i32, u: usize, delta: usize, b: usize, state: usize): void {
  step(channels, u, delta, 0, rates, b, 0, state, state, false, 0, false, 0);
}

/** One token: states and decays are kept for the gradient. */
export function selectiveKeep(channels: i32, u: usize, delta: usize, a: usize, b: usize, before: usize, after: usize, kept: usize): void {
  step(channels, u, delta, 0, a, b, 0, before, after, true, kept, false, 0);
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
      const place = (token * states) << 2;
      selectiveStep(channels, u + token * row, delta + token * row, skip, rowOf(states, b + place, inputRow), rowOf(states, c + place, outputRow), y + token * row);
    }
    unpadRows(channels, states, hidden, final + <usize>i * stateBytes);
  }
}

/** One token backwards; g is the gradient of the state. */
export function selectiveStepBackward(
  channels: i32, u: usize, delta: usize, skip: usize, a: usize, da: usize, g: usize, b: usize, c: usize, before: usize, kept: usize, dy: usize, gu: usize, gDelta: usize, gSkip: usize,
): void {
  const held = line * channels;
  for (let i = 0; i < channels; i++) {
    const at = <usize>i << 2;
    const x = load<f32>(u + at);
    const width = load<f32>(delta + at);
    const up = load<f32>(dy + at);
    const d = splat(width);
    const drive = splat(width * x);
    const upstream = splat(up);
    let dDrive = splat(0);
    let dStep = splat(0);
    for (let n: usize = 0; n < line; n += 16) {
      const rate = v128.load(a + n);
      const dh = fma(upstream, v128.load(c + n), v128.load(g + n));
      v128.store(dOutputs + n, fma(upstream, v128.load(before + held + n), v128.load(dOutputs + n)));
      v128.store(dInputs + n, fma(dh, drive, v128.load(dInputs + n)));
      dDrive = fma(dh, v128.load(b + n), dDrive);
      const decayed = f32x4.mul(dh, v128.load(kept + n));
      const dExponent = f32x4.mul(decayed, v128.load(before + n));
      dStep = fma(dExponent, rate, dStep);
      v128.store(da + n, fma(dExponent, d, v128.load(da + n)));
      v128.store(g + n, decayed);
    }
    const driven = laneSum(dDrive);
    store<f32>(gDelta + at, laneSum(dStep) + driven * x);
    store<f32>(gu + at, driven * width + (skip ? load<f32>(skip + at) * up : 0));
    if (gSkip) store<f32>(gSkip + at, load<f32>(gSkip + at) + up * x);
    a += line;
    da += line;
    g += line;
    before += line;
    kept += line;
  }
}

/** Gradients of selectiveForward; gSkip is added to, gState may be 0. Within a segment, a block of channels goes forwards and back before the next. */
export function selectiveBackward(batch: i32, time: i32, channels: i32, states: i32, u: usize, delta: usize, transition: usize, b: usize, c: usize, skip: usize, state: usize, dy: usize, dFinal: usize, gu: usize, gDelta: usize, gTransition: usize, gb: usize, gc: usize, gSkip: usize, gState: usize, scratch: usize): void {
  layout(scratch, time, channels, states, true);
  padRows(channels, states, transition, rates);
  memory.fill(dRates, 0, lanes);
  const rowBytes = <usize>states << 2;
  const stateBytes = rowBytes * channels;
  const row = <usize>channels << 2;
  memory.fill(gb, 0, rowBytes * batch * time);
  memory.fill(gc, 0, rowBytes * batch * time);
  const lastSegment = (time - 1) / segment;
  for (let i = 0; i < batch; i++) {
    const start = <usize>i * time;
    padRows(channels, states, state ? state + <usize>i * stateBytes : 0, borders);
    for (let n = 0; n < lastSegment; n++) {
      const after = borders + lanes * (n + 1);
      memory.copy(after, after - lanes, lanes);
      for (let t = n * segment; t < (n + 1) * segment; t++) {
        const token = start + t;
        selectiveMove(channels, u + token * row, delta + token * row, rowOf(states, b + token * rowBytes, inputRow), after);
      }
    }
    padRows(channels, states, dFinal + <usize>i * stateBytes, carry);
    for (let n = lastSegment; n >= 0; n--) {
      const first = start + n * segment;
      const count = min(segment, time - n * segment);
      for (let from = 0; from < channels; from += BLOCK) {
        const width = min(BLOCK, channels - from);
        const held = line * width;
        const a = rates + line * from;
        const channel = <usize>from << 2;
        memory.copy(hidden, borders + lanes * n + line * from, held);
        for (let t = 0; t < count; t++) {
          const place = (first + t) * row + channel;
          const at = hidden + held * t;
          selectiveKeep(width, u + place, delta + place, a, rowOf(states, b + (first + t) * rowBytes, inputRow), at, at + held, decays + held * t);
        }
        for (let t = count - 1; t >= 0; t--) {
          const place = (first + t) * row + channel;
          const own = (first + t) * rowBytes;
          padRows(1, states, gb + own, dInputs);
          padRows(1, states, gc + own, dOutputs);
          selectiveStepBackward(
            width, u + place, delta + place, skip ? skip + channel : 0, a, dRates + line * from, carry + line * from, rowOf(states, b + own, inputRow), rowOf(states, c + own, outputRow),
            hidden + held * t, decays + held * t, dy + place, gu + place, gDelta + place, gSkip ? gSkip + channel : 0,
          );
          unpadRows(1, states, dInputs, gb + own);
          unpadRows(1, states, dOutputs, gc + own);
        }
      }
    }
    if (gState) unpadRows(channels, states, carry, gState + <usize>i * stateBytes);
  }
  unpadRows(channels, states, dRates, gTransition);
}
