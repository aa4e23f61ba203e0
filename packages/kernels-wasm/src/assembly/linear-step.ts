import { exp1, expDecay4, fma, splat } from './lanes';
import { keyPadded, loadRow } from './linear-chunk';
import { tileOne } from './tile';

// linear attention token by token, as a decoder asks for it: the state goes from where it was to where it will be, and nothing is packed

/** most tokens that are taken one by one: a piece of six costs as much as these */
export const MOST_STEPS: i32 = 4;

/**
 * One token of one state head: to = decays * from + k u, with u = v or, for a delta rule, beta (v - (k * decays) from); output = scale q to, for `group` query heads.
 *
 * States [dk, dv] without padding, dv a multiple of 8; `from` may be `to`. `room` holds two rows of keys and one of values, with room for reads beyond the end.
 */
export function linearStep(
  group: i32, dk: i32, dv: i32, mode: i32, scale: f32, query: usize, key: usize, value: usize, decay: usize, beta: usize, from: usize, to: usize, output: usize,
  room: usize,
): void {
  const row = <usize>dv << 2;
  const decays = room;
  const keys = decays + (<usize>keyPadded << 2);
  const update = keys + (<usize>keyPadded << 2);
  const head = mode == 1 ? splat(exp1(load<f32>(decay))) : splat(1);
  for (let d = 0; d < keyPadded; d += 4) {
    const at = <usize>d << 2;
    const e = mode == 2 ? expDecay4(loadRow(decay, d, dk)) : head;
    v128.store(decays + at, e);
    v128.store(keys + at, f32x4.mul(loadRow(key, d, dk), e));
  }
  memory.copy(update, value, row);
  if (beta) {
    const strength = splat(load<f32>(beta));
    for (let at: usize = 0; at < row; at += 32) {
      tileOne(dk, keys, from + at, row, update + at, 8, -1, true);
      v128.store(update + at, f32x4.mul(strength, v128.load(update + at)));
      v128.store(update + at, f32x4.mul(strength, v128.load(update + at, 16)), 16);
    }
  }
  for (let at: usize = 0; at < row; at += 64) {
    const wide = at + 64 <= row;
    const u0 = v128.load(update + at);
    const u1 = v128.load(update + at, 16);
    const u2 = v128.load(update + at, 32);
    const u3 = v128.load(update + at, 48);
    let p = from + at;
    let q = to + at;
    for (let d: usize = 0; d < <usize>dk << 2; d += 4) {
      const k = v128.load32_splat(key + d);
      const e = v128.load32_splat(decays + d);
      v128.store(q, fma(k, u0, f32x4.mul(e, v128.load(p))));
      v128.store(q, fma(k, u1, f32x4.mul(e, v128.load(p, 16))), 16);
      if (wide) {
        v128.store(q, fma(k, u2, f32x4.mul(e, v128.load(p, 32))), 32);
        v128.store(q, fma(k, u3, f32x4.mul(e, v128.load(p, 48))), 48);
      }
      p += row;
      q += row;
    }
  }
  for (let g = 0; g < group; g++) {
    for (let at: usize = 0; at < row; at += 32) tileOne(dk, query, to + at, row, output + at, 8, scale, false);
    query += <usize>dk << 2;
    output += row;
  }
}
