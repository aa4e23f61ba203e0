import { softmaxAttention } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { cachedChunks, growCache, placesOf, turnBy } from './chunk-cache.ts';
import { gatesOf } from './chunk.ts';
import type { RatCall, RatResult } from './chunk.ts';

/** The recurrent form, as in decoding: token by token, the running pair is one more entry of the cache that the token attends to. */
export function recurrentForm(call: RatCall): RatResult {
  const [batch, length, heads, width] = call.query.shape as [number, number, number, number];
  const cut = (x: tf.Tensor, t: number): tf.Tensor => tf.slice(x, [0, t, 0, 0], [batch, 1, heads, width]);
  let { state } = call;
  const outputs: tf.Tensor[] = [];
  for (let t = 0; t < length; t++) {
    const result = step({
      ...call,
      query: cut(call.query, t),
      key: cut(call.key, t),
      value: cut(call.value, t),
      logDecay: cut(call.logDecay, t),
      state,
      lengths: call.lengths && tf.clipByValue(tf.sub(call.lengths, t), 0, 1),
    });
    outputs.push(result.output);
    ({ state } = result);
  }
  return { output: (outputs.length === 1 ? outputs[0]! : tf.concat(outputs, 1)) as tf.Tensor4D, state };
}

function step({ query, key, value, logDecay, state, chunkSize, scale, rotaryBase, lengths }: RatCall): RatResult {
  const shape = query.shape as [number, number, number, number];
  const [batch, , heads, width] = shape;
  const { chunk, inside } = placesOf(state.position, 1, chunkSize);
  const { decay, write } = gatesOf(logDecay, inside, lengths);
  const renew = (before: tf.Tensor, fresh: tf.Tensor): tf.Tensor => tf.add(tf.mul(decay, tf.reshape(before, shape)), tf.mul(write, fresh));
  const running = { key: renew(state.runningKey, key), value: renew(state.runningValue, value) };
  const turn = turnBy(chunk, width, rotaryBase);
  const own = { key: turn(running.key), value: running.value };
  const count = state.key.shape[1]!;
  const join = (cached: tf.Tensor, last: tf.Tensor): tf.Tensor => (count === 0 ? last : tf.concat([cached, last], 1));
  const { output } = softmaxAttention(
    {
      query: turn(query),
      key: join(state.key, own.key),
      value: join(state.value, own.value),
      queryPositions: chunk,
      keyPositions: join(cachedChunks(state.position, count, chunkSize), chunk),
    },
    { scale, causal: true },
  );
  const last = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [batch, heads, width]);
  return {
    output,
    state: { ...growCache(state, own, chunkSize, lengths), runningKey: last(running.key), runningValue: last(running.value) },
  };
}
