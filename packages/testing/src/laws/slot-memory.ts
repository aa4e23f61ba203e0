import type { Array64, Arrays64 } from '../oracle/array64.ts';

/** Vectors of one sequence, and the slots of its memory. */
interface Slots {
  readonly output: Float64Array[];
  readonly memory: Float64Array[];
}

/**
 * Runs the specification of a memory of slots, which knows one sequence, on every row of a batch.
 *
 * @param given `input` [B, T, D] and `memory` [B, S, D]
 * @returns `output` and `memory` in the same shapes
 */
export function runEachRow(given: Arrays64, specification: (tokens: Float64Array[], memory: Float64Array[]) => Slots): Arrays64 {
  const input = given['input']!;
  const memory = given['memory']!;
  const results = Array.from({ length: input.shape[0]! }, (_, b) => specification(vectorsOf(input, b), vectorsOf(memory, b)));
  const joined = (rows: readonly Float64Array[][]): Float64Array => Float64Array.from(rows.flat().flatMap((row) => [...row]));
  return {
    output: { shape: input.shape, data: joined(results.map((result) => result.output)) },
    memory: { shape: memory.shape, data: joined(results.map((result) => result.memory)) },
  };
}

function vectorsOf({ shape, data }: Array64, b: number): Float64Array[] {
  const [, count, dim] = shape as [number, number, number];
  return Array.from({ length: count }, (_, i) => data.slice((b * count + i) * dim, (b * count + i + 1) * dim));
}

/** Parameters whose names have dots as nested records; names without a dot are left out. */
export function nestedByName<T>(flat: Readonly<Record<string, T | undefined>>): Record<string, Record<string, unknown>> {
  const tree: Record<string, Record<string, unknown>> = {};
  for (const [name, leaf] of Object.entries(flat)) {
    const path = name.split('.');
    if (path.length < 2) continue;
    let branch = (tree[path[0]!] ??= {});
    for (const step of path.slice(1, -1)) branch = (branch[step] ??= {}) as Record<string, unknown>;
    branch[path.at(-1)!] = leaf;
  }
  return tree;
}
