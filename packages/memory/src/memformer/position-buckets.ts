/** Number of buckets of distances. */
export const BUCKETS = 32;

/**
 * Buckets of the distances i - j of all pairs, as in T5 for one direction: distances below 16 have their own, larger ones share buckets that
 * grow with their logarithm up to 128, and all of the future is bucket 0.
 *
 * @returns [length * length], query by query
 */
export function positionBuckets(length: number): Int32Array {
  const exact = BUCKETS / 2;
  const bucket = (distance: number): number => {
    if (distance < exact) return Math.max(0, distance);
    const share = Math.log(distance / exact) / Math.log(128 / exact);
    return Math.min(BUCKETS - 1, exact + Math.floor(share * (BUCKETS - exact)));
  };
  return Int32Array.from({ length: length * length }, (_, n) => bucket(Math.floor(n / length) - (n % length)));
}
