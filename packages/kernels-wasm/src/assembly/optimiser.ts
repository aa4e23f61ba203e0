import { fma, nfma, put4, splat, take4 } from './lanes';

/** One AdamW step: kept = 1 - learning rate * decay, rate and epsilon with the bias corrections folded in. */
export function adamStep(
  count: i32,
  parameter: usize,
  gradient: usize,
  first: usize,
  second: usize,
  toParameter: usize,
  toFirst: usize,
  toSecond: usize,
  gradientScale: f32,
  oneMinusBeta1: f32,
  oneMinusBeta2: f32,
  rate: f32,
  epsilon: f32,
  kept: f32,
): void {
  const scale = splat(gradientScale);
  const b1 = splat(oneMinusBeta1);
  const b2 = splat(oneMinusBeta2);
  const r = splat(rate);
  const e = splat(epsilon);
  const k = splat(kept);
  for (let i = 0; i < count; i += 4) {
    const left = count - i;
    const at = (<usize>i) << 2;
    const g = f32x4.mul(take4(gradient + at, left), scale);
    const m0 = take4(first + at, left);
    const v0 = take4(second + at, left);
    const m = fma(f32x4.sub(g, m0), b1, m0);
    const v = fma(f32x4.sub(f32x4.mul(g, g), v0), b2, v0);
    const change = f32x4.div(m, f32x4.add(f32x4.sqrt(v), e));
    put4(toFirst + at, m, left);
    put4(toSecond + at, v, left);
    put4(toParameter + at, nfma(change, r, f32x4.mul(take4(parameter + at, left), k)), left);
  }
}
