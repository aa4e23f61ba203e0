/**
 * The specification of Titans' long-term memory, one head, token by token, in float64.
 *
 * | code | symbol | equation of the paper |
 * | --- | --- | --- |
 * | `weights`, `references` | W, W at the chunk's start | 8, 13; section 3.2 |
 * | `momenta` | S | 10 |
 * | `stepSize` | theta_t | 10 |
 * | `logMomentum` | log eta_t | 10 |
 * | `logDecay` | log(1 - alpha_t) | 13 |
 * | `surprise` | gradient of the loss of 12, by hand | 12 |
 */
type Vector = Float64Array;
/** [in][out] */
type Matrix = Vector[];

/** One head's tokens. */
export interface NaiveTokens {
  readonly query: Vector[];
  readonly key: Vector[];
  readonly value: Vector[];
  readonly stepSize: Vector;
  readonly logDecay: Vector;
  /** null: no momentum */
  readonly logMomentum: Vector | null;
}

/** One head's memory. */
export interface NaiveMemory {
  readonly weights: Matrix[];
  readonly momenta: Matrix[];
  readonly references: Matrix[];
}

/** What the tokens do not change. */
export interface NaiveSettings {
  readonly chunkSize: number;
  readonly activation: 'gelu' | 'silu';
  readonly norm: { readonly weight: Vector; readonly bias: Vector } | null;
}

// the error function by its series, and by a continued fraction where that cancels
function erf(x: number): number {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; n < 80; n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 80; n > 0; n--) fraction = n / 2 / (size + fraction);
  return Math.sign(x) * (1 - Math.exp(-x * x) / (Math.sqrt(Math.PI) * (size + fraction)));
}

function activate(x: number, activation: 'gelu' | 'silu'): { value: number; slope: number } {
  if (activation === 'gelu') {
    const share = (1 + erf(x * Math.SQRT1_2)) / 2;
    return { value: x * share, slope: share + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI) };
  }
  const share = 1 / (1 + Math.exp(-x));
  return { value: x * share, slope: share * (1 + x * (1 - share)) };
}

const times = (x: Vector, w: Matrix): Vector => w[0]!.map((_, o) => w.reduce((sum, row, i) => sum + x[i]! * row[o]!, 0));

function standardise(z: Vector): { rows: Vector; scale: number } {
  const mean = z.reduce((a, b) => a + b, 0) / z.length;
  const variance = z.reduce((a, b) => a + (b - mean) ** 2, 0) / z.length;
  const scale = 1 / Math.sqrt(variance + 1e-6);
  return { rows: z.map((value) => (value - mean) * scale), scale };
}

/** M_W(x), with the input and the sum of every layer. */
function forward(x: Vector, weights: Matrix[], { activation, norm }: NaiveSettings): { output: Vector; inputs: Vector[]; sums: Vector[] } {
  const inputs: Vector[] = [];
  const sums: Vector[] = [];
  for (const [l, weight] of weights.entries()) {
    inputs.push(l === 0 ? x : sums[l - 1]!.map((value) => activate(value, activation).value));
    sums.push(times(inputs[l]!, weight));
  }
  const last = sums.at(-1)!;
  const output = norm ? standardise(last).rows.map((value, d) => x[d]! + value * norm.weight[d]! + norm.bias[d]!) : last;
  return { output, inputs, sums };
}

/** The gradient of |M(k) - v|^2 by every weight. */
function surprise(key: Vector, value: Vector, weights: Matrix[], settings: NaiveSettings): Matrix[] {
  const { output, inputs, sums } = forward(key, weights, settings);
  let error = output.map((o, d) => 2 * (o - value[d]!));
  if (settings.norm) {
    const { rows, scale } = standardise(sums.at(-1)!);
    const g = error.map((e, d) => e * settings.norm!.weight[d]!);
    const mean = g.reduce((a, b) => a + b, 0) / g.length;
    const along = g.reduce((a, b, d) => a + b * rows[d]!, 0) / g.length;
    error = g.map((e, d) => scale * (e - mean - rows[d]! * along));
  }
  const gradients: Matrix[] = [];
  for (let l = weights.length - 1; l >= 0; l--) {
    const now = error;
    gradients.unshift([...inputs[l]!].map((a) => now.map((e) => a * e)));
    if (l === 0) break;
    error = sums[l - 1]!.map(
      (z, i) => activate(z, settings.activation).slope * weights[l]![i]!.reduce((sum, w, o) => sum + w * now[o]!, 0),
    );
  }
  return gradients;
}

const combine = (a: Matrix, x: number, b: Matrix, y: number): Matrix => a.map((row, i) => row.map((value, o) => x * value + y * b[i]![o]!));

/** Outputs [T][E] and the memory after the last token; the first token begins a chunk. */
export function naiveTitans(tokens: NaiveTokens, start: NaiveMemory, settings: NaiveSettings): { output: Vector[] } & NaiveMemory {
  let { weights, momenta, references } = start;
  const output: Vector[] = [];
  for (const [t, key] of tokens.key.entries()) {
    if (t % settings.chunkSize === 0) references = weights;
    const gradients = surprise(key, tokens.value[t]!, references, settings);
    const keep = tokens.logMomentum ? Math.exp(tokens.logMomentum[t]!) : 0;
    momenta = momenta.map((momentum, l) => combine(momentum, keep, gradients[l]!, -tokens.stepSize[t]!));
    weights = weights.map((weight, l) => combine(weight, Math.exp(tokens.logDecay[t]!), momenta[l]!, 1));
    output.push(forward(tokens.query[t]!, weights, settings).output);
  }
  if (tokens.key.length % settings.chunkSize === 0) references = weights;
  return { output, weights, momenta, references };
}
