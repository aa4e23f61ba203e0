import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { joinSteps } from './concat.ts';
import {
  againstMemories,
  asked,
  factors,
  leavingKeys,
  ofMemories,
  ofReaders,
  ofSpans,
  ofUpdates,
  ofWriters,
  perHead,
  remainders,
  substituteBack,
} from './linear-attention-gradient-kernels.ts';
import { relations, weighted } from './linear-attention-kernels.ts';
import { arrangeLinearAttention, chunksOf, memorySteps, stateOrZeros, updateSteps, withinSteps } from './linear-attention.ts';
import type { LinearAttentionInputs, LinearAttentionOptions, LinearAttentionSettings, WithinChunks } from './linear-attention.ts';
import { step } from './program.ts';
import type { Program, Steps, Value, Values } from './program.ts';
import type { Gpujs } from './run.ts';

interface Settings extends LinearAttentionSettings {
  /** whether the gradient of the state before the first token is wanted */
  readonly ofState: boolean;
}

/** The forward again: what every token writes [H Dv, T, B], and the memories at the starts of all chunks [Dv, chunks Dk, B H]. */
function* recall(inputs: Values, within: WithinChunks, settings: Settings): Steps<{ update: Value; memories: Value }> {
  const updates: Value[] = [];
  const memories = [inputs.state!];
  const chunks = chunksOf(settings);
  for (const [index, place] of chunks.entries()) {
    const memory = memories.at(-1)!;
    const written = yield* updateSteps(within, memory, place, settings);
    updates.push(written.update);
    if (index < chunks.length - 1) memories.push(yield* memorySteps(inputs.key!, within, memory, written, place, settings));
  }
  return { update: within.recall ? yield* joinSteps(updates) : within.values, memories: yield* joinSteps(memories) };
}

/** Solves (I + relation)^T x = rows in every chunk at once, from its last row to its first. */
function* substitutionBackSteps(rows: Value, relation: Value, width: number, { groups, chunk, time }: Settings): Steps<Value> {
  let solved = rows;
  for (let place = Math.min(chunk, time) - 2; place >= 0; place--) {
    solved = yield* step(substituteBack, rows.extents, [solved, relation, place, time, chunk, groups, width]);
  }
  return solved;
}

/** What the walk back over the chunks finds. */
interface WalkBack {
  /** gradient of what every token writes, for the delta rules of beta times it [H Dv, T, B] */
  readonly solved: Value;
  /** gradients of the memories after all chunks [Dv, chunks Dk, B H] */
  readonly leavings: Value;
  readonly state: Value | undefined;
}

/** Walks the gradient of the memory from the last chunk to the first. */
function* walkBack(inputs: Values, within: WithinChunks, factor: Value | undefined, settings: Settings): Steps<WalkBack> {
  const { query, key, beta, cotangent, stateCotangent } = inputs;
  const { batch, time, heads, groups, width, valueWidth, decay, delta, scale, chunk } = settings;
  const { seen, relation, tailDecay } = within;
  const shared = heads / groups;
  const wide = [groups * valueWidth, time, batch] as const;
  let values = yield* step(asked, wide, [seen, cotangent, time, chunk, heads, shared, valueWidth, scale]);
  let keys = tailDecay ? yield* step(leavingKeys(decay), key!.extents, [key, tailDecay, width]) : key!;
  if (relation) {
    values = yield* substitutionBackSteps(values, relation, valueWidth, settings);
    keys = yield* substitutionBackSteps(keys, relation, width, settings);
  }
  const leavings: Value[] = [];
  const pieces: Value[] = [];
  let ofMemory = stateCotangent!;
  for (const { start, count } of chunksOf(settings).toReversed()) {
    leavings.unshift(ofMemory);
    const place = [groups * valueWidth, count, batch] as const;
    const solved = yield* step(ofUpdates, place, [values, keys, ofMemory, start, groups, width, valueWidth]);
    pieces.unshift(solved);
    if (start === 0 && !settings.ofState) break;
    const delta3 = delta ? [key, beta, solved] : [];
    const memoryValues = [ofMemory, query, cotangent, factor, ...delta3, start, count, groups, shared, width, valueWidth, scale];
    ofMemory = yield* step(ofMemories(decay, delta), ofMemory.extents, memoryValues);
  }
  const state = settings.ofState ? ofMemory : undefined;
  return { solved: yield* joinSteps(pieces), leavings: yield* joinSteps(leavings), state };
}

const backward: Program<Settings> = function* (inputs, settings) {
  const { batch, time, heads, groups, width, valueWidth, decay, delta, scale, chunk } = settings;
  const { query, key, value, logDecay, beta, cotangent } = inputs;
  const shared = heads / groups;
  const within = yield* withinSteps(inputs, settings);
  const { update, memories } = yield* recall(inputs, within, settings);
  const factor = logDecay && (yield* step(factors, logDecay.extents, [logDecay]));
  const { solved, leavings, state } = yield* walkBack(inputs, within, factor, settings);
  const ofValue = delta ? yield* step(weighted('none'), value!.extents, [solved, beta, valueWidth]) : solved;

  // rows of values against what tokens write, and against the memories at both ends of their chunk
  const agree = function* (rows: Value, own: number): Steps<Value> {
    const values = [rows, update, chunk, own, groups, valueWidth];
    // a query reads its own token, a key of a delta rule does not
    return yield* step(relations('none', rows !== cotangent, false), [chunk, time, batch * own], values);
  };
  const against = function* (rows: Value, ends: Value, own: number): Steps<Value> {
    return yield* step(againstMemories, [own * width, time, batch], [rows, ends, chunk, own, groups, width, valueWidth]);
  };
  const queryAgreement = yield* agree(cotangent!, heads);
  const queryRead = yield* against(cotangent!, memories, heads);
  const leaving = yield* against(update, leavings, groups);
  const readerValues = [queryRead, key, queryAgreement, factor, chunk, heads, groups, width, scale];
  const ofQuery = yield* step(ofReaders(decay, false), query!.extents, readerValues);
  const writerValues = [leaving, query, queryAgreement, factor, time, chunk, heads, shared, width, scale];
  let ofKey = yield* step(ofWriters(decay, false), key!.extents, writerValues);
  let ofLogDecay: Value | undefined;
  if (logDecay) {
    const through = yield* step(perHead(true), [1, memories.extents[1], batch * groups], [memories, leavings, valueWidth]);
    const spanValues = [through, leaving, key, query, queryRead, queryAgreement, factor, time, chunk, groups, shared, width, scale];
    ofLogDecay = yield* step(ofSpans(decay, false), key!.extents, spanValues);
  }
  let ofBeta: Value | undefined;
  if (delta) {
    // a key reads as a query does, with -beta times its solved row for a cotangent
    const agreement = yield* agree(ofValue, groups);
    const read = yield* against(ofValue, memories, groups);
    ofKey = yield* step(ofReaders(decay, true), key!.extents, [ofKey, read, key, agreement, factor, chunk, groups, groups, width, -1]);
    ofKey = yield* step(ofWriters(decay, true), key!.extents, [ofKey, key, agreement, factor, time, chunk, groups, 1, width, -1]);
    const overlapValues = [key, key, logDecay, chunk, groups, groups, width];
    const overlap = yield* step(relations(decay, true, false), [chunk, time, batch * groups], overlapValues);
    const restValues = [value, key, within.headDecay, memories, overlap, update, chunk, groups, width, valueWidth];
    const rest = yield* step(remainders(decay), value!.extents, restValues);
    ofBeta = yield* step(perHead(true), beta!.extents, [solved, rest, valueWidth]);
    if (ofLogDecay) {
      const spanValues = [ofLogDecay, key, key, read, agreement, factor, time, chunk, groups, 1, width, -1];
      ofLogDecay = yield* step(ofSpans(decay, true), key!.extents, spanValues);
    }
  }
  if (decay === 'head') ofLogDecay = yield* step(perHead(false), logDecay!.extents, [ofLogDecay, width]);
  const gradients = { query: ofQuery, key: ofKey, value: ofValue, logDecay: ofLogDecay, beta: ofBeta, state };
  return Object.fromEntries(Object.entries(gradients).filter((entry): entry is [string, Value] => entry[1] !== undefined));
};

/** Inputs of `linearAttentionGradient`. */
export interface LinearAttentionGradientInputs extends LinearAttentionInputs {
  /** gradient of the output [B, T, Hq, Dv] */
  readonly cotangent: GpujsArray;
  /** gradient of the final state [B, H, Dk, Dv]; zeros when left out */
  readonly stateCotangent?: GpujsArray | undefined;
}

/**
 * Gradients of `linearAttention`: the memories at the chunks' starts are computed again, a walk back carries their gradients, and all else is
 * computed for all chunks at once.
 *
 * The gradient of a log decay adds up what passes through its token, decayed term by term; no large sums are subtracted from one another.
 *
 * @returns a gradient for every input that was given, in its shape
 * @throws SeqLoomError when the shapes do not fit, or decay or beta do not belong to the rule
 */
export async function linearAttentionGradient(
  gpujs: Gpujs,
  inputs: LinearAttentionGradientInputs,
  options: LinearAttentionOptions,
): Promise<{ [K in keyof LinearAttentionInputs]: GpujsArray }> {
  const kernel = 'linearAttentionGradient';
  const { views, settings: base } = arrangeLinearAttention(kernel, inputs, options);
  const { batch, time, heads, groups, width, valueWidth } = base;
  const { query, key, value, logDecay, beta, state, cotangent, stateCotangent } = inputs;
  checkArray(kernel, 'cotangent', cotangent, [batch, time, heads, valueWidth]);
  const all = {
    ...views,
    cotangent: view(cotangent, heads * valueWidth, time, batch),
    stateCotangent: stateOrZeros(kernel, 'stateCotangent', stateCotangent, [batch, groups, width, valueWidth]),
  };
  const settings = { ...base, ofState: state !== undefined };
  const found = await gpujs.run({ kernel, inputs: all, settings, program: backward }, options);
  const shaped = (like: GpujsArray, data: GpujsArray['data'] | undefined): GpujsArray => ({ shape: like.shape, data: data! });
  return {
    query: shaped(query, found.query),
    key: shaped(key, found.key),
    value: shaped(value, found.value),
    ...(logDecay && { logDecay: shaped(logDecay, found.logDecay) }),
    ...(beta && { beta: shaped(beta, found.beta) }),
    ...(state && { state: shaped(state, found.state) }),
  };
}
