import { fma, laneSum, put4, sigmoid4, splat, take4 } from './lanes';

// root-mean-square norm over slices of `width`, with weight and gate

/** act(g): silu (0) or sigmoid (1). */
// @ts-ignore: decorator
@inline
function act(kind: i32, g: v128): v128 {
  const s = sigmoid4(g);
  return kind == 0 ? f32x4.mul(g, s) : s;
}

/** act'(g). */
// @ts-ignore: decorator
@inline
function slope(kind: i32, g: v128): v128 {
  const s = sigmoid4(g);
  const rest = f32x4.sub(splat(1), s);
  return kind == 0 ? fma(f32x4.mul(g, s), rest, s) : f32x4.mul(s, rest);
}

/** out = rms(x) w act(g), or rms(x act(g)) w; weight and gate may be 0. */
export function rmsForward(rows: i32, groups: i32, width: i32, x: usize, weight: usize, gate: usize, out: usize, epsilon: f32, kind: i32, normFirst: bool): void {
  for (let i = 0; i < rows; i++) {
    let w = weight;
    for (let g = 0; g < groups; g++) {
      let sum = splat(0);
      let rest = splat(0);
      if (gate != 0 && !normFirst) {
        for (let d = 0; d < width; d += 4) {
          const s = f32x4.mul(take4(x + (<usize>d << 2), width - d), act(kind, take4(gate + (<usize>d << 2), width - d)));
          put4(out + (<usize>d << 2), s, width - d);
          sum = fma(s, s, sum);
        }
      } else {
        let d = 0;
        for (; d + 8 <= width; d += 8) {
          const a = v128.load(x + (<usize>d << 2));
          const b = v128.load(x + (<usize>d << 2), 16);
          sum = fma(a, a, sum);
          rest = fma(b, b, rest);
        }
        for (; d < width; d += 4) {
          const a = take4(x + (<usize>d << 2), width - d);
          sum = fma(a, a, sum);
        }
      }
      const scale = splat(<f32>1 / sqrt<f32>(laneSum(f32x4.add(sum, rest)) / <f32>width + epsilon));
      const from = gate != 0 && !normFirst ? out : x;
      for (let d = 0; d < width; d += 4) {
        const left = width - d;
        const at = <usize>d << 2;
        let y = f32x4.mul(take4(from + at, left), scale);
        if (weight) y = f32x4.mul(y, take4(w + at, left));
        if (gate != 0 && normFirst) y = f32x4.mul(y, act(kind, take4(gate + at, left)));
        put4(out + at, y, left);
      }
      const step = <usize>width << 2;
      x += step;
      out += step;
      if (weight) w += step;
      if (gate) gate += step;
    }
  }
}

/** Gradients of rmsForward; gWeight is added to. */
export function rmsBackward(rows: i32, groups: i32, width: i32, x: usize, weight: usize, gate: usize, dOut: usize, gX: usize, gWeight: usize, gGate: usize, epsilon: f32, kind: i32, normFirst: bool): void {
  const one = splat(1);
  for (let i = 0; i < rows; i++) {
    let w = weight;
    let gw = gWeight;
    for (let g = 0; g < groups; g++) {
      let squares = splat(0);
      let products = splat(0);
      for (let d = 0; d < width; d += 4) {
        const left = width - d;
        const at = <usize>d << 2;
        let s = take4(x + at, left);
        let dn = take4(dOut + at, left);
        if (weight) dn = f32x4.mul(dn, take4(w + at, left));
        if (gate) {
          const a = act(kind, take4(gate + at, left));
          if (normFirst) dn = f32x4.mul(dn, a);
          else s = f32x4.mul(s, a);
        }
        squares = fma(s, s, squares);
        products = fma(dn, s, products);
      }
      const r = <f32>1 / sqrt<f32>(laneSum(squares) / <f32>width + epsilon);
      const scale = splat(r);
      // mean(dn n) times r, so that dx = r dn - s (that) r
      const along = splat(-(laneSum(products) / <f32>width) * r * r * r);
      for (let d = 0; d < width; d += 4) {
        const left = width - d;
        const at = <usize>d << 2;
        const input = take4(x + at, left);
        const upstream = take4(dOut + at, left);
        const factor = weight ? take4(w + at, left) : one;
        let a = one;
        let da = one;
        if (gate) {
          const pre = take4(gate + at, left);
          a = act(kind, pre);
          da = slope(kind, pre);
        }
        const s = normFirst ? input : f32x4.mul(input, a);
        const dScaled = normFirst ? f32x4.mul(upstream, a) : upstream;
        const n = f32x4.mul(s, scale);
        if (weight) put4(gw + at, fma(dScaled, n, take4(gw + at, left)), left);
        const ds = fma(f32x4.mul(dScaled, factor), scale, f32x4.mul(s, along));
        if (normFirst) {
          put4(gX + at, ds, left);
          if (gate) put4(gGate + at, f32x4.mul(f32x4.mul(upstream, f32x4.mul(n, factor)), da), left);
        } else {
          put4(gX + at, f32x4.mul(ds, a), left);
          if (gate) put4(gGate + at, f32x4.mul(f32x4.mul(ds, input), da), left);
        }
      }
      const step = <usize>width << 2;
      x += step;
      dOut += step;
      gX += step;
      if (weight) {
        w += step;
        gw += step;
      }
      if (gate) {
        gate += step;
        gGate += step;
      }
    }
  }
}
