/** Keeps the loads of `touch` alive. */
export let seen: i32 = 0;

/**
 * Reads one word of every cache line of `bytes` bytes at p.
 *
 * The rows of one head lie far apart, where the processor foresees nothing, and every row would be waited for by itself; read in one go before
 * the heads take their turns, many lines are under way at a time.
 */
export function touch(p: usize, bytes: usize): void {
  const end = p + bytes;
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  while (p + 256 <= end) {
    a |= load<i32>(p);
    b |= load<i32>(p, 64);
    c |= load<i32>(p, 128);
    d |= load<i32>(p, 192);
    p += 256;
  }
  seen = a | b | c | d;
}

/** Reads one word of every cache line of `bytes` bytes in each of `count` rows, `stride` bytes apart. */
export function touchRows(count: i32, p: usize, stride: usize, bytes: usize): void {
  if (bytes == stride) return touch(p, stride * count);
  for (let i = 0; i < count; i++) touch(p + stride * i, bytes);
}
