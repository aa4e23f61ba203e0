/**
 * Memformer's memory, causal, in float64 on plain arrays: the specification.
 *
 * | code | symbol | equation |
 * | --- | --- | --- |
 * | read | H = softmax(x W_Q (M W_K)^T / sqrt(d)) M W_V | 1, memory reading |
 * | logits | s_i = q_i [k_i; K_x]^T / sqrt(d) | 2, 3, slot attention |
 * | temperature | tau | 3 |
 * | slotBias | v_bias | 5, biased memory normalisation |
 * | reset, update, candidate | r, z, n of a gated recurrent unit | the reference code's writer |
 *
 * Rows are lists of Float64Array; weights are [in][out].
 */

type Rows = Float64Array[];

/** W and b of an affine map, or weight and bias of a norm, row-major. */
export interface NaiveMap {
  readonly weight: Float64Array;
  readonly bias?: Float64Array;
}

type Attention = Readonly<Record<'query' | 'key' | 'value' | 'output', NaiveMap>>;

/** All learned numbers of the specification; with a slotBias the writer is the paper's. */
export interface NaiveMemformerParameters {
  readonly read: Attention;
  readonly write: Attention & {
    readonly slotBias?: Float64Array;
  } & Readonly<Partial<Record<'gateInput' | 'gateMemory' | 'norm' | 'up' | 'down', NaiveMap>>>;
}

/** Settings of the specification. */
export interface NaiveMemformerSettings {
  readonly heads: number;
  readonly segmentLength: number;
  readonly temperature: number;
  readonly updates: number;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

const affine = (row: Float64Array, { weight, bias }: NaiveMap): Float64Array => {
  const width = weight.length / row.length;
  return Float64Array.from({ length: width }, (_, out) =>
    row.reduce((sum, value, i) => sum + value * weight[i * width + out]!, bias?.[out] ?? 0),
  );
};

/** The error function by its series, good to 1e-15 for the sizes at hand. */
function erf(x: number): number {
  if (Math.abs(x) > 5.5) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

/** One row attends to keys and values of several heads. */
function attend(query: Float64Array, keys: Rows, values: Rows, heads: number, temperature: number): Float64Array {
  const width = query.length / heads;
  const out = new Float64Array(query.length);
  for (let h = 0; h < heads; h++) {
    const channels = Array.from({ length: width }, (_, d) => h * width + d);
    const logits = keys.map((k) => channels.reduce((sum, d) => sum + query[d]! * k[d]!, 0) / Math.sqrt(width) / temperature);
    const maximum = Math.max(...logits);
    const weights = logits.map((s) => Math.exp(s - maximum));
    const total = weights.reduce((a, c) => a + c, 0);
    for (const d of channels) out[d] = weights.reduce((sum, p, j) => sum + (p / total) * values[j]![d]!, 0);
  }
  return out;
}

/** The memory after a segment. */
function write(tokens: Rows, memory: Rows, p: NaiveMemformerParameters['write'], settings: NaiveMemformerSettings): Rows {
  const keys = tokens.map((row) => affine(row, p.key));
  const values = tokens.map((row) => affine(row, p.value));
  const { heads, temperature, updates } = settings;
  const attended = (m: Float64Array, tau: number): Float64Array =>
    affine(attend(affine(m, p.query), [affine(m, p.key), ...keys], [affine(m, p.value), ...values], heads, tau), p.output);
  if (p.slotBias)
    return memory.map((m, i) => {
      const next = attended(m, temperature).map((value, d) => value + p.slotBias![i * m.length + d]!);
      const size = Math.sqrt(next.reduce((sum, value) => sum + value * value, 0)) + 1e-6;
      return next.map((value) => value / size);
    });
  let slots = memory;
  for (let n = 0; n < updates; n++)
    slots = slots.map((m) => {
      const dim = m.length;
      const [input, state] = [affine(attended(m, 1), p.gateInput!), affine(m, p.gateMemory!)];
      const hidden = m.map((value, d) => {
        const reset = sigmoid(input[d]! + state[d]!);
        const update = sigmoid(input[dim + d]! + state[dim + d]!);
        const candidate = Math.tanh(input[2 * dim + d]! + reset * state[2 * dim + d]!);
        return (1 - update) * candidate + update * value;
      });
      const mean = hidden.reduce((a, c) => a + c, 0) / dim;
      const variance = hidden.reduce((a, c) => a + (c - mean) ** 2, 0) / dim;
      const normed = hidden.map((value, d) => ((value - mean) / Math.sqrt(variance + 1e-5)) * p.norm!.weight[d]! + p.norm!.bias![d]!);
      const inner = affine(normed, p.up!).map((value) => 0.5 * value * (1 + erf(value / Math.SQRT2)));
      return affine(inner, p.down!).map((value, d) => value + hidden[d]!);
    });
  return slots;
}

/** Output [T][D] and memory [N][D] of one sequence; a segment that is not full is read for and not written. */
export function naiveMemformerMemory(
  tokens: Rows,
  memory: Rows,
  parameters: NaiveMemformerParameters,
  settings: NaiveMemformerSettings,
): { output: Rows; memory: Rows } {
  const { read } = parameters;
  const { heads, segmentLength } = settings;
  const output: Rows = [];
  let held = memory;
  for (let at = 0; at < tokens.length; at += segmentLength) {
    const segment = tokens.slice(at, at + segmentLength);
    const keys = held.map((m) => affine(m, read.key));
    const values = held.map((m) => affine(m, read.value));
    output.push(...segment.map((row) => affine(attend(affine(row, read.query), keys, values, heads, 1), read.output)));
    if (segment.length === segmentLength) held = write(segment, held, parameters.write, settings);
  }
  return { output, memory: held };
}
