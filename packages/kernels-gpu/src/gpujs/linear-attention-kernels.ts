import { kernelSource, variants } from './program.ts';

/** How strongly a memory decays: not at all, by one factor per head, or by one per key channel. */
export type Decay = 'none' | 'head' | 'channel';

/** Statements that set `b` and `head` from z, which counts batch rows and `heads`. */
const placeText = `const b = Math.floor((this.thread.z + 0.5) / heads);
    const head = this.thread.z - b * heads;`;

/** exp of the sum of log decays from the start of the chunk to a token ('head'), or from the next token to its end ('tail'). */
export const chunkDecays = variants((wanted: 'head' | 'tail') =>
  kernelSource(
    'linearAttention.chunkDecays',
    { logDecay: 'Input', time: 'Integer', chunk: 'Integer' },
    `const t = this.thread.y;
    const start = Math.floor((t + 0.5) / chunk) * chunk;
    let sum = 0.0;
    for (let i = 0; i < chunk; i++) {
      const at = start + i;
      if (${wanted === 'head' ? 'at <= t' : 'at > t && at < time'}) { sum += logDecay[this.thread.z][at][this.thread.x]; }
    }
    return Math.exp(sum);`,
  ),
);

/**
 * What row t of a chunk has to do with its token s: sum_d left_td key_sd exp(sum of log decays after s up to t), 0 where s is not before t.
 * Decays are sums of local terms, so that strong ones stay exact. `strict` leaves the token itself out, `byBeta` has a factor beta_t.
 */
export const relations = variants((decay: Decay, strict: boolean, byBeta: boolean) =>
  kernelSource(
    'linearAttention.relations',
    {
      left: 'Input',
      key: 'Input',
      logDecay: decay !== 'none' && 'Input',
      beta: byBeta && 'Input',
      chunk: 'Integer',
      heads: 'Integer',
      groups: 'Integer',
      width: 'Integer',
    },
    `${placeText}
    const group = Math.floor((head * groups + 0.5) / heads);
    const t = this.thread.y;
    const s = Math.floor((t + 0.5) / chunk) * chunk + this.thread.x;
    let sum = 0.0;
    if (s ${strict ? '<' : '<='} t) {
      let log = 0.0;
      ${decay === 'head' ? 'for (let j = 0; j < t - s; j++) { log += logDecay[b][s + 1 + j][group]; }' : ''}
      for (let i = 0; i < width; i++) {
        ${decay === 'channel' ? 'log = 0.0;\n        for (let j = 0; j < t - s; j++) { log += logDecay[b][s + 1 + j][group * width + i]; }' : ''}
        sum += left[b][t][head * width + i] * key[b][s][group * width + i]${decay === 'channel' ? ' * Math.exp(log)' : ''};
      }
      ${decay === 'head' ? 'sum = sum * Math.exp(log);' : ''}
      ${byBeta ? 'sum = sum * beta[b][t][head];' : ''}
    }
    return sum;`,
  ),
);

/** beta times the values, or beta times the keys as the memory at the chunk's start sees them. */
export const weighted = variants((decay: Decay) =>
  kernelSource(
    'linearAttention.weighted',
    { source: 'Input', beta: 'Input', headDecay: decay !== 'none' && 'Input', width: 'Integer' },
    `const x = this.thread.x;
    const t = this.thread.y;
    const b = this.thread.z;
    const head = Math.floor((x + 0.5) / width);
    return beta[b][t][head] * source[b][t][x]${decay === 'none' ? '' : ` * headDecay[b][t][${decay === 'head' ? 'head' : 'x'}]`};`,
  ),
);

/** One step of forward substitution in every chunk at once: row `place` minus its relations to the rows before it. */
export const substitute = kernelSource(
  'linearAttention.substitute',
  { rows: 'Input', relation: 'Input', place: 'Integer', chunk: 'Integer', heads: 'Integer', width: 'Integer' },
  `const x = this.thread.x;
  const t = this.thread.y;
  const b = this.thread.z;
  const start = Math.floor((t + 0.5) / chunk) * chunk;
  const head = Math.floor((x + 0.5) / width);
  let value = rows[b][t][x];
  if (Math.abs(t - start - place) < 0.5) {
    for (let i = 0; i < place; i++) { value = value - relation[b * heads + head][t][i] * rows[b][start + i][x]; }
  }
  return value;`,
);

/** What a chunk writes: the substituted values minus what the memory at its start recalls. */
export const updates = kernelSource(
  'linearAttention.updates',
  { values: 'Input', recall: 'Input', memory: 'Input', start: 'Integer', heads: 'Integer', width: 'Integer', valueWidth: 'Integer' },
  `const t = start + this.thread.y;
  const b = this.thread.z;
  const head = Math.floor((this.thread.x + 0.5) / valueWidth);
  const e = this.thread.x - head * valueWidth;
  let value = values[b][t][this.thread.x];
  for (let i = 0; i < width; i++) { value = value - recall[b][t][head * width + i] * memory[b * heads + head][i][e]; }
  return value;`,
);

/** What the queries of a chunk read: from the memory at its start, and from the tokens of the chunk. */
export const readings = variants((decay: Decay) =>
  kernelSource(
    'linearAttention.readings',
    {
      query: 'Input',
      headDecay: decay !== 'none' && 'Input',
      memory: 'Input',
      relation: 'Input',
      update: 'Input',
      start: 'Integer',
      from: 'Integer',
      count: 'Integer',
      heads: 'Integer',
      groups: 'Integer',
      width: 'Integer',
      valueWidth: 'Integer',
      scale: 'Float',
    },
    `const y = this.thread.y;
    const t = start + y;
    const b = this.thread.z;
    const head = Math.floor((this.thread.x + 0.5) / valueWidth);
    const e = this.thread.x - head * valueWidth;
    const group = Math.floor((head * groups + 0.5) / heads);
    let sum = 0.0;
    for (let i = 0; i < width; i++) {
      sum += query[b][t][head * width + i] * memory[b * groups + group][i][e]${decay === 'channel' ? ' * headDecay[b][t][group * width + i]' : ''};
    }
    ${decay === 'head' ? 'sum = sum * headDecay[b][t][group];' : ''}
    for (let j = 0; j < count; j++) {
      if (j <= y) { sum += relation[b * heads + head][t][j] * update[b][from + j][group * valueWidth + e]; }
    }
    return scale * sum;`,
  ),
);

/** The memory after a chunk. */
export const memories = variants((decay: Decay) =>
  kernelSource(
    'linearAttention.memories',
    {
      memory: 'Input',
      key: 'Input',
      headDecay: decay !== 'none' && 'Input',
      tailDecay: decay !== 'none' && 'Input',
      update: 'Input',
      start: 'Integer',
      from: 'Integer',
      count: 'Integer',
      heads: 'Integer',
      width: 'Integer',
      valueWidth: 'Integer',
    },
    `${placeText}
    const e = this.thread.x;
    const d = this.thread.y;
    const channel = ${decay === 'head' ? 'head' : 'head * width + d'};
    let sum = memory[this.thread.z][d][e]${decay === 'none' ? '' : ' * headDecay[b][start + count - 1][channel]'};
    for (let i = 0; i < count; i++) {
      sum += key[b][start + i][head * width + d] * update[b][from + i][head * valueWidth + e]${
        decay === 'none' ? '' : ' * tailDecay[b][start + i][channel]'
      };
    }
    return sum;`,
  ),
);
