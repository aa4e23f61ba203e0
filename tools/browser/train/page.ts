// a hybrid of three families trains ten steps and writes, on the browser's WebGPU with the WGSL kernels
import { SlidingWindowAttention } from '@seqloom/attention';
import { explain, Mlp, setupBackend } from '@seqloom/core';
import { useGpuKernels } from '@seqloom/kernels-gpu';
import { GatedDeltaNet } from '@seqloom/linear-attention';
import { component, generate, Hybrid } from '@seqloom/models';
import type { Components } from '@seqloom/models';
import { Mamba } from '@seqloom/ssm';
import { ByteTokeniser, memoryStore, train, WindowData } from '@seqloom/train';
import * as tf from '@tensorflow/tfjs-core';
import type { TrainingOutcome } from './outcome.ts';

const TEXT = 'the loom holds the warp, the shuttle carries the weft, and the cloth grows by one thread at a time. '.repeat(40);
const PROMPT = 'the ';
const STEPS = 10;

const components: Components = {
  mixers: {
    'sliding-window-attention': component(SlidingWindowAttention),
    'mamba-s6': component(Mamba),
    'gated-delta-net': component(GatedDeltaNet),
  },
  channels: { mlp: component(Mlp) },
};

const find = (id: string): HTMLElement => document.getElementById(id)!;

/** Draws the losses so far. */
function draw(losses: readonly number[]): void {
  const highest = Math.max(...losses) * 1.08;
  const points = losses.map((loss, i) => [32 + i * 64, 160 - (140 * loss) / highest] as const);
  const marks = points.map(
    ([x, y], i) => `<circle cx="${x}" cy="${y}" r="3.5"/><text x="${x}" y="${y - 9}">${losses[i]!.toFixed(2)}</text>`,
  );
  find('losses').innerHTML = `<path d="M${points.map((point) => point.join(',')).join('L')}"/>${marks.join('')}`;
}

function list(kernels: ReturnType<typeof explain>['kernels']): void {
  find('kernels').replaceChildren(
    ...kernels.map(({ kernel, implementation, calls }) => {
      const row = document.createElement('tr');
      for (const cell of [kernel, implementation.kind === 'fused' ? implementation.label : 'composed', calls]) {
        row.insertCell().textContent = String(cell);
      }
      return row;
    }),
  );
}

async function run(): Promise<TrainingOutcome> {
  const { backend, reason, kernelPackages } = await setupBackend('webgpu', { kernels: [useGpuKernels] });
  const before = tf.memory().numTensors;
  const model = new Hybrid(
    {
      vocabSize: 256,
      dim: 32,
      mixers: 'delta, window, mamba',
      channels: 'mlp',
      definitions: {
        delta: { type: 'gated-delta-net', heads: 2, headDim: 16 },
        window: { type: 'sliding-window-attention', heads: 2, window: 16 },
        mamba: { type: 'mamba-s6', innerDim: 32 },
        mlp: { type: 'mlp', hidden: 64 },
      },
    },
    components,
  );
  const codec = new ByteTokeniser();
  const about = `${model.countParameters().toLocaleString('en')} parameters · ${reason.replace(/^asked for: /, '')} · ${kernelPackages.join()}`;
  find('status').textContent = about;
  const data = new WindowData(await memoryStore(TEXT, { tokeniser: codec }), { length: 64, seed: 1 });
  const losses: number[] = [];
  const tensors: number[] = [];
  const schedule = { shape: 'constant', peak: 3e-2, warmup: 0 } as const;
  for await (const event of train(model, { data, rows: 2, steps: STEPS, schedule, evaluateEvery: null })) {
    if (event.type !== 'step') continue;
    losses.push(event.bitsPerByte);
    tensors.push(tf.memory().numTensors);
    draw(losses);
    list(explain().kernels);
    find('status').textContent = `${about} · step ${event.step} of ${STEPS}`;
  }
  let text = '';
  for await (const piece of generate(model, { prompt: PROMPT, codec, maxNewTokens: 60, temperature: 0.6, seed: 1 })) {
    text += piece.text;
    find('text').textContent = PROMPT + text;
  }
  model.dispose();
  const { kernels } = explain();
  list(kernels);
  const leaked = tf.memory().numTensors - before;
  find('status').textContent = `${about} · ${losses.length} steps and ${text.length} bytes, ${leaked} tensors left`;
  return {
    backend,
    reason,
    kernelPackages,
    kernels: kernels.map(({ kernel, implementation }) => ({
      kernel,
      label: implementation.kind === 'fused' ? implementation.label : null,
    })),
    losses,
    tensors,
    text,
    leaked,
  };
}

// the test asks from outside
Object.assign(globalThis, { outcome: run() });
