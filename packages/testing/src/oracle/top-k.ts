import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** The k largest of each row, largest first, the lower index first among equals. */
export function naiveTopK(inputs: { input: Array64 }, settings: { k: number }): { values: Array64; indices: Array64 } {
  const { input } = inputs;
  const width = input.shape.at(-1)!;
  const shape = [...input.shape.slice(0, -1), settings.k];
  const [values, indices] = [array64(shape), array64(shape)];
  for (let row = 0; row < input.data.length / width; row++) {
    const entries = [...input.data.subarray(row * width, (row + 1) * width)].map((value, index) => ({ value, index }));
    // infinities of one sign compare as NaN when subtracted
    entries.sort((left, right) => (left.value === right.value ? left.index - right.index : right.value > left.value ? 1 : -1));
    for (let place = 0; place < settings.k; place++) {
      values.data[row * settings.k + place] = entries[place]!.value;
      indices.data[row * settings.k + place] = entries[place]!.index;
    }
  }
  return { values, indices };
}
