import { fma, nfma, splat } from './lanes';

/** Turns pairs of channels by angles; `sign` -1 turns back. input [batch, time, heads, width], cos and sin [., time, pairs] with `angleBatch` bytes per batch row. */
export function rotary(
  batch: i32,
  time: i32,
  heads: i32,
  width: i32,
  pairs: i32,
  interleaved: bool,
  sign: f32,
  input: usize,
  cos: usize,
  sin: usize,
  angleBatch: usize,
  out: usize,
): void {
  const row = (<usize>width) << 2;
  const rotated = (<usize>pairs) << 3;
  const s4 = splat(sign);
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < time; t++) {
      const c = cos + <usize>b * angleBatch + ((<usize>(t * pairs)) << 2);
      const s = sin + <usize>b * angleBatch + ((<usize>(t * pairs)) << 2);
      for (let h = 0; h < heads; h++) {
        let r = 0;
        if (interleaved) {
          for (; r + 2 <= pairs; r += 2) {
            const at = (<usize>r) << 3;
            const x = v128.load(input + at);
            const turned = v128.shuffle<f32>(x, x, 1, 0, 3, 2);
            const cc = v128.shuffle<f32>(v128.load64_zero(c + ((<usize>r) << 2)), splat(0), 0, 0, 1, 1);
            const ss = v128.shuffle<f32>(v128.load64_zero(s + ((<usize>r) << 2)), splat(0), 0, 0, 1, 1);
            v128.store(out + at, fma(f32x4.mul(turned, ss), f32x4(-sign, sign, -sign, sign), f32x4.mul(x, cc)));
          }
        } else {
          for (; r + 4 <= pairs; r += 4) {
            const at = (<usize>r) << 2;
            const second = at + ((<usize>pairs) << 2);
            const x = v128.load(input + at);
            const y = v128.load(input + second);
            const cc = v128.load(c + at);
            const ss = f32x4.mul(s4, v128.load(s + at));
            v128.store(out + at, nfma(y, ss, f32x4.mul(x, cc)));
            v128.store(out + second, fma(x, ss, f32x4.mul(y, cc)));
          }
        }
        for (; r < pairs; r++) {
          const first = (<usize>(interleaved ? 2 * r : r)) << 2;
          const second = (<usize>(interleaved ? 2 * r + 1 : r + pairs)) << 2;
          const x = load<f32>(input + first);
          const y = load<f32>(input + second);
          const cc = load<f32>(c + ((<usize>r) << 2));
          const ss = sign * load<f32>(s + ((<usize>r) << 2));
          store<f32>(out + first, x * cc - y * ss);
          store<f32>(out + second, y * cc + x * ss);
        }
        if (rotated < row) memory.copy(out + rotated, input + rotated, row - rotated);
        input += row;
        out += row;
      }
    }
  }
}
