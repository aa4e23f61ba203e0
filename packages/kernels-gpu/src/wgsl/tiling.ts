import { invocationsOf } from './tuning.ts';
import type { MatMulTile, TileNumbers } from './tuning.ts';

/** A tile, and how its numbers lie in workgroup memory. */
export interface Tiling extends MatMulTile {
  readonly numbers: TileNumbers;
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** `Four`, the type of four numbers in a tile, and `toTile` and `fromTile`, which turn four 32-bit floats into it and back. */
export const tileNumbers: Readonly<Record<TileNumbers, string>> = {
  f32: `
alias Four = vec4<f32>;
fn toTile(four: vec4<f32>) -> Four { return four; }
fn fromTile(four: Four) -> vec4<f32> { return four; }
`,
  f16: `
alias Four = vec4<f16>;
fn toTile(four: vec4<f32>) -> Four { return Four(four); }
fn fromTile(four: Four) -> vec4<f32> { return vec4<f32>(four); }
`,
  packed: `
alias Four = vec2<u32>;
fn toTile(four: vec4<f32>) -> Four { return Four(pack2x16float(four.xy), pack2x16float(four.zw)); }
fn fromTile(four: Four) -> vec4<f32> { return vec4<f32>(unpack2x16float(four.x), unpack2x16float(four.y)); }
`,
};

/** How many fours of a slice of `a` or `b` an invocation loads. */
export function loadsOf(name: 'a' | 'b', tiling: Tiling): number {
  return (tiling.inner * (name === 'a' ? tiling.rows : tiling.columns)) / 4 / invocationsOf(tiling);
}

/**
 * Statements that load a slice of rows (a) or columns (b) by the inner axis, fours of the former, into `next_a0`, `next_a1` and so on.
 *
 * Where memory runs along the inner axis, neighbours in the workgroup take neighbours along it, and the four come one by one; where it runs
 * along rows or columns, neighbours take the next four.
 */
export function load(name: 'a' | 'b', tiling: Tiling, alongInner: boolean, wide: boolean, extent: string): string {
  return upTo(loadsOf(name, tiling))
    .map((share) => {
      const first = `tile_${name} + four_${name}${share} * 4u`;
      const one = (index: number): string => {
        const place = alongInner ? `(${first} + ${index}u) * uniforms.k + p` : `p * ${extent} + ${first} + ${index}u`;
        return `if (p < uniforms.k && ${first} + ${index}u < ${extent}) { next[${index}] = ${name}[start_${name} + ${place}]; }`;
      };
      const body = wide
        ? `if (p < uniforms.k && ${first} < ${extent}) { next = ${name}[(start_${name} + p * ${extent} + ${first}) / 4u]; }`
        : [0, 1, 2, 3].map(one).join('\n    ');
      return `{
    let p = slice + inner_${name}${share};
    var next = vec4<f32>();
    ${body}
    next_${name}${share} = next;
  }`;
    })
    .join('\n  ');
}

/** Statements that say which places along the inner axis, and which fours of rows or columns, an invocation loads: `inner_a0`, `four_a0`. */
export function places(name: 'a' | 'b', tiling: Tiling, alongInner: boolean): string {
  const fours = (name === 'a' ? tiling.rows : tiling.columns) / 4;
  return upTo(loadsOf(name, tiling))
    .map((share) => {
      const item = share === 0 ? 'lane' : `(lane + ${share * invocationsOf(tiling)}u)`;
      return alongInner
        ? `let inner_${name}${share} = ${item} % ${tiling.inner}u; let four_${name}${share} = ${item} / ${tiling.inner}u;`
        : `let inner_${name}${share} = ${item} / ${fours}u; let four_${name}${share} = ${item} % ${fours}u;`;
    })
    .join('\n  ');
}

/** Workgroup memory of `multiply`. */
export function tiles({ rows, columns, inner, numbers }: Tiling): string {
  return `
${tileNumbers[numbers]}
// one more than a row has: neighbours along either axis then lie in different banks
var<workgroup> aTile: array<Four, ${inner * (rows / 4 + 1)}>;
var<workgroup> bTile: array<Four, ${inner * (columns / 4 + 1)}>;
`;
}

/**
 * Statements that multiply a tile of rows by columns over the inner axis between two uniform numbers: `loads` sets `next_a0` and so on for the
 * slice at `slice`, zeros beyond the end. Leaves the invocation's place `x`, `y` and its sums, of which `eachFour` tells.
 */
export function multiply(tiling: Tiling, from: string, to: string, loads: string): string {
  const { rows, columns, inner, rowsEach, columnsEach } = tiling;
  const [across, down] = [columns / columnsEach, rows / rowsEach];
  const [strideA, strideB] = [rows / 4 + 1, columns / 4 + 1];
  const [lefts, rights] = [upTo(rowsEach / 4), upTo(columnsEach / 4)];
  const names = (['a', 'b'] as const).flatMap((name) => upTo(loadsOf(name, tiling)).map((share) => ({ name, share })));
  return `
  let x = lane % ${across}u;
  let y = lane / ${across}u;
  ${upTo(rowsEach)
    .map((row) => rights.map((right) => `var sum${row}_${right} = vec4<f32>();`).join(' '))
    .join('\n  ')}
  ${names.map(({ name, share }) => `var next_${name}${share} = vec4<f32>();`).join('\n  ')}
  // a slice is on its way while the one before it is multiplied; beyond the last one, zeros
  for (var slice = ${from}; slice < ${to} + ${inner}u; slice += ${inner}u) {
    ${loads}
    if (slice > ${from}) {
      for (var p = 0u; p < ${inner}u; p++) {
        ${lefts.map((i) => `let left${i} = fromTile(aTile[p * ${strideA}u + y + ${i * down}u]);`).join('\n        ')}
        ${rights.map((i) => `let right${i} = fromTile(bTile[p * ${strideB}u + x + ${i * across}u]);`).join('\n        ')}
        ${upTo(rowsEach)
          .map((row) => rights.map((right) => `sum${row}_${right} += left${Math.floor(row / 4)}[${row % 4}] * right${right};`).join(' '))
          .join('\n        ')}
      }
    }
    workgroupBarrier();
    ${names
      .map(
        ({ name, share }) =>
          `${name}Tile[inner_${name}${share} * ${name === 'a' ? strideA : strideB}u + four_${name}${share}] = toTile(next_${name}${share});`,
      )
      .join('\n    ')}
    workgroupBarrier();
  }`;
}

/**
 * Statements for every four numbers that an invocation has summed up.
 *
 * @param each takes WGSL for the row and the first column within the tile, and the name of the four
 */
export function eachFour(
  { rows, columns, rowsEach, columnsEach }: Tiling,
  each: (row: string, column: string, sum: string) => string,
): string {
  const [across, down] = [columns / columnsEach, rows / rowsEach];
  return upTo(rowsEach)
    .flatMap((row) =>
      upTo(columnsEach / 4).map((right) => {
        const ownRow = `(y + ${Math.floor(row / 4) * down}u) * 4u + ${row % 4}u`;
        return each(ownRow, `(x + ${right * across}u) * 4u`, `sum${row}_${right}`);
      }),
    )
    .join('\n  ');
}
