import { CHUNK, each } from './linear-attention-quads.ts';

/** Invocations of a workgroup that makes a tile of 64 x 64, each 4 rows by a vector of 4 columns. */
export const TILE_LANES = 256;
/** Edge of a tile. */
export const TILE = 64;

/** The two operands' slices of 16, 8 KB of workgroup memory. */
export const TILE_MEMORY = `
var<workgroup> left: array<vec4<f32>, ${TILE_LANES}>;
var<workgroup> right: array<vec4<f32>, ${TILE_LANES}>;`;

/** The invocation's rows `4 y ..` and column vector `x` of the tile, and its sums `acc0 .. acc3`. */
export const TILE_PLACE = `
  let y = lane / 16u;
  let x = lane % 16u;
  ${each(4, (i) => `var acc${i} = vec4<f32>();`, ' ')}`;

const store = (left: string, leftPlace: string, right: string, rightPlace: string): string => `
    workgroupBarrier();
    left[${leftPlace}] = ${left};
    right[${rightPlace}] = ${right};
    workgroupBarrier();`;

// vector lane % 4 of row lane / 4
const ROW_PLACE = `lane % 4u * ${CHUNK}u + lane / 4u`;
// the same, so that neighbouring invocations read neighbours
const COLUMN_PLACE = `lane % 4u * ${CHUNK}u + lane / 4u % 4u * 16u + lane / 16u`;

/**
 * Rows by 16 terms times 16 terms by columns: `left` is vector lane % 4 of row lane / 4, `right` vector lane % 16 of term lane / 16.
 */
export const rowsTimesTerms = (left: string, right: string): string => `${store(left, ROW_PLACE, right, 'lane')}
    for (var k = 0u; k < 4u; k++) {
      ${each(4, (i) => `let r${i} = right[(4u * k + ${i}u) * 16u + x];`, '\n      ')}
      ${each(4, (i) => `{ let l = left[k * ${CHUNK}u + 4u * y + ${i}u]; acc${i} += l.x * r0 + l.y * r1 + l.z * r2 + l.w * r3; }`, '\n      ')}
    }`;

/** 16 terms by rows, turned, times 16 terms by columns: both are vector lane % 16 of term lane / 16. */
export const termsTimesTerms = (left: string, right: string): string => `${store(left, 'lane', right, 'lane')}
    for (var k = 0u; k < 256u; k += 16u) {
      let l = left[k + y];
      let r = right[k + x];
      ${each(4, (i) => `acc${i} += l.${'xyzw'[i]} * r;`, ' ')}
    }`;

/** Rows by 16 terms times columns by 16 terms, turned: both are vector lane % 4 of row or column lane / 4. */
export const rowsTimesRows = (left: string, right: string): string => `${store(left, ROW_PLACE, right, COLUMN_PLACE)}
    for (var k = 0u; k < 256u; k += ${CHUNK}u) {
      ${each(4, (i) => `let r${i} = right[k + ${16 * i}u + x];`, '\n      ')}
      ${each(4, (i) => `{ let l = left[k + 4u * y + ${i}u]; acc${i} += vec4<f32>(dot(l, r0), dot(l, r1), dot(l, r2), dot(l, r3)); }`, '\n      ')}
    }`;

/**
 * A vector of scores from memory, zeros above the diagonal and behind the last token: rows of queries by keys `4 quad ..`.
 */
export const scoreReader = (tensor: string): string => `
fn ${tensor}Quad(row: u32, query: u32, quad: u32, inside: bool) -> vec4<f32> {
  let j = 4u * quad;
  let seen = vec4<u32>(j, j + 1u, j + 2u, j + 3u) <= vec4<u32>(query);
  return select(vec4<f32>(), ${tensor}[row * ${CHUNK / 4}u + quad], seen & vec4<bool>(inside));
}`;
