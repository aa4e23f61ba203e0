import { deriveSeed } from '@seqloom/core';

/**
 * A seeded shuffle of 0..size-1 that needs no memory: a four-round Feistel network over the next power of four, walked until the
 * value falls inside.
 *
 * @param size how many numbers, at most 2^32
 * @param seed another seed gives another order
 * @returns a bijection from [0, size) to itself
 */
export function permutation(size: number, seed: number): (index: number) => number {
  let half = 1;
  while (4 ** half < size) half++;
  const side = 2 ** half;
  const keys = [0, 1, 2, 3].map((round) => deriveSeed(seed, `permutation.${round}`));
  const encrypt = (value: number): number => {
    let left = Math.floor(value / side);
    let right = value % side;
    for (const key of keys) {
      const next = (left ^ scramble(right, key)) & (side - 1);
      left = right;
      right = next >>> 0;
    }
    return left * side + right;
  };
  return (index) => {
    let value = encrypt(index);
    while (value >= size) value = encrypt(value);
    return value;
  };
}

function scramble(value: number, key: number): number {
  let x = (value ^ key) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}
