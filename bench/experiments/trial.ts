import { setupBackend } from '@seqloom/core';
import { HybridModel, defaultComponents } from '@seqloom/models';
import { accuracy, mqar, TaskData, train } from '@seqloom/train';
const arg = (name: string, d: string): string => {
  const i = process.argv.indexOf('--' + name);
  return i < 0 ? d : process.argv[i + 1]!;
};
await setupBackend('wasm');
const V = +arg('V', '192');
const sizes = arg('sizes', '64x4,64x8,64x16,128x32')
  .split(',')
  .map((s) => s.split('x').map(Number) as [number, number]);
const tasks = sizes.map(([length, pairs]) => mqar({ vocabSize: V, length, pairs }));
const seed = +arg('seed', '1');
const data = new TaskData(
  tasks.map((task) => ({ task })),
  { seed, heldOut: 64 },
);
const mix = JSON.parse(arg('mix', '{"type":"linear-attention","heads":1,"headDim":16,"valueDim":16,"normalise":false}'));
const model = new HybridModel(
  {
    vocabSize: V,
    dim: +arg('dim', '64'),
    mixers: arg('mixers', 'conv, mix'),
    channels: arg('channels', 'none'),
    tieEmbeddings: arg('tie', 'no') === 'yes',
    seed,
    initialDeviation: +arg('dev', '0.02'),
    definitions: { conv: { type: 'gated-convolution', kernelSize: 3, expand: 1 }, mix, mlp: { type: 'mlp' } },
  },
  defaultComponents,
);
console.log(arg('name', ''), 'parameters', model.countParameters(), JSON.stringify(mix));
const steps = +arg('steps', '1000');
const t0 = performance.now();
let sum = 0;
const every = Math.ceil(steps / 10);
for await (const event of train(model, {
  data,
  steps,
  rows: +arg('rows', '32'),
  schedule: { shape: 'cosine', peak: +arg('peak', '5e-3'), warmup: Math.ceil(steps / 20) },
  evaluateEvery: null,
  optimiser: { weightDecay: +arg('wd', '0.1') },
})) {
  if (event.type !== 'step') continue;
  sum += event.loss;
  if (event.step % every === 0) {
    const scores: string[] = [];
    for (const [i, task] of tasks.entries())
      scores.push((await accuracy(model, new TaskData([{ task }], { seed: 1000 + i, heldOut: 64 }).evaluation(32))).accuracy.toFixed(3));
    console.log(
      arg('name', ''),
      event.step,
      (sum / every).toFixed(3),
      event.gradientNorm.toFixed(2),
      scores.join(' '),
      ((performance.now() - t0) / 1000).toFixed(0) + 's',
    );
    sum = 0;
  }
}
