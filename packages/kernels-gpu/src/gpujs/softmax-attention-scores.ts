import type { SoftmaxAttentionAttributes } from '@seqloom/core/softmax-attention';
import { softCapText } from './activation.ts';
import { unseen } from './attention-passes.ts';
import type { KeyPiece } from './attention-passes.ts';
import { rowKinds, rowText, rowValues } from './attention-tiles.ts';
import type { RowRange, Tiling } from './attention-tiles.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Value, Values } from './program.ts';

/** Everything that a plan of softmax attention depends on. */
export interface AttentionSettings extends Tiling, SoftmaxAttentionAttributes {
  /** extents of the bias, 1 where it is shared */
  readonly biasBatch: number;
  readonly biasHeads: number;
}

/** The rules of visibility and the optional inputs that a call has; the text of its kernels has no others. */
type Parts = Readonly<
  Record<'causal' | 'window' | 'dilation' | 'sinks' | 'prefix' | 'softCap' | 'queryPositions' | 'keyPositions' | 'bias' | 'slopes', boolean>
>;

/** Kinds of the arguments that positions are found with; `placeValues` gives their values. */
export function placeKinds({ queryPositions, keyPositions }: Pick<Parts, 'queryPositions' | 'keyPositions'>) {
  return {
    queryPositions: queryPositions && 'Input',
    keyPositions: keyPositions && 'Input',
    offset: !queryPositions && 'Integer',
  } as const;
}

/** The values of `placeKinds`. */
export function placeValues({ queryPositions, keyPositions }: Values, { keys, time }: Tiling): (Value | number | undefined)[] {
  return [queryPositions, keyPositions, queryPositions ? undefined : keys - time];
}

/** Statements that set `there` and `gap`, the position of the key at `column` and its distance, and `distance`, with its sign, for row `t` of `b`. */
export function placeText({ queryPositions, keyPositions }: Pick<Parts, 'queryPositions' | 'keyPositions'>): string {
  return `const there = ${keyPositions ? 'keyPositions[0][b][column]' : 'column'};
    const distance = ${queryPositions ? 'queryPositions[0][b][t]' : 't + offset'} - there;
    const gap = Math.abs(distance);`;
}

const scores = variants((parts: Parts, wanted: 'score' | 'weight') => {
  const { causal, window, dilation, sinks, prefix, softCap, keyPositions, bias, slopes } = parts;
  return kernelSource(
    'softmaxAttention.scores',
    {
      product: 'Input',
      start: 'Integer',
      scale: 'Float',
      ...placeKinds(parts),
      window: window && 'Integer',
      dilation: dilation && 'Integer',
      sinks: sinks && 'Integer',
      prefix: prefix && 'Integer',
      cap: softCap && 'Float',
      slopes: slopes && 'Input',
      bias: bias && 'Input',
      biasBatchStep: bias && 'Integer',
      biasHeadStep: bias && 'Integer',
      logSumExp: wanted === 'weight' && 'Input',
      first: 'Integer',
      end: 'Integer',
      ...rowKinds,
    },
    `let result = ${wanted === 'score' ? unseen : '0.0'};
    if (this.thread.y >= first && this.thread.y < end) {
      ${rowText('this.thread.y', 'this.thread.z')}
      const column = start + this.thread.x;
      ${placeText(parts)}
      let visible = 1.0;
      ${causal ? 'if (distance < 0) { visible = 0.0; }' : ''}
      ${
        dilation
          ? `const strides = Math.floor((gap + 0.5) / dilation);
      if (gap - strides * dilation > 0.5) { visible = 0.0; }`
          : ''
      }
      ${window ? `if (gap >= window${sinks ? ' && there >= sinks' : ''}) { visible = 0.0; }` : ''}
      ${prefix ? 'if (there < prefix) { visible = 1.0; }' : ''}
      ${keyPositions ? 'if (there < 0) { visible = 0.0; }' : ''}
      const bare = scale * product[this.thread.z][this.thread.y][this.thread.x];
      ${softCap ? softCapText('limited', 'bare', 'cap') : ''}
      let score = ${softCap ? 'limited' : 'bare'}${slopes ? ' - slopes[0][0][h] * gap' : ''};
      ${bias ? `score += bias[b * biasBatchStep + h * biasHeadStep][t][column];` : ''}
      if (score < ${unseen}) { score = ${unseen}; }
      if (visible < 0.5) { score = ${unseen}; }
      ${
        wanted === 'score'
          ? 'result = score;'
          : `let top = logSumExp[b][t][h];
      if (top < -1e29) { top = -1e29; }
      result = Math.exp(score - top);
      if (score < -1e29) { result = 0.0; }`
      }
    }
    return result;`,
  );
});

/** The rows that see any key of a block, as far as the rules alone say it. */
function seeingRows(inputs: Values, settings: AttentionSettings, start: number, count: number): RowRange {
  const { time, keys, share, causal, window, sinks, prefix, aligned } = settings;
  const structured = !inputs.queryPositions && (!inputs.keyPositions || aligned);
  if (!structured || start < prefix) return [0, time * share];
  // sinks are seen from any distance, though not from before them when causal
  const reach = window === null || start < sinks ? Infinity : window - 1;
  const offset = keys - time;
  const [first, last] = [start - (causal ? 0 : reach) - offset, start + count - 1 + reach - offset];
  return [share * Math.min(time, Math.max(0, first)), share * Math.max(0, Math.min(time, last + 1))];
}

const keyRows = variants((upright: boolean) =>
  kernelSource(
    'softmaxAttention.keyRows',
    { source: 'Input', start: 'Integer', groups: 'Integer', width: 'Integer' },
    `const b = Math.floor((this.thread.z + 0.5) / groups);
    const g = this.thread.z - b * groups;
    return source[b][start + ${upright ? 'this.thread.x' : 'this.thread.y'}][g * width + ${upright ? 'this.thread.y' : 'this.thread.x'}];`,
  ),
);

/** The keys from `start` on. */
export interface KeyBlock extends KeyPiece {
  readonly start: number;
  readonly count: number;
}

/** The keys in blocks, with the scores of softmax attention. */
export function keyBlocks(inputs: Values, settings: AttentionSettings): KeyBlock[] {
  const { batch, keys, groups, scale, causal, window, dilation, sinks, prefix, softCap, blockSize, biasBatch, biasHeads } = settings;
  const { queryPositions, keyPositions, slopes, bias } = inputs;
  const parts: Parts = {
    causal,
    window: window !== null,
    dilation: dilation > 1,
    sinks: window !== null && sinks > 0,
    prefix: prefix > 0,
    softCap: softCap !== null,
    queryPositions: queryPositions !== undefined,
    keyPositions: keyPositions !== undefined,
    slopes: slopes !== undefined,
    bias: bias !== undefined,
  };
  const numbers = { window: window ?? 0, dilation, sinks, prefix, softCap: softCap ?? 0 };
  const rules = Object.entries(numbers).map(([name, number]) => (parts[name as keyof Parts] ? number : undefined));
  const steps = bias ? [biasBatch > 1 ? biasHeads : 0, biasHeads > 1 ? 1 : 0] : [];
  return Array.from({ length: Math.ceil(keys / blockSize) }, (_, block) => {
    const start = block * blockSize;
    const count = Math.min(blockSize, keys - start);
    const range = seeingRows(inputs, settings, start, count);
    return {
      start,
      count,
      range,
      *rows(source, upright) {
        const width = source.extents[0] / groups;
        const [x, y] = upright ? [count, width] : [width, count];
        return yield* step(keyRows(upright), [x, y, batch * groups], [source, start, groups, width]);
      },
      *scores(product, logSumExp) {
        const places = placeValues(inputs, settings);
        const values = [product, start, scale, ...places, ...rules, slopes, bias, ...steps, logSumExp, ...range, ...rowValues(settings)];
        return yield* step(scores(parts, logSumExp ? 'weight' : 'score'), product.extents, values);
      },
    };
  });
}
