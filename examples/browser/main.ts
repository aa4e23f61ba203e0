// Loads what compose-hybrid.ts saved and writes with it in the browser; the bundle holds only the four components that the config names.
/// <reference types="vite/client" />
import plain from '@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm?url';
import simd from '@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm?url';
import threads from '@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-threaded-simd.wasm?url';
import { Mlp, readSafetensors, setupBackend, toFloat32 } from '@seqloom/core';
import { GatedDeltaNet } from '@seqloom/linear-attention';
import { SlidingWindowAttention } from '@seqloom/attention';
import { MemoryLayer } from '@seqloom/memory';
import { component, generate, Hybrid } from '@seqloom/models';
import type { Components, HybridConfig } from '@seqloom/models';
import { Mamba } from '@seqloom/ssm';
import { ByteTokeniser } from '@seqloom/train';

const find = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const [form, prompt, button, output, status] = [
  find('ask'),
  find<HTMLInputElement>('prompt'),
  find<HTMLButtonElement>('write'),
  find<HTMLOutputElement>('text'),
  find('status'),
];

const components: Components = {
  mixers: {
    'sliding-window-attention': component(SlidingWindowAttention),
    'mamba-s6': component(Mamba),
    'gated-delta-net': component(GatedDeltaNet),
  },
  channels: { mlp: component(Mlp), 'memory-layers-at-scale': component(MemoryLayer) },
};

async function load(folder: string): Promise<Hybrid> {
  const get = async (file: string): Promise<Response> => {
    const answer = await fetch(`${folder}/${file}`);
    if (!answer.ok) throw new Error(`${folder}/${file}: ${answer.status} ${answer.statusText}`);
    return answer;
  };
  const config = (await (await get('config.json')).json()) as HybridConfig;
  const { tensors } = readSafetensors(await (await get('model.safetensors')).arrayBuffer());
  const model = new Hybrid(config, components);
  const entries = Object.entries(tensors).map(([name, tensor]) => [name, { shape: tensor.shape, data: toFloat32(tensor) }] as const);
  model.loadStateDict(Object.fromEntries(entries));
  return model;
}

try {
  const { backend } = await setupBackend('auto', {
    wasmPaths: { 'tfjs-backend-wasm.wasm': plain, 'tfjs-backend-wasm-simd.wasm': simd, 'tfjs-backend-wasm-threaded-simd.wasm': threads },
  });
  const model = await load('./model');
  status.textContent = `${model.countParameters().toLocaleString('en')} parameters on ${backend}`;
  button.disabled = false;
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void write(model, backend);
  });
} catch (error) {
  status.textContent = String(error);
}
document.body.dataset.state = 'ready';

async function write(model: Hybrid, backend: string): Promise<void> {
  button.disabled = true;
  output.textContent = prompt.value;
  const start = performance.now();
  let count = 0;
  for await (const { text } of generate(model, { prompt: prompt.value, codec: new ByteTokeniser(), maxNewTokens: 200, temperature: 0.8 })) {
    output.textContent += text;
    count++;
    status.textContent = `${((1000 * count) / (performance.now() - start)).toFixed(0)} tokens/s on ${backend}`;
    // let the page draw
    await new Promise((resolve) => setTimeout(resolve));
  }
  button.disabled = false;
  document.body.dataset.state = 'done';
}
