/**
 * The specification of a mixture of experts, in float64, one token after the other.
 *
 * | code | symbol | where |
 * | --- | --- | --- |
 * | `logits` | l = W_r x | DeepSeek-V3, equation 15 |
 * | `scores` | s = softmax(l) or sigmoid(l) | equation 15 |
 * | `bias` | b, for the choice only | equation 16 |
 * | `weights` | g, of the chosen experts | equation 13 |
 * | `gate`, `up`, `down` | W_1, W_3, W_2 of an expert | equation 12 |
 */
type Vector = Float64Array;
/** [rows][columns], in which a token stands on the left: y = x M */
type Matrix = readonly Vector[];

/** How experts are chosen and weighted. */
export interface NaiveRouting {
  readonly topK: number;
  readonly score: 'softmax' | 'sigmoid';
  readonly groups: number;
  readonly groupTopK: number;
  readonly renormalise: boolean;
  readonly scale: number;
}

/** An expert's matrices: [D][F], [D][F], [F][D]. */
export interface NaiveExpert {
  readonly gate: Matrix;
  readonly up: Matrix;
  readonly down: Matrix;
}

const sum = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0);

/** Places of the k largest, largest first; of equal ones the lower place first. */
function best(values: ArrayLike<number>, k: number): number[] {
  const places = Array.from({ length: values.length }, (_, place) => place);
  return places.toSorted((a, b) => values[b]! - values[a]! || a - b).slice(0, k);
}

function times(x: Vector, matrix: Matrix): Vector {
  const y = new Float64Array(matrix[0]!.length);
  matrix.forEach((row, d) => row.forEach((value, f) => (y[f]! += x[d]! * value)));
  return y;
}

/** s of a token from its logits. */
export function naiveScores(logits: Vector, score: 'softmax' | 'sigmoid'): Vector {
  if (score === 'sigmoid') return logits.map((value) => 1 / (1 + Math.exp(-value)));
  const top = Math.max(...logits);
  const raw = logits.map((value) => Math.exp(value - top));
  const total = sum(raw);
  return raw.map((value) => value / total);
}

/** The experts of a token and their weights, the most wanted one first. */
export function naiveRoute(logits: Vector, bias: Vector | null, options: NaiveRouting): { experts: number[]; weights: number[] } {
  const { topK, score, groups, groupTopK, renormalise, scale } = options;
  const scores = naiveScores(logits, score);
  let choice = scores.map((value, e) => value + (bias ? bias[e]! : 0));
  if (groups > 1) {
    const size = choice.length / groups;
    const worth = Array.from({ length: groups }, (_, g) => {
      const own = choice.slice(g * size, (g + 1) * size);
      return bias ? sum(best(own, Math.min(2, size)).map((place) => own[place]!)) : Math.max(...own);
    });
    const kept = new Set(best(worth, groupTopK));
    choice = choice.map((value, e) => (kept.has(Math.floor(e / size)) ? value : -Infinity));
  }
  const experts = best(choice, topK);
  const chosen = experts.map((e) => scores[e]!);
  const total = renormalise ? sum(chosen) + 1e-20 : 1;
  return { experts, weights: chosen.map((value) => (scale * value) / total) };
}

/** W_2 (silu(W_1 x) * W_3 x). */
export function naiveExpert(x: Vector, { gate, up, down }: NaiveExpert): Vector {
  const lifted = times(x, up);
  return times(
    times(x, gate).map((value, f) => (value / (1 + Math.exp(-value))) * lifted[f]!),
    down,
  );
}

/**
 * y = sum over chosen experts of weight E(x), of every token.
 *
 * @param capacity places of an expert; a token that finds none there goes without that expert. null: no limit
 */
export function naiveMixtureOfExperts(
  tokens: readonly Vector[],
  router: Matrix,
  bias: Vector | null,
  experts: readonly NaiveExpert[],
  options: NaiveRouting,
  capacity: number | null = null,
): Vector[] {
  const taken = experts.map(() => 0);
  return tokens.map((x) => {
    const route = naiveRoute(times(x, router), bias, options);
    const y = new Float64Array(x.length);
    route.experts.forEach((e, place) => {
      if (capacity !== null && taken[e]! >= capacity) return;
      taken[e]!++;
      naiveExpert(x, experts[e]!).forEach((value, d) => (y[d]! += route.weights[place]! * value));
    });
    return y;
  });
}

/**
 * Losses of a batch, before their coefficients: Switch's balance over all tokens (f_e counted over all places of a token, so that an even
 * load gives k), DeepSeek's balance within each sequence (an even load gives 1), and the mean square of the logits' log-sum-exp.
 *
 * @param sequences [B][T][E] logits, without padding
 */
export function naiveBalance(
  sequences: readonly (readonly Vector[])[],
  bias: Vector | null,
  options: NaiveRouting,
): { loadBalance: number; sequence: number; zLoss: number } {
  const all = sequences.flat();
  const count = all[0]!.length;
  const shares = (logits: Vector): Vector => {
    const scores = naiveScores(logits, options.score);
    const total = sum(scores);
    return scores.map((value) => value / total);
  };
  const product = (tokens: readonly Vector[]): number => {
    const loads = new Float64Array(count);
    const means = new Float64Array(count);
    for (const logits of tokens) {
      for (const e of naiveRoute(logits, bias, options).experts) loads[e]! += 1 / tokens.length;
      shares(logits).forEach((value, e) => (means[e]! += value / tokens.length));
    }
    return count * sum(loads.map((load, e) => load * means[e]!));
  };
  const squares = all.map((logits) => {
    const top = Math.max(...logits);
    return (top + Math.log(sum(logits.map((value) => Math.exp(value - top))))) ** 2;
  });
  return {
    loadBalance: product(all),
    sequence: sum(sequences.map((tokens) => product(tokens) / options.topK)) / sequences.length,
    zLoss: sum(squares) / all.length,
  };
}
