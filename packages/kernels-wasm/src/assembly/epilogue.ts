import { loadSome, splat, storeSome } from './lanes';

/** x[rows, n] += bias[n] (bias may be 0: none), then the larger of it and `floor`, in place. */
export function addBias(rows: i32, n: i32, x: usize, bias: usize, floor: f32): void {
  const least = splat(floor);
  for (let i = 0; i < rows; i++) {
    let from = bias;
    let j = 0;
    for (; j + 4 <= n; j += 4) {
      let y = v128.load(x);
      if (bias) y = f32x4.add(y, v128.load(from));
      v128.store(x, f32x4.max(y, least));
      x += 16;
      from += 16;
    }
    if (j < n) {
      const rest = n - j;
      let y = loadSome(x, rest);
      if (bias) y = f32x4.add(y, loadSome(from, rest));
      storeSome(x, f32x4.max(y, least), rest);
      x += (<usize>rest) << 2;
    }
  }
}
