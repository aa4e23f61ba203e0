import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { fromTileRows, rowKinds, rowProducts, rowText, rowValues, tileExtents, tileRows } from './attention-tiles.ts';
import type { RowRange, Tiling } from './attention-tiles.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Steps, Value, Values } from './program.ts';

/** What stands for the score of a key that a query does not see; no real score is as small. Comparisons are such that NaN goes through. */
export const unseen = '-1e30';

/** Some of the keys, as many for every tile; attention goes through them piece by piece. */
export interface KeyPiece {
  /** rows of a tile that see any of its keys; the others are passed over */
  readonly range: RowRange;
  /** the keys or values of the piece: [W, n, tiles], or with `upright` [n, W, tiles] */
  rows(source: Value, upright: boolean): Steps<Value>;
  /** scores from the bare products of queries and keys, [n, rows, tiles]; with a log-sum-exp [H, T, B] their weights e^(score - logSumExp) */
  scores(product: Value, logSumExp?: Value): Steps<Value>;
}

const tops = variants((first: boolean) =>
  kernelSource(
    'attention.tops',
    { score: 'Input', top: !first && 'Input', count: 'Integer' },
    `const row = this.thread.x;
    const z = this.thread.y;
    let best = ${first ? unseen : 'top[0][z][row]'};
    for (let i = 0; i < count; i++) { best = Math.max(best, score[z][row][i]); }
    return best;`,
  ),
);

const weights = kernelSource(
  'attention.weights',
  { score: 'Input', top: 'Input', first: 'Integer', end: 'Integer' },
  `let weight = 0.0;
  if (this.thread.y >= first && this.thread.y < end) {
    const value = score[this.thread.z][this.thread.y][this.thread.x];
    weight = Math.exp(value - top[0][this.thread.z][this.thread.y]);
    if (value < -1e29) { weight = 0.0; }
  }
  return weight;`,
);

const totals = variants((first: boolean) =>
  kernelSource(
    'attention.totals',
    { weight: 'Input', total: !first && 'Input', oldTop: !first && 'Input', top: !first && 'Input', count: 'Integer' },
    `const row = this.thread.x;
    const z = this.thread.y;
    let sum = ${first ? '0.0' : 'total[0][z][row] * Math.exp(oldTop[0][z][row] - top[0][z][row])'};
    for (let i = 0; i < count; i++) { sum += weight[z][row][i]; }
    return sum;`,
  ),
);

/** Statements that set `best` and `whole`: maximum and sum of a row with its sink logit, where there is one. */
function wholeText(sink: boolean, tile: string, row: string): string {
  const bare = `let best = top[0][${tile}][${row}];
    let whole = total[0][${tile}][${row}];`;
  const sunk = `best = Math.max(best, sinkLogits[0][0][h]);
    whole = whole * Math.exp(top[0][${tile}][${row}] - best) + Math.exp(sinkLogits[0][0][h] - best);`;
  return sink ? `${bare}\n    ${sunk}` : bare;
}

const shares = variants((sink: boolean) =>
  kernelSource(
    'attention.shares',
    { top: 'Input', total: 'Input', sinkLogits: sink && 'Input', ...rowKinds },
    `const row = this.thread.x;
    const z = this.thread.y;
    ${sink ? rowText('row', 'z') : ''}
    ${wholeText(sink, 'z', 'row')}
    let part = Math.exp(top[0][z][row] - best) / whole;
    if (whole <= 0) { part = 0.0; }
    return part;`,
  ),
);

const logSums = variants((sink: boolean) =>
  kernelSource(
    'attention.logSumExp',
    { top: 'Input', total: 'Input', sinkLogits: sink && 'Input', empty: 'Float', ...rowKinds },
    `const h = this.thread.x;
    const g = Math.floor((h + 0.5) / share);
    const q = Math.floor((this.thread.y + 0.5) / queryBlock);
    const z = (this.thread.z * groups + g) * queryBlocks + q;
    const row = (this.thread.y - q * queryBlock) * share + h - g * share;
    ${wholeText(sink, 'z', 'row')}
    let value = best + Math.log(whole);
    if (whole <= 0) { value = empty; }
    return value;`,
  ),
);

/** Attention over pieces of the keys, with a running maximum and sum per row: [H Dv, T, B] and [H, T, B]. */
export function* attend(inputs: Values, tiling: Tiling, pieces: readonly KeyPiece[]): Steps<{ output: Value; logSumExp: Value }> {
  const { batch, time, heads } = tiling;
  const { sinkLogits } = inputs;
  const [height, tiles] = tileExtents(tiling);
  const perRow = [height, tiles, 1] as const;
  const query = yield* tileRows(inputs.query!, tiling);
  let [top, total, mixture]: (Value | undefined)[] = [];
  for (const piece of pieces) {
    const oldTop: Value | undefined = top;
    const key = yield* piece.rows(inputs.key!, false);
    const score = yield* piece.scores(yield* rowProducts(query, key, piece.range));
    const [count] = score.extents;
    top = yield* step(tops(!oldTop), perRow, [score, oldTop, count]);
    const weight = yield* step(weights, score.extents, [score, top, ...piece.range]);
    total = yield* step(totals(!oldTop), perRow, [weight, total, oldTop, oldTop && top, count]);
    mixture = yield* rowProducts(weight, yield* piece.rows(inputs.value!, true), piece.range, { sum: mixture, oldTop, top });
  }
  const sink = sinkLogits !== undefined;
  const part = yield* step(shares(sink), perRow, [top, total, sinkLogits, ...rowValues(tiling)]);
  const sums = [top, total, sinkLogits, -Infinity, ...rowValues(tiling)];
  return {
    output: yield* fromTileRows(mixture!, tiling, 1, part),
    logSumExp: yield* step(logSums(sink), [heads, time, batch], sums),
  };
}

const agreements = variants((ofLogSumExp: boolean) =>
  kernelSource(
    'attention.agreements',
    {
      output: 'Input',
      cotangent: 'Input',
      logSumExpCotangent: ofLogSumExp && 'Input',
      time: 'Integer',
      valueWidth: 'Integer',
      ...rowKinds,
    },
    `${rowText('this.thread.x', 'this.thread.y')}
    let sum = 0.0;
    if (t < time) {
      ${ofLogSumExp ? 'sum = -logSumExpCotangent[b][t][h];' : ''}
      for (let i = 0; i < valueWidth; i++) { sum += output[b][t][h * valueWidth + i] * cotangent[b][t][h * valueWidth + i]; }
    }
    return sum;`,
  ),
);

const ofScores = kernelSource(
  'attention.ofScores',
  { weight: 'Input', ofWeight: 'Input', agreement: 'Input' },
  `const x = this.thread.x;
  const y = this.thread.y;
  const z = this.thread.z;
  return weight[z][y][x] * (ofWeight[z][y][x] - agreement[0][z][y]);`,
);

/** What the gradients by the keys, the values and everything else that has a score are sums of, for one piece. */
export interface PieceGradients {
  /** [n, rows, tiles] */
  readonly weight: Value;
  readonly ofScore: Value;
  /** by the product of query and key, but for the scale */
  readonly ofProduct: Value;
}

/** Values of the rows that gradients by keys and values are sums over. */
export interface GradientRows {
  /** queries, [rows, D, tiles] */
  readonly query: Value;
  /** gradients of the output, [rows, Dv, tiles] */
  readonly cotangent: Value;
  /** what is taken from the gradient of every weight of a row, output . cotangent - gradient of its log-sum-exp: [rows, tiles, 1] */
  readonly agreement: Value;
}

/**
 * The gradient by the queries, [H D, T, B], and on the way, piece by piece, what the other gradients are made of.
 *
 * The weights are computed again from the log-sum-exp: with p = e^(s - logSumExp), ds = p (cotangent . v - agreement).
 *
 * @param slope makes the gradients by the products from those by the scores; the same where there is no soft cap
 * @param collect takes what a piece gives
 */
export function* attendBackwards<P extends KeyPiece>(
  inputs: Values,
  tiling: Tiling,
  pieces: readonly P[],
  scale: number,
  slope: ((ofScore: Value, product: Value) => Steps<Value>) | null,
  collect: (piece: P, found: PieceGradients, sources: GradientRows) => Steps<void>,
): Steps<{ query: Value; agreement: Value }> {
  const { time, valueWidth } = tiling;
  const { output, logSumExp, cotangent, logSumExpCotangent } = inputs;
  const [height, tiles] = tileExtents(tiling);
  const given = [output, cotangent, logSumExpCotangent, time, valueWidth, ...rowValues(tiling)];
  const agreement = yield* step(agreements(logSumExpCotangent !== undefined), [height, tiles, 1], given);
  const query = yield* tileRows(inputs.query!, tiling);
  const ofOutput = yield* tileRows(cotangent!, tiling);
  const sources = { query: yield* tileRows(inputs.query!, tiling, true), cotangent: yield* tileRows(cotangent!, tiling, true), agreement };
  let gradient: Value | undefined;
  for (const piece of pieces) {
    const product = yield* rowProducts(query, yield* piece.rows(inputs.key!, false), piece.range);
    const weight = yield* piece.scores(product, logSumExp);
    const ofWeight = yield* rowProducts(ofOutput, yield* piece.rows(inputs.value!, false), piece.range);
    const ofScore = yield* step(ofScores, weight.extents, [weight, ofWeight, agreement]);
    const ofProduct = slope ? yield* slope(ofScore, product) : ofScore;
    gradient = yield* rowProducts(ofProduct, yield* piece.rows(inputs.key!, true), piece.range, { sum: gradient });
    yield* collect(piece, { weight, ofScore, ofProduct }, sources);
  }
  return { query: yield* fromTileRows(gradient!, tiling, scale), agreement };
}

/** Inputs that gradients of attention need besides those of attention itself. */
export interface AttentionCotangents {
  /** [B, T, H, Dv], as the forward pass gave it */
  readonly output: GpujsArray;
  /** [B, T, H], as the forward pass gave it */
  readonly logSumExp: GpujsArray;
  /** gradient of the output [B, T, H, Dv] */
  readonly cotangent: GpujsArray;
  /** gradient of the log-sum-exp [B, T, H]; zeros when left out */
  readonly logSumExpCotangent?: GpujsArray | undefined;
}

/** Checks what the forward pass gave and the gradients of it. */
export function cotangentViews(mechanism: string, given: AttentionCotangents, tiling: Tiling): Record<string, View | undefined> {
  const { output, logSumExp, cotangent, logSumExpCotangent } = given;
  const { batch, time, heads, valueWidth } = tiling;
  checkArray(mechanism, 'output', output, [batch, time, heads, valueWidth]);
  checkArray(mechanism, 'logSumExp', logSumExp, [batch, time, heads]);
  checkArray(mechanism, 'cotangent', cotangent, output.shape);
  if (logSumExpCotangent) checkArray(mechanism, 'logSumExpCotangent', logSumExpCotangent, logSumExp.shape);
  return {
    output: view(output, heads * valueWidth, time, batch),
    logSumExp: view(logSumExp, heads, time, batch),
    cotangent: view(cotangent, heads * valueWidth, time, batch),
    logSumExpCotangent: logSumExpCotangent && view(logSumExpCotangent, heads, time, batch),
  };
}
