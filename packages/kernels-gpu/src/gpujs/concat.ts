import { kernelSource, step } from './program.ts';
import type { Steps, Value } from './program.ts';

const joinRows = kernelSource(
  'concat.joinRows',
  { first: 'Input', second: 'Input', height: 'Integer' },
  `const y = this.thread.y;
  let value = 0.0;
  if (y < height) { value = first[this.thread.z][y][this.thread.x]; }
  if (y >= height) { value = second[this.thread.z][y - height][this.thread.x]; }
  return value;`,
);

/** Puts pieces after one another along y, as a tree: every number is copied once per level, log2(pieces) times in all. */
export function* joinSteps(pieces: readonly Value[]): Steps<Value> {
  let level = [...pieces];
  while (level.length > 1) {
    const next: Value[] = [];
    for (let index = 0; index < level.length; index += 2) {
      const [first, second] = [level[index]!, level[index + 1]];
      if (!second) {
        next.push(first);
        continue;
      }
      const [x, height, z] = first.extents;
      next.push(yield* step(joinRows, [x, height + second.extents[1], z], [first, second, height]));
    }
    level = next;
  }
  return level[0]!;
}
