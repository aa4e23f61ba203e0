import { fail } from '@seqloom/core/error';
import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { checkDivides } from './check.ts';
import { joinSteps } from './concat.ts';
import { chunkDecays, memories, readings, relations, substitute, updates, weighted } from './linear-attention-kernels.ts';
import type { Decay } from './linear-attention-kernels.ts';
import { step } from './program.ts';
import type { Program, Steps, Value } from './program.ts';
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

interface Settings {
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

const program: Program<Settings> = function* (inputs, settings) {
  const { query, key, logDecay, beta, state } = inputs;
  const { batch, time, heads, groups, width, valueWidth, decay, delta, scale, chunk } = settings;
  let headDecay: Value | undefined;
  let tailDecay: Value | undefined;
  if (logDecay) {
    headDecay = yield* step(chunkDecays('head'), logDecay.extents, [logDecay, time, chunk]);
    tailDecay = yield* step(chunkDecays('tail'), logDecay.extents, [logDecay, time, chunk]);
  }
  const seen = yield* step(relations(decay, false), [chunk, time, batch * heads], [query, key, logDecay, chunk, heads, groups, width]);
  let values = inputs.value!;
  let recall: Value | undefined;
  if (delta) {
    const own = [key, key, logDecay, beta, chunk, groups, groups, width];
    const relation = yield* step(relations(decay, true), [chunk, time, batch * groups], own);
    const wanted = yield* step(weighted('none'), values.extents, [values, beta, valueWidth]);
    const remembered = yield* step(weighted(decay), key!.extents, [key, beta, headDecay, width]);
    values = yield* substitutionSteps(wanted, relation, valueWidth, settings);
    recall = yield* substitutionSteps(remembered, relation, width, settings);
  }
  const pieces: Value[] = [];
  let memory = state!;
  for (let start = 0; start < time; start += chunk) {
    const count = Math.min(chunk, time - start);
    let update = values;
    if (recall) {
      update = yield* step(updates, [groups * valueWidth, count, batch], [values, recall, memory, start, groups, width, valueWidth]);
    }
    const from = recall ? 0 : start;
    const place = [start, from, count];
    const readValues = [query, headDecay, memory, seen, update, ...place, heads, groups, width, valueWidth, scale];
    pieces.push(yield* step(readings(decay), [heads * valueWidth, count, batch], readValues));
    const memoryValues = [memory, key, headDecay, tailDecay, update, ...place, groups, width, valueWidth];
    memory = yield* step(memories(decay), [valueWidth, width, batch * groups], memoryValues);
  }
  return { output: yield* joinSteps(pieces), state: memory };
};

/** Solves (I + relation) x = rows in every chunk at once, row after row: relation is strictly lower triangular. */
function* substitutionSteps(rows: Value, relation: Value, width: number, { groups, chunk, time }: Settings): Steps<Value> {
  let solved = rows;
  for (let place = 1; place < Math.min(chunk, time); place++) {
    solved = yield* step(substitute, rows.extents, [solved, relation, place, chunk, groups, width]);
  }
  return solved;
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
  const { query, key, value, logDecay, beta } = inputs;
  const { updateRule } = options;
  const mechanism = 'linearAttention';
  checkArray(mechanism, 'query', query, [null, null, null, null]);
  const [batch, time, heads, width] = query.shape as [number, number, number, number];
  checkArray(mechanism, 'key', key, [batch, time, null, width]);
  const groups = key.shape[2]!;
  checkDivides(mechanism, 'heads of key', groups, heads);
  checkArray(mechanism, 'value', value, [batch, time, groups, null]);
  const valueWidth = value.shape[3]!;
  const gated = updateRule === 'gated' || updateRule === 'gated_delta';
  const delta = updateRule === 'delta' || updateRule === 'gated_delta';
  expectPresence('logDecay', logDecay, gated, updateRule);
  expectPresence('beta', beta, delta, updateRule);
  const perChannel = logDecay?.shape.length === 4;
  if (logDecay) checkArray(mechanism, 'logDecay', logDecay, perChannel ? key.shape : [batch, time, groups]);
  if (beta) checkArray(mechanism, 'beta', beta, [batch, time, groups]);
  const stateShape = [batch, groups, width, valueWidth];
  const state = inputs.state ?? { shape: stateShape, data: new Float32Array(batch * groups * width * valueWidth) };
  checkArray(mechanism, 'state', state, stateShape);
  const { scale = width ** -0.5, chunkSize = 16 } = options;
  const views = {
    query: view(query, heads * width, time, batch),
    key: view(key, groups * width, time, batch),
    value: view(value, groups * valueWidth, time, batch),
    logDecay: logDecay && view(logDecay, perChannel ? groups * width : groups, time, batch),
    beta: beta && view(beta, groups, time, batch),
    state: view(state, valueWidth, width, batch * groups),
  };
  const decay: Decay = !gated ? 'none' : perChannel ? 'channel' : 'head';
  const settings = { batch, time, heads, groups, width, valueWidth, decay, delta, scale, chunk: Math.min(chunkSize, time) };
  const results = await gpujs.run({ kernel: mechanism, inputs: views, settings, program }, options);
  return { output: { shape: [batch, time, heads, valueWidth], data: results.output! }, state: { shape: stateShape, data: results.state! } };
}

function expectPresence(argument: string, array: GpujsArray | undefined, wanted: boolean, rule: string): void {
  if ((array !== undefined) === wanted) return;
  const [given, remedy] = wanted ? ['nothing', 'Give it.'] : ['an array', 'Leave it out, or choose another updateRule.'];
  fail({ mechanism: 'linearAttention', argument, wanted: `${wanted ? 'given' : 'left out'} for the rule ${rule}`, given, remedy });
}
