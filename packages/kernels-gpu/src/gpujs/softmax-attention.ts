import { softCapText } from './activation.ts';
import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { checkDivides } from './check.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Steps, Value, Values } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `softmaxAttention`; G divides H, and the query at step i stands at position i + S - T. */
export interface SoftmaxAttentionInputs {
  /** [B, T, H, D] */
  readonly query: GpujsArray;
  /** [B, S, G, D] */
  readonly key: GpujsArray;
  /** [B, S, G, Dv] */
  readonly value: GpujsArray;
}

/** Options of `softmaxAttention`, as in the contract. */
export interface SoftmaxAttentionOptions extends Placement {
  /** D^-0.5 by default */
  readonly scale?: number;
  readonly causal?: boolean;
  readonly window?: number | null;
  readonly dilation?: number;
  readonly sinks?: number;
  readonly prefix?: number;
  readonly softCap?: number | null;
  /** keys whose scores exist at one time; memory is of the order B H T blockSize; default 128 */
  readonly blockSize?: number;
}

/** Everything that a plan depends on. */
export interface AttentionSettings {
  readonly batch: number;
  readonly time: number;
  readonly keys: number;
  readonly heads: number;
  readonly groups: number;
  readonly width: number;
  readonly valueWidth: number;
  readonly scale: number;
  readonly causal: number;
  readonly window: number;
  readonly dilation: number;
  readonly sinks: number;
  readonly prefix: number;
  readonly softCap: number;
  readonly blockSize: number;
}

/** What stands for the score of a key that a query does not see; no real score is as small. Comparisons are such that NaN goes through. */
const unseen = '-1e30';

/** Statements that set `row`, `head`, `b` and `group` from z, which counts batch rows and heads. */
export const placeText = `const row = this.thread.y;
    const b = Math.floor((this.thread.z + 0.5) / heads);
    const head = this.thread.z - b * heads;
    const group = Math.floor((head * groups + 0.5) / heads);`;

/** Scores of one block of keys; with `slope`, what the score's derivative by the scaled product is. */
const scores = variants((capped: boolean, wanted: 'score' | 'slope') =>
  kernelSource(
    'softmaxAttention.scores',
    {
      query: 'Input',
      key: 'Input',
      start: 'Integer',
      heads: 'Integer',
      groups: 'Integer',
      width: 'Integer',
      offset: 'Integer',
      scale: 'Float',
      causal: 'Integer',
      window: 'Integer',
      dilation: 'Integer',
      sinks: 'Integer',
      prefix: 'Integer',
      cap: capped && 'Float',
    },
    `${placeText}
    const column = start + this.thread.x;
    const distance = row + offset - column;
    let visible = 1.0;
    if (causal === 1 && distance < 0) { visible = 0.0; }
    const strides = Math.floor((Math.abs(distance) + 0.5) / dilation);
    if (Math.abs(distance) - strides * dilation > 0.5) { visible = 0.0; }
    if (window > 0 && Math.abs(distance) >= window && column >= sinks) { visible = 0.0; }
    if (column < prefix) { visible = 1.0; }
    let score = ${wanted === 'score' ? unseen : '0.0'};
    if (visible > 0.5) {
      let sum = 0.0;
      for (let i = 0; i < width; i++) {
        sum += query[b][row][head * width + i] * key[b][column][group * width + i];
      }
      const bare = scale * sum;
      ${capped ? softCapText('limited', 'bare', 'cap') : ''}
      score = ${wanted === 'score' ? (capped ? 'limited' : 'bare') : capped ? 'limitedSlope' : '1.0'};
    }
    return score;`,
  ),
);

/** Scores of the keys from `start` on, [n, T, B H], or the slopes of their soft cap. */
export function* scoreSteps(inputs: Values, settings: AttentionSettings, start: number, wanted: 'score' | 'slope' = 'score'): Steps<Value> {
  const { batch, time, keys, heads, groups, width, scale, causal, window, dilation, sinks, prefix, softCap, blockSize } = settings;
  const count = Math.min(blockSize, keys - start);
  const cap = softCap > 0 ? softCap : undefined;
  const rules = [causal, window, dilation, sinks, prefix, cap];
  const values = [inputs.query, inputs.key, start, heads, groups, width, keys - time, scale, ...rules];
  return yield* step(scores(softCap > 0, wanted), [count, time, batch * heads], values);
}

/** The starts of the blocks of keys. */
export function blockStarts({ keys, blockSize }: AttentionSettings): number[] {
  return Array.from({ length: Math.ceil(keys / blockSize) }, (_, block) => block * blockSize);
}

const tops = variants((first: boolean) =>
  kernelSource(
    'softmaxAttention.tops',
    { score: 'Input', top: !first && 'Input', count: 'Integer' },
    `const row = this.thread.x;
    const z = this.thread.y;
    let best = ${first ? unseen : 'top[0][z][row]'};
    for (let i = 0; i < count; i++) { best = Math.max(best, score[z][row][i]); }
    return best;`,
  ),
);

const weights = kernelSource(
  'softmaxAttention.weights',
  { score: 'Input', top: 'Input' },
  `const value = score[this.thread.z][this.thread.y][this.thread.x];
  let weight = Math.exp(value - top[0][this.thread.z][this.thread.y]);
  if (value < -1e29) { weight = 0.0; }
  return weight;`,
);

const totals = variants((first: boolean) =>
  kernelSource(
    'softmaxAttention.totals',
    { weight: 'Input', total: !first && 'Input', oldTop: !first && 'Input', top: !first && 'Input', count: 'Integer' },
    `const row = this.thread.x;
    const z = this.thread.y;
    let sum = ${first ? '0.0' : 'total[0][z][row] * Math.exp(oldTop[0][z][row] - top[0][z][row])'};
    for (let i = 0; i < count; i++) { sum += weight[z][row][i]; }
    return sum;`,
  ),
);

const mixtures = variants((first: boolean) =>
  kernelSource(
    'softmaxAttention.mixtures',
    {
      weight: 'Input',
      value: 'Input',
      mixture: !first && 'Input',
      oldTop: !first && 'Input',
      top: !first && 'Input',
      start: 'Integer',
      count: 'Integer',
      heads: 'Integer',
      groups: 'Integer',
      valueWidth: 'Integer',
    },
    `${placeText}
    const z = this.thread.z;
    const column = group * valueWidth + this.thread.x;
    let sum = ${first ? '0.0' : 'mixture[z][row][this.thread.x] * Math.exp(oldTop[0][z][row] - top[0][z][row])'};
    for (let i = 0; i < count; i++) { sum += weight[z][row][i] * value[b][start + i][column]; }
    return sum;`,
  ),
);

const outputs = kernelSource(
  'softmaxAttention.outputs',
  { mixture: 'Input', total: 'Input', heads: 'Integer', valueWidth: 'Integer' },
  `const head = Math.floor((this.thread.x + 0.5) / valueWidth);
  const z = this.thread.z * heads + head;
  const total_ = total[0][z][this.thread.y];
  let value = mixture[z][this.thread.y][this.thread.x - head * valueWidth] / total_;
  if (total_ <= 0) { value = 0.0; }
  return value;`,
);

const logSums = kernelSource(
  'softmaxAttention.logSumExp',
  { top: 'Input', total: 'Input', heads: 'Integer', empty: 'Float' },
  `const z = this.thread.z * heads + this.thread.x;
  let value = top[0][z][this.thread.y] + Math.log(total[0][z][this.thread.y]);
  if (total[0][z][this.thread.y] <= 0) { value = empty; }
  return value;`,
);

const forward: Program<AttentionSettings> = function* (inputs, settings) {
  const { batch, time, heads, groups, valueWidth, keys, blockSize } = settings;
  const rows = [time, batch * heads, 1] as const;
  let [top, total, mixture]: (Value | undefined)[] = [];
  for (const start of blockStarts(settings)) {
    const first = start === 0;
    const count = Math.min(blockSize, keys - start);
    const score = yield* scoreSteps(inputs, settings, start);
    const oldTop: Value | undefined = top;
    top = yield* step(tops(first), rows, [score, oldTop, count]);
    const weight = yield* step(weights, score.extents, [score, top]);
    const scaling = first ? [] : [oldTop, top];
    total = yield* step(totals(first), rows, [weight, total, ...scaling, count]);
    const values: (Value | number | undefined)[] = [weight, inputs.value, mixture, ...scaling, start, count, heads, groups, valueWidth];
    mixture = yield* step(mixtures(first), [valueWidth, time, batch * heads], values);
  }
  return {
    output: yield* step(outputs, [heads * valueWidth, time, batch], [mixture, total, heads, valueWidth]),
    logSumExp: yield* step(logSums, [heads, time, batch], [top, total, heads, -Infinity]),
  };
};

/** Checks the inputs, fills in the defaults and sees the arrays as the kernels do. */
export function arrangeAttention(
  inputs: SoftmaxAttentionInputs,
  options: SoftmaxAttentionOptions,
): { views: Record<'query' | 'key' | 'value', View>; settings: AttentionSettings } {
  const { query, key, value } = inputs;
  checkArray('softmaxAttention', 'query', query, [null, null, null, null]);
  const [batch, time, heads, width] = query.shape as [number, number, number, number];
  checkArray('softmaxAttention', 'key', key, [batch, null, null, width]);
  const [, keys, groups] = key.shape as [number, number, number, number];
  checkArray('softmaxAttention', 'value', value, [batch, keys, groups, null]);
  checkDivides('softmaxAttention', 'heads of key', groups, heads);
  const valueWidth = value.shape[3]!;
  const {
    scale = width ** -0.5,
    causal = false,
    window = null,
    dilation = 1,
    sinks = 0,
    prefix = 0,
    softCap = null,
    blockSize = 128,
  } = options;
  return {
    views: {
      query: view(query, heads * width, time, batch),
      key: view(key, groups * width, keys, batch),
      value: view(value, groups * valueWidth, keys, batch),
    },
    settings: {
      ...{ batch, time, keys, heads, groups, width, valueWidth, scale, causal: causal ? 1 : 0, window: window ?? 0 },
      ...{ dilation, sinks, prefix, softCap: softCap ?? 0, blockSize },
    },
  };
}

/**
 * Softmax attention, online over blocks of keys: five runs per block in one plan, and no buffer of T times S numbers.
 *
 * s_j = cap(scale q k_j) over the visible keys; output = sum_j softmax(s)_j v_j. Positions, bias, slopes and sink logits of the contract are
 * left to the other writings.
 *
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H]; a row that sees no key gives 0 and -Infinity
 * @throws SeqLoomError when the shapes do not fit
 */
export async function softmaxAttention(
  gpujs: Gpujs,
  inputs: SoftmaxAttentionInputs,
  options: SoftmaxAttentionOptions = {},
): Promise<{ output: GpujsArray; logSumExp: GpujsArray }> {
  const { views, settings } = arrangeAttention(inputs, options);
  const results = await gpujs.run({ kernel: 'softmaxAttention', inputs: views, settings, program: forward }, options);
  const { batch, time, heads, valueWidth } = settings;
  return {
    output: { shape: [batch, time, heads, valueWidth], data: results.output! },
    logSumExp: { shape: [batch, time, heads], data: results.logSumExp! },
  };
}
