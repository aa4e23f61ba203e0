/**
 * LM2's memory, causal, in float64 on plain arrays: the specification.
 *
 * | code | symbol | equation |
 * | --- | --- | --- |
 * | read | E_mem = A V | 1 |
 * | gate | g_out = sigma(E_mem W_out) | 2 |
 * | attended, first, candidate | C, M1, M2 | update, by attention of slots |
 * | input, forget | g_in, g_forget | 4 |
 *
 * Rows are lists of Float64Array; weights are [in][out].
 */

type Rows = Float64Array[];

/** W and b of an affine map, or weight and bias of a norm, row-major. */
export interface NaiveAffine {
  readonly weight: Float64Array;
  /** absent for keys, whose bias softmax does not see */
  readonly bias?: Float64Array;
}

/** All learned numbers of the specification. */
export interface NaiveLm2Parameters {
  readonly read: Readonly<Record<'query' | 'key' | 'value' | 'gate', NaiveAffine>>;
  readonly write: Readonly<
    Record<'query' | 'key' | 'value' | 'channel' | 'attendedNorm' | 'channelNorm' | 'inputGate' | 'memoryGate', NaiveAffine>
  > & { readonly inputScale: Float64Array; readonly inputBias: number; readonly forgetBias: number };
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

const affine = (rows: Rows, { weight, bias }: NaiveAffine): Rows =>
  rows.map((row) => {
    const width = weight.length / row.length;
    return Float64Array.from({ length: width }, (_, out) =>
      row.reduce((sum, value, i) => sum + value * weight[i * width + out]!, bias?.[out] ?? 0),
    );
  });

const norm = (rows: Rows, { weight, bias }: NaiveAffine): Rows =>
  rows.map((row) => {
    const mean = row.reduce((a, c) => a + c, 0) / row.length;
    const variance = row.reduce((a, c) => a + (c - mean) ** 2, 0) / row.length;
    return row.map((value, d) => ((value - mean) / Math.sqrt(variance + 1e-5)) * weight[d]! + bias![d]!);
  });

const plus = (a: Rows, b: Rows): Rows => a.map((row, i) => row.map((value, d) => value + b[i]![d]!));
const relu = (rows: Rows): Rows => rows.map((row) => row.map((value) => Math.max(0, value)));

/** Multi-head attention; of each row and head only the topK largest weights count. */
function attend(query: Rows, key: Rows, value: Rows, heads: number, topK = Infinity): Rows {
  const width = query[0]!.length / heads;
  return query.map((q) => {
    const out = new Float64Array(q.length);
    for (let h = 0; h < heads; h++) {
      const scores = key.map((k) => {
        let s = 0;
        for (let d = h * width; d < (h + 1) * width; d++) s += q[d]! * k[d]!;
        return s / Math.sqrt(width);
      });
      const maximum = Math.max(...scores);
      const weights = scores.map((s) => Math.exp(s - maximum));
      const total = weights.reduce((a, c) => a + c, 0);
      const kept = weights
        .map((_, j) => j)
        .toSorted((a, b) => weights[b]! - weights[a]! || a - b)
        .slice(0, topK);
      for (const j of kept) for (let d = h * width; d < (h + 1) * width; d++) out[d]! += (weights[j]! / total) * value[j]![d]!;
    }
    return out;
  });
}

/** What tokens of a segment read from the bank. */
function read(tokens: Rows, memory: Rows, p: NaiveLm2Parameters['read'], heads: number, topK: number): Rows {
  const rows = attend(affine(tokens, p.query), affine(memory, p.key), affine(memory, p.value), heads, topK);
  const gate = affine(rows, p.gate);
  return rows.map((row, t) => row.map((value, d) => value * sigmoid(gate[t]![d]!)));
}

/** The bank after a segment. */
function write(tokens: Rows, memory: Rows, p: NaiveLm2Parameters['write'], heads: number): Rows {
  const attended = attend(affine(memory, p.query), affine(tokens, p.key), affine(tokens, p.value), heads);
  const first = norm(plus(memory, attended), p.attendedNorm);
  const candidate = norm(plus(first, relu(affine(relu(affine(first, p.channel)), p.channel))), p.channelNorm);
  const dim = memory[0]!.length;
  const pooled = new Float64Array(dim);
  for (const row of tokens) row.forEach((value, d) => (pooled[d]! += Math.max(0, p.inputScale[d]! * value) / tokens.length));
  const fromTokens = affine([pooled], p.inputGate)[0]!;
  const fromMemory = affine(
    memory.map((row) => row.map(Math.tanh)),
    p.memoryGate,
  );
  return memory.map((row, n) =>
    row.map((value, d) => {
      const input = sigmoid(fromTokens[d]! + fromMemory[n]![d]! + p.inputBias);
      const forget = sigmoid(fromTokens[dim + d]! + fromMemory[n]![dim + d]! + p.forgetBias);
      return input * Math.tanh(candidate[n]![d]!) + forget * value;
    }),
  );
}

/** Output [T][D] and memory [N][D] of one sequence; a segment that is not full is read for and not written. */
export function naiveLm2Memory(
  tokens: Rows,
  memory: Rows,
  parameters: NaiveLm2Parameters,
  { heads, segmentLength, topK = Infinity }: { readonly heads: number; readonly segmentLength: number; readonly topK?: number },
): { output: Rows; memory: Rows } {
  const output: Rows = [];
  let bank = memory;
  for (let at = 0; at < tokens.length; at += segmentLength) {
    const segment = tokens.slice(at, at + segmentLength);
    output.push(...read(segment, bank, parameters.read, heads, topK));
    if (segment.length === segmentLength) bank = write(segment, bank, parameters.write, heads);
  }
  return { output, memory: bank };
}
