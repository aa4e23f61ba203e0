// Reads a long text in one process, hands its state to another one, and writes on there: the text itself never travels.
//
//   npm run example examples/hand-over-state.ts
import { fork } from 'node:child_process';
import * as tf from '@tensorflow/tfjs-core';
import { disposeState, loadState, saveState, setupBackend } from '@seqloom/core';
import { HybridModel } from '@seqloom/models';
import type { HybridConfig } from '@seqloom/models';

const config: HybridConfig = {
  vocabSize: 256,
  dim: 64,
  mixers: '(delta, window)*2',
  definitions: {
    delta: { type: 'kimi-delta-attention', heads: 2, headDim: 32 },
    window: { type: 'sliding-window-attention', heads: 4, window: 64 },
    mlp: { type: 'mlp', hidden: 128 },
  },
  seed: 7,
};

/** What goes from the reader to the writer. */
interface Message {
  readonly state: Uint8Array<ArrayBuffer>;
  readonly next: number;
}

/** The most likely next byte, and the state after it. */
function step(model: HybridModel, byte: number, state: Parameters<typeof disposeState>[0]): { next: number; state: typeof state } {
  const ids = tf.tensor2d([byte], [1, 1], 'int32');
  const result = model.next(ids, { state });
  const next = tf.tidy(() => tf.argMax(result.logits, 1).dataSync()[0]!);
  tf.dispose([ids, result.logits]);
  disposeState(state);
  return { next, state: result.state };
}

function write(model: HybridModel, start: number, state: Parameters<typeof disposeState>[0], count: number): number[] {
  const bytes = [start];
  let now = state;
  while (bytes.length < count) {
    const result = step(model, bytes.at(-1)!, now);
    bytes.push(result.next);
    now = result.state;
  }
  disposeState(now);
  return bytes;
}

await setupBackend('auto');
const model = new HybridModel(config); // the same seed makes the same weights in both processes; usually you would load them
if (process.send) {
  process.once('message', ({ state, next }: Message) => {
    process.send!(write(model, next, loadState(state), 32), () => process.exit());
  });
  process.send('ready');
} else {
  const text = Uint8Array.from({ length: 20_000 }, (_, index) => 97 + ((index * index) % 26));
  const ids = tf.tensor2d(Int32Array.from(text), [1, text.length], 'int32');
  const read = model.next(ids);
  const next = tf.tidy(() => tf.argMax(read.logits, 1).dataSync()[0]!);
  const state = await saveState(read.state);
  console.log(`read ${text.length} bytes; their state is ${state.length} bytes`);

  const writer = fork(process.argv[1]!, [], { execArgv: process.execArgv, serialization: 'advanced' });
  const there = await new Promise<number[]>((resolve, reject) => {
    writer.on('error', reject);
    writer.on('message', (message: 'ready' | number[]) => {
      if (message === 'ready') writer.send({ state, next } satisfies Message);
      else resolve(message);
    });
  });
  const here = write(model, next, read.state, 32);
  console.log(`the other process wrote on: ${there.join(' ')}`);
  console.log(there.join() === here.join() ? 'and this one writes the same' : 'THIS ONE WRITES SOMETHING ELSE');
  process.exitCode = there.join() === here.join() ? 0 : 1;
  tf.dispose([ids, read.logits]);
  model.dispose();
}
