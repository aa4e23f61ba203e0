/**
 * Recurrent memory in float64 on plain arrays: the specification.
 *
 * | code | symbol | where |
 * | --- | --- | --- |
 * | memory | Mem_tau, [m, D] | section 3 |
 * | cell | H^N = Transformer(H^0) | section 3 |
 * | rows | H^0 = [Mem_tau; X_tau; Mem_tau] | section 3 |
 * | lengths | tokens of the segments | segmentation |
 */

/** A dense float64 tensor, row-major. */
export interface NaiveRows {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Settings of the specification. */
export interface NaiveRecurrentMemorySettings {
  /** the stack: rows [N, D] of one sequence to rows [N, D] */
  readonly cell: (rows: Float64Array[]) => Float64Array[];
  readonly segmentLength: number;
  /** where a short segment goes: to the end (left) or to the start (right) */
  readonly align: 'left' | 'right';
  /** no write tokens; the outputs at the read tokens are the next memory */
  readonly encoder: boolean;
}

/** Numbers of tokens of the segments of a sequence. */
export function naiveSegments(length: number, segmentLength: number, align: 'left' | 'right'): number[] {
  const whole = Array.from({ length: Math.floor(length / segmentLength) }, () => segmentLength);
  const rest = length % segmentLength;
  if (rest === 0) return whole;
  return align === 'left' ? [...whole, rest] : [rest, ...whole];
}

/** Output [B, T, D] and last memory [B, m, D] from input [B, T, D] and memory [B, m, D]. */
export function naiveRecurrentMemory(
  inputs: { readonly input: NaiveRows; readonly memory: NaiveRows },
  { cell, segmentLength, align, encoder }: NaiveRecurrentMemorySettings,
): { output: NaiveRows; memory: NaiveRows } {
  const [batch, length, dim] = inputs.input.shape as [number, number, number];
  const slots = inputs.memory.shape[1]!;
  const row = ({ data }: NaiveRows, index: number): Float64Array => data.slice(index * dim, (index + 1) * dim);
  const output = new Float64Array(batch * length * dim);
  const after = new Float64Array(batch * slots * dim);
  for (let b = 0; b < batch; b++) {
    let memory = Array.from({ length: slots }, (_, i) => row(inputs.memory, b * slots + i));
    let from = 0;
    for (const count of naiveSegments(length, segmentLength, align)) {
      const tokens = Array.from({ length: count }, (_, i) => row(inputs.input, b * length + from + i));
      const hidden = cell(encoder ? [...memory, ...tokens] : [...memory, ...tokens, ...memory]);
      for (let i = 0; i < count; i++) output.set(hidden[slots + i]!, (b * length + from + i) * dim);
      memory = encoder ? hidden.slice(0, slots) : hidden.slice(slots + count);
      from += count;
    }
    memory.forEach((vector, i) => after.set(vector, (b * slots + i) * dim));
  }
  return { output: { shape: inputs.input.shape, data: output }, memory: { shape: inputs.memory.shape, data: after } };
}
