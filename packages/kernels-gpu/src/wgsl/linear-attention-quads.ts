/** Tokens of a chunk. */
export const CHUNK = 64;

/** What the text of a chunked shader depends on; each combination is a pipeline. */
export interface ChunkVariant {
  readonly decay: 'none' | 'head' | 'channel';
  /** Dk and Dv are multiples of 4: tensors are bound as vectors of 4, rather than read number by number */
  readonly wide: boolean;
  /** decays until the end of a chunk are kept apart from the keys, as the gradient wants them */
  readonly apart?: boolean;
}

/** Widths in the shaders' uniforms: of the keys and of the values, in numbers and in vectors of 4, rounded up. */
type Width = 'key' | 'value';

/**
 * `<tensor>Quad(row, quad)`: 4 channels of a row, zeros beyond the last. Tensors that the kernels make for themselves have rows of whole vectors.
 */
export function quadReader(tensor: string, width: Width, wide: boolean): string {
  if (wide) {
    return `
fn ${tensor}Quad(row: u32, quad: u32) -> vec4<f32> {
  if (quad >= uniforms.${width}Quads) { return vec4<f32>(); }
  return ${tensor}[row * uniforms.${width}Quads + quad];
}`;
  }
  return `
fn ${tensor}Quad(row: u32, quad: u32) -> vec4<f32> {
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    if (4u * quad + i < uniforms.${width}Dim) { four[i] = ${tensor}[row * uniforms.${width}Dim + 4u * quad + i]; }
  }
  return four;
}`;
}

/** `write_<tensor>(row, quad, four)`: the way back; what lies beyond the last channel is dropped. */
export function quadWriter(tensor: string, width: Width, wide: boolean): string {
  if (wide) {
    return `
fn write_${tensor}(row: u32, quad: u32, four: vec4<f32>) {
  if (quad < uniforms.${width}Quads) { ${tensor}[row * uniforms.${width}Quads + quad] = four; }
}`;
  }
  return `
fn write_${tensor}(row: u32, quad: u32, four: vec4<f32>) {
  for (var i = 0u; i < 4u; i++) {
    if (4u * quad + i < uniforms.${width}Dim) { ${tensor}[row * uniforms.${width}Dim + 4u * quad + i] = four[i]; }
  }
}`;
}

/** `logDecayQuad(row, quad)` of a decay per channel or `logDecayOf(row)` of one per head; -1000 is as good as -Infinity, and adds up. */
export function decayReader({ decay, wide }: ChunkVariant): string {
  if (decay === 'none') return '';
  if (decay === 'head') return `\nfn logDecayOf(row: u32) -> f32 { return max(logDecay[row], -1000.0); }`;
  return `${quadReader('logDecay', 'key', wide).replace('logDecayQuad', 'rawDecayQuad')}
fn logDecayQuad(row: u32, quad: u32) -> vec4<f32> { return max(rawDecayQuad(row, quad), vec4<f32>(-1000.0)); }`;
}

/** Repeats a text with an index. */
export const each = (count: number, text: (index: number) => string, between = '\n    '): string =>
  Array.from({ length: count }, (_, index) => text(index)).join(between);

/** The place of a workgroup of `[tiles, chunks * heads, batch]`, and its tokens. */
export const chunkPlace = (heads: string): string => `
  let head = group.y % ${heads};
  let chunk = group.y / ${heads};
  let b = group.z;
  let first = chunk * ${CHUNK}u;
  let last = min(uniforms.time, first + ${CHUNK}u);`;
