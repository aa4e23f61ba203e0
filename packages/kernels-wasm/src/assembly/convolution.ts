import { fma, put4, sigmoid4, splat, take4 } from './lanes';

// depthwise causal convolution; four taps at a time

let taps: usize = 0; // [K up to a multiple of 4][C padded], tap-major
let dTaps: usize = 0;
let zeros: usize = 0; // one row of zeros
let sink: usize = 0; // one row that nobody reads
let line: usize = 0; // gradient of the sums of one token
let rowBytes: usize = 0;

function layout(at: usize, channels: i32, count: i32): usize {
  rowBytes = <usize>((channels + 3) & ~3) << 2;
  const padded = <usize>((count + 3) & ~3);
  taps = at;
  dTaps = taps + rowBytes * padded;
  zeros = dTaps + rowBytes * padded;
  sink = zeros + rowBytes;
  line = sink + rowBytes;
  return line + rowBytes;
}

/** Bytes of scratch that the convolutions need. */
export function convolutionBytes(channels: i32, count: i32): i32 {
  return <i32>layout(0, channels, count);
}

function prepare(scratch: usize, channels: i32, count: i32, weight: usize): void {
  const end = layout(scratch, channels, count);
  memory.fill(scratch, 0, end - scratch);
  for (let c = 0; c < channels; c++) {
    for (let k = 0; k < count; k++) store<f32>(taps + <usize>k * rowBytes + (<usize>c << 2), load<f32>(weight + (<usize>(c * count + k) << 2)));
  }
}

/** Address of joined row j: the state's rows come first; rows that do not exist are `none`. */
// @ts-ignore: decorator
@inline
function rowAt(j: i32, history: i32, rows: i32, input: usize, state: usize, stride: usize, none: usize): usize {
  if (j >= history) return j - history < rows ? input + <usize>(j - history) * stride : none;
  return state ? state + <usize>j * stride : none;
}

/** The sums of one token into `to`: bias and all taps. */
function sums(t: i32, channels: i32, count: i32, rows: i32, input: usize, state: usize, bias: usize, stride: usize, to: usize): void {
  const history = count - 1;
  for (let k = 0; k < count; k += 4) {
    const r0 = rowAt(t + k, history, rows, input, state, stride, zeros);
    const r1 = k + 1 < count ? rowAt(t + k + 1, history, rows, input, state, stride, zeros) : zeros;
    const r2 = k + 2 < count ? rowAt(t + k + 2, history, rows, input, state, stride, zeros) : zeros;
    const r3 = k + 3 < count ? rowAt(t + k + 3, history, rows, input, state, stride, zeros) : zeros;
    const w = taps + <usize>k * rowBytes;
    for (let c = 0; c < channels; c += 4) {
      const left = channels - c;
      const at = <usize>c << 2;
      let y = k > 0 ? take4(to + at, left) : bias ? take4(bias + at, left) : splat(0);
      y = fma(take4(r0 + at, left), v128.load(w + at), y);
      y = fma(take4(r1 + at, left), v128.load(w + at + rowBytes), y);
      y = fma(take4(r2 + at, left), v128.load(w + at + rowBytes * 2), y);
      y = fma(take4(r3 + at, left), v128.load(w + at + rowBytes * 3), y);
      put4(to + at, y, left);
    }
  }
}

/** Rows that count of a batch row: all, or its length (int32 or float32), kept within 0 and `time`. */
// @ts-ignore: decorator
@inline
function lengthOf(lengths: usize, whole: bool, b: i32, time: i32): i32 {
  if (!lengths) return time;
  const length = whole ? load<i32>(lengths + (<usize>b << 2)) : <i32>load<f32>(lengths + (<usize>b << 2));
  return max(0, min(time, length));
}

/** input [batch, time, channels], weight [channels, count] -> out [batch, time, channels], final [batch, count - 1, channels]. */
export function convolutionForward(batch: i32, time: i32, channels: i32, count: i32, silu: bool, input: usize, weight: usize, bias: usize, state: usize, lengths: usize, whole: bool, out: usize, final: usize, scratch: usize): void {
  prepare(scratch, channels, count, weight);
  const stride = <usize>channels << 2;
  const history = count - 1;
  for (let b = 0; b < batch; b++) {
    const length = lengthOf(lengths, whole, b, time);
    for (let t = 0; t < length; t++) {
      const to = out + <usize>t * stride;
      sums(t, channels, count, length, input, state, bias, stride, to);
      if (silu) {
        for (let c = 0; c < channels; c += 4) {
          const y = take4(to + (<usize>c << 2), channels - c);
          put4(to + (<usize>c << 2), f32x4.mul(y, sigmoid4(y)), channels - c);
        }
      }
    }
    memory.fill(out + <usize>length * stride, 0, <usize>(time - length) * stride);
    for (let j = 0; j < history; j++) memory.copy(final + <usize>j * stride, rowAt(length + j, history, length, input, state, stride, zeros), stride);
    input += <usize>time * stride;
    out += <usize>time * stride;
    final += <usize>history * stride;
    if (state) state += <usize>history * stride;
  }
}

/** Gradients of convolutionForward; gInput and gState must hold zeros, gBias is added to. */
export function convolutionBackward(batch: i32, time: i32, channels: i32, count: i32, silu: bool, input: usize, weight: usize, bias: usize, state: usize, lengths: usize, whole: bool, dOut: usize, dFinal: usize, gInput: usize, gWeight: usize, gBias: usize, gState: usize, scratch: usize): void {
  prepare(scratch, channels, count, weight);
  const stride = <usize>channels << 2;
  const history = count - 1;
  const one = splat(1);
  for (let b = 0; b < batch; b++) {
    const length = lengthOf(lengths, whole, b, time);
    for (let j = 0; j < history; j++) {
      addRow(channels, dFinal + <usize>j * stride, rowAt(length + j, history, length, gInput, gState, stride, sink));
    }
    for (let t = 0; t < length; t++) {
      const upstream = dOut + <usize>t * stride;
      if (silu) {
        sums(t, channels, count, length, input, state, bias, stride, line);
        for (let c = 0; c < channels; c += 4) {
          const z = v128.load(line + (<usize>c << 2));
          const s = sigmoid4(z);
          const slope = fma(f32x4.mul(z, s), f32x4.sub(one, s), s);
          v128.store(line + (<usize>c << 2), f32x4.mul(take4(upstream + (<usize>c << 2), channels - c), slope));
        }
      } else {
        for (let c = 0; c < channels; c += 4) v128.store(line + (<usize>c << 2), take4(upstream + (<usize>c << 2), channels - c));
      }
      if (gBias) addRow(channels, line, gBias);
      for (let k = 0; k < count; k++) {
        const from = rowAt(t + k, history, length, input, state, stride, zeros);
        const to = rowAt(t + k, history, length, gInput, gState, stride, sink);
        const w = taps + <usize>k * rowBytes;
        const dw = dTaps + <usize>k * rowBytes;
        for (let c = 0; c < channels; c += 4) {
          const left = channels - c;
          const at = <usize>c << 2;
          const z = v128.load(line + at);
          put4(to + at, fma(z, v128.load(w + at), take4(to + at, left)), left);
          v128.store(dw + at, fma(z, take4(from + at, left), v128.load(dw + at)));
        }
      }
    }
    input += <usize>time * stride;
    dOut += <usize>time * stride;
    gInput += <usize>time * stride;
    dFinal += <usize>history * stride;
    if (state) {
      state += <usize>history * stride;
      gState += <usize>history * stride;
    }
  }
  for (let c = 0; c < channels; c++) {
    for (let k = 0; k < count; k++) store<f32>(gWeight + (<usize>(c * count + k) << 2), load<f32>(dTaps + <usize>k * rowBytes + (<usize>c << 2)));
  }
}

/** to += x over one row. */
export function addRow(count: i32, x: usize, to: usize): void {
  let i = 0;
  for (; i + 4 <= count; i += 4, x += 16, to += 16) v128.store(to, f32x4.add(v128.load(to), v128.load(x)));
  if (i < count) put4(to, f32x4.add(take4(to, count - i), take4(x, count - i)), count - i);
}
