import type { Decay } from './linear-attention-kernels.ts';
import { kernelSource, variants } from './program.ts';

/**
 * Sums over the tokens of a chunk that decay on the way are taken by Horner's rule: one more token, one more factor. No factor is above 1 and
 * nothing is divided by, so strong decays stay finite and exact.
 */
const fade = (decay: Decay, sum: string, t: string, head: string, channel: string): string =>
  decay === 'none' ? '' : `${sum} = ${sum} * factor[b][${t}][${decay === 'head' ? head : channel}];`;

/** exp of the log decays. */
export const factors = kernelSource(
  'linearAttention.factors',
  { logDecay: 'Input' },
  'return Math.exp(logDecay[this.thread.z][this.thread.y][this.thread.x]);',
);

/** What the outputs of a chunk ask of the values its tokens write: the gradient of U that does not come from the memory after the chunk. */
export const asked = kernelSource(
  'linearAttention.asked',
  {
    seen: 'Input',
    cotangent: 'Input',
    time: 'Integer',
    chunk: 'Integer',
    heads: 'Integer',
    shared: 'Integer',
    valueWidth: 'Integer',
    scale: 'Float',
  },
  `const s = this.thread.y;
  const b = this.thread.z;
  const group = Math.floor((this.thread.x + 0.5) / valueWidth);
  const e = this.thread.x - group * valueWidth;
  const start = Math.floor((s + 0.5) / chunk) * chunk;
  let sum = 0.0;
  for (let i = 0; i < shared; i++) {
    const head = group * shared + i;
    for (let j = 0; j < chunk; j++) {
      const t = start + j;
      if (t >= s && t < time) { sum += seen[b * heads + head][t][s - start] * cotangent[b][t][head * valueWidth + e]; }
    }
  }
  return scale * sum;`,
);

/** The keys as the memory after their chunk sees them. */
export const leavingKeys = variants((decay: Decay) =>
  kernelSource(
    'linearAttention.leavingKeys',
    { key: 'Input', tailDecay: 'Input', width: 'Integer' },
    `const x = this.thread.x;
    const group = Math.floor((x + 0.5) / width);
    return key[this.thread.z][this.thread.y][x] * tailDecay[this.thread.z][this.thread.y][${decay === 'head' ? 'group' : 'x'}];`,
  ),
);

/** One step of backward substitution in every chunk at once: row `place` minus what the rows after it have of it. */
export const substituteBack = kernelSource(
  'linearAttention.substituteBack',
  { rows: 'Input', relation: 'Input', place: 'Integer', time: 'Integer', chunk: 'Integer', heads: 'Integer', width: 'Integer' },
  `const x = this.thread.x;
  const t = this.thread.y;
  const b = this.thread.z;
  const start = Math.floor((t + 0.5) / chunk) * chunk;
  const head = Math.floor((x + 0.5) / width);
  let value = rows[b][t][x];
  if (Math.abs(t - start - place) < 0.5) {
    for (let i = 0; i < chunk - place - 1; i++) {
      const later = t + 1 + i;
      if (later < time) { value = value - relation[b * heads + head][later][place] * rows[b][later][x]; }
    }
  }
  return value;`,
);

/** The gradient of what a chunk's tokens write (solved, for the delta rules), now that the gradient of the memory after it is known. */
export const ofUpdates = kernelSource(
  'linearAttention.ofUpdates',
  { values: 'Input', keys: 'Input', ofMemory: 'Input', start: 'Integer', heads: 'Integer', width: 'Integer', valueWidth: 'Integer' },
  `const t = start + this.thread.y;
  const b = this.thread.z;
  const head = Math.floor((this.thread.x + 0.5) / valueWidth);
  const e = this.thread.x - head * valueWidth;
  let value = values[b][t][this.thread.x];
  for (let i = 0; i < width; i++) { value = value + keys[b][t][head * width + i] * ofMemory[b * heads + head][i][e]; }
  return value;`,
);

/** The gradient of the memory before a chunk, from that of the memory after it. */
export const ofMemories = variants((decay: Decay, delta: boolean) =>
  kernelSource(
    'linearAttention.ofMemories',
    {
      ofMemory: 'Input',
      query: 'Input',
      cotangent: 'Input',
      factor: decay !== 'none' && 'Input',
      key: delta && 'Input',
      beta: delta && 'Input',
      solved: delta && 'Input',
      start: 'Integer',
      count: 'Integer',
      heads: 'Integer',
      shared: 'Integer',
      width: 'Integer',
      valueWidth: 'Integer',
      scale: 'Float',
    },
    `const e = this.thread.x;
    const d = this.thread.y;
    const b = Math.floor((this.thread.z + 0.5) / heads);
    const group = this.thread.z - b * heads;
    let sum = ofMemory[this.thread.z][d][e];
    for (let i = 0; i < count; i++) {
      const y = count - 1 - i;
      const t = start + y;
      for (let j = 0; j < shared; j++) {
        const head = group * shared + j;
        sum += scale * query[b][t][head * width + d] * cotangent[b][t][head * valueWidth + e];
      }
      ${delta ? 'sum = sum - beta[b][t][group] * key[b][t][group * width + d] * solved[b][y][group * valueWidth + e];' : ''}
      ${fade(decay, 'sum', 't', 'group', 'group * width + d')}
    }
    return sum;`,
  ),
);

/** Rows [heads Dv] of tokens against the memories of their chunks: sum_e row_te memory_de, [heads Dk]. */
export const againstMemories = kernelSource(
  'linearAttention.againstMemories',
  {
    rows: 'Input',
    memory: 'Input',
    chunk: 'Integer',
    heads: 'Integer',
    groups: 'Integer',
    width: 'Integer',
    valueWidth: 'Integer',
  },
  `const t = this.thread.y;
  const b = this.thread.z;
  const head = Math.floor((this.thread.x + 0.5) / width);
  const group = Math.floor((head * groups + 0.5) / heads);
  const place = Math.floor((t + 0.5) / chunk) * width + this.thread.x - head * width;
  let sum = 0.0;
  for (let i = 0; i < valueWidth; i++) { sum += rows[b][t][head * valueWidth + i] * memory[b * groups + group][place][i]; }
  return sum;`,
);

/** What the delta rule still had to write, before beta: v_t minus what the memory and the chunk's tokens recall. */
export const remainders = variants((decay: Decay) =>
  kernelSource(
    'linearAttention.remainders',
    {
      value: 'Input',
      key: 'Input',
      headDecay: decay !== 'none' && 'Input',
      memory: 'Input',
      overlap: 'Input',
      update: 'Input',
      chunk: 'Integer',
      heads: 'Integer',
      width: 'Integer',
      valueWidth: 'Integer',
    },
    `const t = this.thread.y;
    const b = this.thread.z;
    const head = Math.floor((this.thread.x + 0.5) / valueWidth);
    const e = this.thread.x - head * valueWidth;
    const index = Math.floor((t + 0.5) / chunk);
    let rest = value[b][t][this.thread.x];
    for (let i = 0; i < width; i++) {
      const channel = head * width + i;
      rest = rest - key[b][t][channel] * memory[b * heads + head][index * width + i][e]${
        decay === 'none' ? '' : ` * headDecay[b][t][${decay === 'head' ? 'head' : 'channel'}]`
      };
    }
    for (let j = 0; j < t - index * chunk; j++) {
      rest = rest - overlap[b * heads + head][t][j] * update[b][index * chunk + j][this.thread.x];
    }
    return rest;`,
  ),
);

/** Sums over the last axis, per head: of products of two arrays, or of one array. */
export const perHead = variants((products: boolean) =>
  kernelSource(
    'linearAttention.perHead',
    { left: 'Input', right: products && 'Input', width: 'Integer' },
    `const t = this.thread.y;
    const b = this.thread.z;
    let sum = 0.0;
    for (let i = 0; i < width; i++) {
      const at = this.thread.x * width + i;
      sum += left[b][t][at]${products ? ' * right[b][t][at]' : ''};
    }
    return sum;`,
  ),
);

/**
 * The gradient of rows that read a memory and the keys before them: scale (sum_e row_te S_de + sum_s agreement_ts k_s), all decayed up to t;
 * on top of another one where `more` says so.
 */
export const ofReaders = variants((decay: Decay, more: boolean) =>
  kernelSource(
    'linearAttention.ofReaders',
    {
      gradient: more && 'Input',
      read: 'Input',
      key: 'Input',
      agreement: 'Input',
      factor: decay !== 'none' && 'Input',
      chunk: 'Integer',
      heads: 'Integer',
      groups: 'Integer',
      width: 'Integer',
      scale: 'Float',
    },
    `const t = this.thread.y;
    const b = this.thread.z;
    const head = Math.floor((this.thread.x + 0.5) / width);
    const group = Math.floor((head * groups + 0.5) / heads);
    const channel = this.thread.x + (group - head) * width;
    const start = Math.floor((t + 0.5) / chunk) * chunk;
    let sum = read[b][t][this.thread.x];
    for (let i = 0; i < t - start + 1; i++) {
      const s = start + i;
      ${fade(decay, 'sum', 's', 'group', 'channel')}
      sum += agreement[b * heads + head][t][i] * key[b][s][channel];
    }
    return ${more ? 'gradient[b][t][this.thread.x] + ' : ''}scale * sum;`,
  ),
);

/**
 * The gradient of keys that rows after them read: scale sum_t agreement_ts row_t, decayed from s up to t; on top of what the memory after the
 * chunk asks of them (decayed up to its end), or of another gradient where `more` says so.
 */
export const ofWriters = variants((decay: Decay, more: boolean) =>
  kernelSource(
    'linearAttention.ofWriters',
    {
      before: 'Input',
      rows: 'Input',
      agreement: 'Input',
      factor: decay !== 'none' && 'Input',
      time: 'Integer',
      chunk: 'Integer',
      heads: 'Integer',
      shared: 'Integer',
      width: 'Integer',
      scale: 'Float',
    },
    `const s = this.thread.y;
    const b = this.thread.z;
    const group = Math.floor((this.thread.x + 0.5) / width);
    const d = this.thread.x - group * width;
    const start = Math.floor((s + 0.5) / chunk) * chunk;
    let sum = ${more ? '0.0' : 'before[b][s][this.thread.x]'};
    for (let i = 0; i < start + chunk - s; i++) {
      const t = start + chunk - 1 - i;
      if (t < time) {
        for (let j = 0; j < shared; j++) {
          const head = group * shared + j;
          sum += scale * agreement[b * heads + head][t][s - start] * rows[b][t][head * width + d];
        }
        ${decay === 'none' ? '' : `if (t > s) { ${fade(decay, 'sum', 't', 'group', 'this.thread.x')} }`}
      }
    }
    return sum${more ? ' + before[b][s][this.thread.x]' : ''};`,
  ),
);

/**
 * The gradient of the log decay of token t, per key channel: all that goes from before t to t or after it, the memory at the chunk's start and
 * the one after its end among them; or what other rows read, on top of another gradient, where `more` says so.
 */
export const ofSpans = variants((decay: Decay, more: boolean) =>
  kernelSource(
    'linearAttention.ofSpans',
    {
      gradient: more && 'Input',
      through: !more && 'Input',
      leaving: !more && 'Input',
      key: 'Input',
      rows: 'Input',
      read: 'Input',
      agreement: 'Input',
      factor: 'Input',
      time: 'Integer',
      chunk: 'Integer',
      groups: 'Integer',
      shared: 'Integer',
      width: 'Integer',
      scale: 'Float',
    },
    `const t = this.thread.y;
    const b = this.thread.z;
    const group = Math.floor((this.thread.x + 0.5) / width);
    const d = this.thread.x - group * width;
    const index = Math.floor((t + 0.5) / chunk);
    const start = index * chunk;
    let total = ${more ? '0.0' : 'through[b * groups + group][index * width + d][0]'};
    ${
      more
        ? ''
        : `for (let k = 0; k < t - start; k++) {
      const from = start + k;
      ${fade(decay, 'total', 'from', 'group', 'this.thread.x')}
      total += key[b][from][this.thread.x] * leaving[b][from][this.thread.x];
    }`
    }
    for (let i = 0; i < start + chunk - t; i++) {
      const to = start + chunk - 1 - i;
      if (to < time) {
        let sum = 0.0;
        for (let j = 0; j < shared; j++) {
          const at = (group * shared + j) * width + d;
          sum += scale * rows[b][to][at] * read[b][to][at];
        }
        for (let m = 0; m < t - start; m++) {
          const s = start + m;
          let link = 0.0;
          for (let n = 0; n < shared; n++) {
            const head = group * shared + n;
            link += scale * rows[b][to][head * width + d] * agreement[b * groups * shared + head][to][m];
          }
          ${fade(decay, 'sum', 's', 'group', 'this.thread.x')}
          sum += key[b][s][this.thread.x] * link;
        }
        total += sum;
        ${fade(decay, 'total', 'to', 'group', 'this.thread.x')}
      }
    }
    return total${more ? ' + gradient[b][t][this.thread.x]' : ''};`,
  ),
);
