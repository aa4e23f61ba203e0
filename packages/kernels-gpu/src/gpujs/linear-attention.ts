import { fail } from '@seqloom/core/error';
import { checkArray, sizeOf, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { checkCount, checkDivides } from './check.ts';
import { joinSteps } from './concat.ts';
import { chunkDecays, memories, readings, relations, substitute, updates, weighted } from './linear-attention-kernels.ts';
import type { Decay } from './linear-attention-kernels.ts';
import { step } from './program.ts';
import type { Program, Steps, Value, Values } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `linearAttention`; H divides Hq. */
export interface LinearAttentionInputs {
  /** [B, T, Hq, Dk] */
  readonly query: GpujsArray;
  /** [B, T, H, Dk] */
  readonly key: GpujsArray;
  /** [B, T, H, Dv] */
  readonly value: GpujsArray;
  /** [B, T, H] or [B, T, H, Dk], in log space, at most 0; for the gated rules */
  readonly logDecay?: GpujsArray | undefined;
  /** [B, T, H]; for the delta rules */
  readonly beta?: GpujsArray | undefined;
  /** [B, H, Dk, Dv]; zeros when left out */
  readonly state?: GpujsArray | undefined;
}

/** Options of `linearAttention`. */
export interface LinearAttentionOptions extends Placement {
  readonly updateRule: 'linear' | 'gated' | 'delta' | 'gated_delta';
  /** Dk^-0.5 by default */
  readonly scale?: number;
  /** tokens per chunk; default 16 */
  readonly chunkSize?: number;
}

/** What the programs of the forward and the gradient know of their inputs. */
export interface LinearAttentionSettings {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  readonly groups: number;
  readonly width: number;
  readonly valueWidth: number;
  readonly decay: Decay;
  readonly delta: boolean;
  readonly scale: number;
  readonly chunk: number;
}

/** What the tokens of every chunk have to do with one another, before any memory is known. */
export interface WithinChunks {
  /** exp of the sum of log decays from a chunk's start to a token, and from the next token to its end */
  readonly headDecay: Value | undefined;
  readonly tailDecay: Value | undefined;
  /** q_t D_ts k_s [chunk, T, B Hq] */
  readonly seen: Value;
  /** beta_t k_t D_ts k_s below the diagonal [chunk, T, B H]; for the delta rules */
  readonly relation: Value | undefined;
  /** what tokens write where the memory is empty [H Dv, T, B] */
  readonly values: Value;
  /** how they recall the memory at their chunk's start, to write less [H Dk, T, B]; for the delta rules */
  readonly recall: Value | undefined;
}

/** All that can be computed for all chunks at once. */
export function* withinSteps(inputs: Values, settings: LinearAttentionSettings): Steps<WithinChunks> {
  const { query, key, value, logDecay, beta } = inputs;
  const { batch, time, heads, groups, width, valueWidth, decay, delta, chunk } = settings;
  let headDecay: Value | undefined;
  let tailDecay: Value | undefined;
  if (logDecay) {
    headDecay = yield* step(chunkDecays('head'), logDecay.extents, [logDecay, time, chunk]);
    tailDecay = yield* step(chunkDecays('tail'), logDecay.extents, [logDecay, time, chunk]);
  }
  const ofQueries = [query, key, logDecay, chunk, heads, groups, width];
  const seen = yield* step(relations(decay, false, false), [chunk, time, batch * heads], ofQueries);
  if (!delta) return { headDecay, tailDecay, seen, values: value!, relation: undefined, recall: undefined };
  const ofKeys = [key, key, logDecay, beta, chunk, groups, groups, width];
  const relation = yield* step(relations(decay, true, true), [chunk, time, batch * groups], ofKeys);
  const wanted = yield* step(weighted('none'), value!.extents, [value, beta, valueWidth]);
  const remembered = yield* step(weighted(decay), key!.extents, [key, beta, headDecay, width]);
  const values = yield* substitutionSteps(wanted, relation, valueWidth, settings);
  return { headDecay, tailDecay, seen, relation, values, recall: yield* substitutionSteps(remembered, relation, width, settings) };
}

/** A chunk of the walk: its first token and how many it has. */
interface Chunk {
  readonly start: number;
  readonly count: number;
}

/** The chunks of time, first to last. */
export function chunksOf({ time, chunk }: LinearAttentionSettings): Chunk[] {
  return Array.from({ length: Math.ceil(time / chunk) }, (_, index) => ({
    start: index * chunk,
    count: Math.min(chunk, time - index * chunk),
  }));
}

/** What a chunk writes: rows of `update` from row `from` on. */
export function* updateSteps(
  { values, recall }: WithinChunks,
  memory: Value,
  { start, count }: Chunk,
  { batch, groups, width, valueWidth }: LinearAttentionSettings,
): Steps<{ update: Value; from: number }> {
  if (!recall) return { update: values, from: start };
  const update = yield* step(updates, [groups * valueWidth, count, batch], [values, recall, memory, start, groups, width, valueWidth]);
  return { update, from: 0 };
}

/** The memory after a chunk. */
export function* memorySteps(
  key: Value,
  { headDecay, tailDecay }: WithinChunks,
  memory: Value,
  { update, from }: { update: Value; from: number },
  { start, count }: Chunk,
  { batch, groups, width, valueWidth, decay }: LinearAttentionSettings,
): Steps<Value> {
  const values = [memory, key, headDecay, tailDecay, update, start, from, count, groups, width, valueWidth];
  return yield* step(memories(decay), [valueWidth, width, batch * groups], values);
}

const program: Program<LinearAttentionSettings> = function* (inputs, settings) {
  const { batch, heads, groups, width, valueWidth, decay, scale } = settings;
  const { query, key, state } = inputs;
  const within = yield* withinSteps(inputs, settings);
  const pieces: Value[] = [];
  let memory = state!;
  for (const place of chunksOf(settings)) {
    const { start, count } = place;
    const written = yield* updateSteps(within, memory, place, settings);
    const { update, from } = written;
    const readValues = [query, within.headDecay, memory, within.seen, update, start, from, count, heads, groups, width, valueWidth, scale];
    pieces.push(yield* step(readings(decay), [heads * valueWidth, count, batch], readValues));
    memory = yield* memorySteps(key!, within, memory, written, place, settings);
  }
  return { output: yield* joinSteps(pieces), state: memory };
};

/** Solves (I + relation) x = rows in every chunk at once, row after row: relation is strictly lower triangular. */
function* substitutionSteps(rows: Value, relation: Value, width: number, { groups, chunk, time }: LinearAttentionSettings): Steps<Value> {
  let solved = rows;
  for (let place = 1; place < Math.min(chunk, time); place++) {
    solved = yield* step(substitute, rows.extents, [solved, relation, place, chunk, groups, width]);
  }
  return solved;
}

/** Checks the inputs; what the programs need of them. */
export function arrangeLinearAttention(
  mechanism: string,
  inputs: LinearAttentionInputs,
  options: LinearAttentionOptions,
): { views: Record<string, View | undefined>; settings: LinearAttentionSettings } {
  const { query, key, value, logDecay, beta } = inputs;
  const { updateRule } = options;
  checkArray(mechanism, 'query', query, [null, null, null, null]);
  const [batch, time, heads, width] = query.shape as [number, number, number, number];
  checkArray(mechanism, 'key', key, [batch, time, null, width]);
  const groups = key.shape[2]!;
  checkDivides(mechanism, 'heads of key', groups, heads);
  checkArray(mechanism, 'value', value, [batch, time, groups, null]);
  const valueWidth = value.shape[3]!;
  const gated = updateRule === 'gated' || updateRule === 'gated_delta';
  const delta = updateRule === 'delta' || updateRule === 'gated_delta';
  expectPresence(mechanism, 'logDecay', logDecay, gated, updateRule);
  expectPresence(mechanism, 'beta', beta, delta, updateRule);
  const perChannel = logDecay?.shape.length === 4;
  if (logDecay) checkArray(mechanism, 'logDecay', logDecay, perChannel ? key.shape : [batch, time, groups]);
  if (beta) checkArray(mechanism, 'beta', beta, [batch, time, groups]);
  const state = stateOrZeros(mechanism, 'state', inputs.state, [batch, groups, width, valueWidth]);
  const { scale = width ** -0.5, chunkSize = 16 } = options;
  checkCount(mechanism, 'chunkSize', chunkSize);
  const decay: Decay = !gated ? 'none' : perChannel ? 'channel' : 'head';
  return {
    views: {
      query: view(query, heads * width, time, batch),
      key: view(key, groups * width, time, batch),
      value: view(value, groups * valueWidth, time, batch),
      logDecay: logDecay && view(logDecay, perChannel ? groups * width : groups, time, batch),
      beta: beta && view(beta, groups, time, batch),
      state,
    },
    settings: { batch, time, heads, groups, width, valueWidth, decay, delta, scale, chunk: Math.min(chunkSize, time) },
  };
}

/** A state [B, H, Dk, Dv], or zeros in its place, as [Dv, Dk, B H]. */
export function stateOrZeros(
  mechanism: string,
  argument: string,
  state: GpujsArray | undefined,
  shape: readonly [batch: number, groups: number, width: number, valueWidth: number],
): View {
  const [batch, groups, width, valueWidth] = shape;
  const array = state ?? { shape, data: new Float32Array(sizeOf(shape)) };
  checkArray(mechanism, argument, array, shape);
  return view(array, valueWidth, width, batch * groups);
}

/**
 * Linear attention with the four update rules, chunk by chunk in one plan.
 *
 * What tokens of a chunk have to do with one another is computed for all chunks at once (T chunkSize products), the delta rules by chunkSize
 * runs of forward substitution; two or three runs per chunk then carry the memory along.
 *
 * @returns output [B, T, Hq, Dv] and state [B, H, Dk, Dv]
 * @throws SeqLoomError when the shapes do not fit, or decay or beta do not belong to the rule
 */
export async function linearAttention(
  gpujs: Gpujs,
  inputs: LinearAttentionInputs,
  options: LinearAttentionOptions,
): Promise<{ output: GpujsArray; state: GpujsArray }> {
  const { views, settings } = arrangeLinearAttention('linearAttention', inputs, options);
  const { batch, time, heads, groups, width, valueWidth } = settings;
  const results = await gpujs.run({ kernel: 'linearAttention', inputs: views, settings, program }, options);
  return {
    output: { shape: [batch, time, heads, valueWidth], data: results.output! },
    state: { shape: [batch, groups, width, valueWidth], data: results.state! },
  };
}

function expectPresence(mechanism: string, argument: string, array: GpujsArray | undefined, wanted: boolean, rule: string): void {
  if ((array !== undefined) === wanted) return;
  const [given, remedy] = wanted ? ['nothing', 'Give it.'] : ['an array', 'Leave it out, or choose another updateRule.'];
  fail({ mechanism, argument, wanted: `${wanted ? 'given' : 'left out'} for the rule ${rule}`, given, remedy });
}
