import { view } from './array.ts';
import type { View } from './array.ts';

/**
 * Sorts places by the number that stands there, so that whoever adds up the places of one number finds them side by side.
 *
 * @param numbers N whole numbers below `count`; places with a negative one are left out
 * @returns `order` [N], the places in the order of their numbers and, for one number, in their own; `starts` [count + 1], where each begins
 */
export function sortPlaces(numbers: Int32Array, count: number): { order: View; starts: View } {
  const starts = new Float32Array(count + 1);
  for (const number of numbers) if (number >= 0) starts[number + 1]! += 1;
  for (let number = 0; number < count; number++) starts[number + 1]! += starts[number]!;
  const next = starts.slice();
  const order = new Float32Array(numbers.length);
  for (const [place, number] of numbers.entries()) if (number >= 0) order[next[number]!++] = place;
  return {
    order: view({ shape: [order.length], data: order }, order.length),
    starts: view({ shape: [starts.length], data: starts }, starts.length),
  };
}
