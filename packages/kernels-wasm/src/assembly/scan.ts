import { fma, nfma, put4, splat, take4 } from './lanes';

// linear recurrences over time, channels side by side; `carry` is the running state of one batch row.
// where time runs backwards so do the channels (`down`): the processor prefetches a stream that keeps its direction, at twice the speed

/** h_t = a_t h_(t-1) + b_t; hidden [batch, time, channels], final [batch, channels]. */
export function scanForward(
  batch: i32,
  time: i32,
  channels: i32,
  reverse: bool,
  decay: usize,
  input: usize,
  state: usize,
  hidden: usize,
  final: usize,
): void {
  const row = (<usize>channels) << 2;
  for (let b = 0; b < batch; b++) {
    if (state) memory.copy(final, state + <usize>b * row, row);
    else memory.fill(final, 0, row);
    for (let s = 0; s < time; s++) {
      const offset = <usize>(b * time + (reverse ? time - 1 - s : s)) * row;
      scanRow(channels, reverse, decay + offset, input + offset, final, hidden + offset);
    }
    final += row;
  }
}

/** carry = a carry + b, also written to `to`. */
export function scanRow(channels: i32, down: bool, a: usize, b: usize, carry: usize, to: usize): void {
  const last = (channels - 1) & ~3;
  for (let i = 0; i <= last; i += 4) {
    const c = down ? last - i : i;
    const left = channels - c;
    const at = (<usize>c) << 2;
    const h = fma(take4(a + at, left), take4(carry + at, left), take4(b + at, left));
    put4(carry + at, h, left);
    put4(to + at, h, left);
  }
}

/** Gradients of scanForward; gState holds one row per batch row and serves as the running gradient (always given). */
export function scanBackward(
  batch: i32,
  time: i32,
  channels: i32,
  reverse: bool,
  decay: usize,
  state: usize,
  hidden: usize,
  dHidden: usize,
  dFinal: usize,
  gDecay: usize,
  gInput: usize,
  gState: usize,
): void {
  const row = (<usize>channels) << 2;
  for (let b = 0; b < batch; b++) {
    memory.copy(gState, dFinal + <usize>b * row, row);
    for (let s = time - 1; s >= 0; s--) {
      const place = b * time + (reverse ? time - 1 - s : s);
      const offset = <usize>place * row;
      const before = s > 0 ? hidden + <usize>(reverse ? place + 1 : place - 1) * row : state ? state + <usize>b * row : 0;
      scanRowBackward(channels, !reverse, decay + offset, before, dHidden + offset, gState, gDecay + offset, gInput + offset);
    }
    gState += row;
  }
}

/** One step of scanBackward. */
export function scanRowBackward(channels: i32, down: bool, a: usize, before: usize, upstream: usize, carry: usize, gA: usize, gB: usize): void {
  const last = (channels - 1) & ~3;
  for (let i = 0; i <= last; i += 4) {
    const c = down ? last - i : i;
    const left = channels - c;
    const at = (<usize>c) << 2;
    const d = f32x4.add(take4(upstream + at, left), take4(carry + at, left));
    put4(gB + at, d, left);
    put4(gA + at, before ? f32x4.mul(d, take4(before + at, left)) : splat(0), left);
    put4(carry + at, f32x4.mul(d, take4(a + at, left)), left);
  }
}

/** scanForward in complex numbers, real and imaginary parts apart. */
export function complexScanForward(
  batch: i32,
  time: i32,
  channels: i32,
  reverse: bool,
  ar: usize,
  ai: usize,
  br: usize,
  bi: usize,
  sr: usize,
  si: usize,
  hr: usize,
  hi: usize,
  fr: usize,
  fi: usize,
): void {
  const row = (<usize>channels) << 2;
  for (let b = 0; b < batch; b++) {
    const own = <usize>b * row;
    if (sr) {
      memory.copy(fr + own, sr + own, row);
      memory.copy(fi + own, si + own, row);
    } else {
      memory.fill(fr + own, 0, row);
      memory.fill(fi + own, 0, row);
    }
    for (let s = 0; s < time; s++) {
      const offset = <usize>(b * time + (reverse ? time - 1 - s : s)) * row;
      complexScanRow(channels, reverse, ar + offset, ai + offset, br + offset, bi + offset, fr + own, fi + own, hr + offset, hi + offset);
    }
  }
}

/** One step of complexScanForward. */
export function complexScanRow(
  channels: i32,
  down: bool,
  ar: usize,
  ai: usize,
  br: usize,
  bi: usize,
  fr: usize,
  fi: usize,
  hr: usize,
  hi: usize,
): void {
  const last = (channels - 1) & ~3;
  for (let i = 0; i <= last; i += 4) {
    const c = down ? last - i : i;
    const left = channels - c;
    const at = (<usize>c) << 2;
    const a = take4(ar + at, left);
    const j = take4(ai + at, left);
    const x = take4(fr + at, left);
    const y = take4(fi + at, left);
    const real = nfma(j, y, fma(a, x, take4(br + at, left)));
    const imaginary = fma(j, x, fma(a, y, take4(bi + at, left)));
    put4(fr + at, real, left);
    put4(fi + at, imaginary, left);
    put4(hr + at, real, left);
    put4(hi + at, imaginary, left);
  }
}

/** Gradients of complexScanForward; gsr and gsi serve as running gradients (always given). */
export function complexScanBackward(
  batch: i32,
  time: i32,
  channels: i32,
  reverse: bool,
  ar: usize,
  ai: usize,
  sr: usize,
  si: usize,
  hr: usize,
  hi: usize,
  dhr: usize,
  dhi: usize,
  dfr: usize,
  dfi: usize,
  gar: usize,
  gai: usize,
  gbr: usize,
  gbi: usize,
  gsr: usize,
  gsi: usize,
): void {
  const row = (<usize>channels) << 2;
  for (let b = 0; b < batch; b++) {
    const own = <usize>b * row;
    memory.copy(gsr + own, dfr + own, row);
    memory.copy(gsi + own, dfi + own, row);
    for (let s = time - 1; s >= 0; s--) {
      const place = b * time + (reverse ? time - 1 - s : s);
      const offset = <usize>place * row;
      const previous = <usize>(reverse ? place + 1 : place - 1) * row;
      const xr = s > 0 ? hr + previous : sr ? sr + own : 0;
      const xi = s > 0 ? hi + previous : si ? si + own : 0;
      complexScanRowBackward(
        channels,
        !reverse,
        ar + offset,
        ai + offset,
        xr,
        xi,
        dhr + offset,
        dhi + offset,
        gsr + own,
        gsi + own,
        gar + offset,
        gai + offset,
        gbr + offset,
        gbi + offset,
      );
    }
  }
}

/** One step of complexScanBackward: gradients are those of the real and imaginary parts, so products take the conjugate. */
export function complexScanRowBackward(
  channels: i32,
  down: bool,
  ar: usize,
  ai: usize,
  xr: usize,
  xi: usize,
  ur: usize,
  ui: usize,
  cr: usize,
  ci: usize,
  gar: usize,
  gai: usize,
  gbr: usize,
  gbi: usize,
): void {
  const last = (channels - 1) & ~3;
  for (let i = 0; i <= last; i += 4) {
    const c = down ? last - i : i;
    const left = channels - c;
    const at = (<usize>c) << 2;
    const dr = f32x4.add(take4(ur + at, left), take4(cr + at, left));
    const di = f32x4.add(take4(ui + at, left), take4(ci + at, left));
    const a = take4(ar + at, left);
    const j = take4(ai + at, left);
    const x = xr ? take4(xr + at, left) : splat(0);
    const y = xr ? take4(xi + at, left) : splat(0);
    put4(gbr + at, dr, left);
    put4(gbi + at, di, left);
    put4(gar + at, fma(dr, x, f32x4.mul(di, y)), left);
    put4(gai + at, nfma(dr, y, f32x4.mul(di, x)), left);
    put4(cr + at, fma(dr, a, f32x4.mul(di, j)), left);
    put4(ci + at, nfma(dr, j, f32x4.mul(di, a)), left);
  }
}
