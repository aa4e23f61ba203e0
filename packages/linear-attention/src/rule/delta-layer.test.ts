import { readFileSync } from 'node:fs';
import { Block, disposeState, Linear, Mlp, readSafetensors, RmsNorm, setupBackend } from '@seqloom/core';
import type { HostTensor, Module, State, StateDict } from '@seqloom/core';
import { expectCloseTo } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { DeltaNet } from '../delta-net/layer.ts';
import { GatedDeltaNet } from '../gated-delta-net/layer.ts';
import { KimiDeltaAttention } from '../kimi-delta-attention/layer.ts';
import type { DeltaLayer } from './delta-layer.ts';
import { unitLength } from './unit-length.ts';

type Tensors = Readonly<Record<string, HostTensor>>;

// names of the original checkpoints
const ROLES: Readonly<Record<string, string>> = {
  query: 'q_proj',
  key: 'k_proj',
  value: 'v_proj',
  beta: 'b_proj',
  queryConvolution: 'q_conv1d',
  keyConvolution: 'k_conv1d',
  valueConvolution: 'v_conv1d',
  gate: 'g_proj',
  norm: 'o_norm',
  output: 'o_proj',
};

const ORIGINALS: { name: string; folder: string; build: (seed: number) => DeltaLayer; roles?: Record<string, string> }[] = [
  {
    name: 'DeltaNetForCausalLM',
    folder: 'delta-net/fla_delta_net',
    build: (seed) => new DeltaNet({ dim: 32, heads: 2, epsilon: 1e-6, seed }),
  },
  {
    name: 'GatedDeltaNetForCausalLM',
    folder: 'gated-delta-net/fla_gated_deltanet',
    build: (seed) => new GatedDeltaNet({ dim: 32, heads: 2, headDim: 8, epsilon: 1e-6, seed }),
    roles: { decay: 'a_proj', logRate: 'A_log', stepBias: 'dt_bias' },
  },
  {
    name: 'KDAForCausalLM',
    folder: 'kimi-delta-attention/fla_kda',
    build: (seed) => new KimiDeltaAttention({ dim: 32, heads: 2, headDim: 8, epsilon: 1e-6, seed }),
    roles: {
      decayDown: 'f_proj.0',
      decayUp: 'f_proj.1',
      gateDown: 'g_proj.0',
      gateUp: 'g_proj.1',
      logRate: 'A_log',
      stepBias: 'dt_bias',
    },
  },
];

const read = (folder: string, file: string): Tensors =>
  readSafetensors(readFileSync(new URL(`../../golden/${folder}/${file}.safetensors`, import.meta.url))).tensors as unknown as Tensors;

/** A tensor of the original in our layout: linear maps are transposed, convolutions lose an axis. */
function adopt({ shape, data }: HostTensor, wanted: readonly number[]): HostTensor {
  if (shape.length !== 2) return { shape: wanted, data };
  const [out, width] = shape as [number, number];
  return { shape: [width, out], data: Float32Array.from(data, (_, at) => data[(at % out) * width + Math.floor(at / out)]!) };
}

/** Fills a module from the original's weights; every tensor must be there. */
function load(module: Module, weights: Tensors, rename: (name: string) => string): void {
  const entries = [...module.namedParameters()].map(([name, { shape }]) => {
    const found = weights[rename(name)];
    if (!found) throw new Error(`${rename(name)} for ${name} is not in the checkpoint`);
    return [name, adopt(found, shape)] as const;
  });
  module.loadStateDict(Object.fromEntries(entries) as StateDict);
}

/** The original's stack around our layers. */
function stackOf(weights: Tensors, { build, roles }: (typeof ORIGINALS)[number]): { blocks: Block[]; norm: RmsNorm; head: Linear } {
  const names: Readonly<Record<string, string>> = { ...ROLES, ...roles };
  const blocks = [0, 1].map((layer) => {
    const block = new Block({ mixer: build(layer), channel: new Mlp({ dim: 32, hidden: 48 }), epsilon: 1e-6 });
    load(block, weights, (name) => {
      const path = name
        .replace(/^norm1\./, 'attn_norm.')
        .replace(/^norm2\./, 'mlp_norm.')
        .replace(/^channel\.(\w+)/, 'mlp.$1_proj')
        .replace(/^mixer\.(\w+)/, (_, role: string) => `attn.${names[role] ?? role}`);
      return `model.layers.${layer}.${path}`;
    });
    return block;
  });
  const norm = new RmsNorm({ dim: 32, epsilon: 1e-6 });
  load(norm, weights, () => 'model.norm.weight');
  const head = new Linear({ in: 32, out: 64 });
  load(head, weights, () => 'lm_head.weight');
  return { blocks, norm, head };
}

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each(ORIGINALS)('two layers with the weights of $name give its logits, and decode its tokens from their state', async (original) => {
    const before = tf.memory().numTensors;
    const weights = read(original.folder, 'model');
    const { input_ids: ids, logits, generated_ids: generated } = read(original.folder, 'io') as Record<string, HostTensor>;
    const { blocks, norm, head } = stackOf(weights, original);
    const { shape, data } = weights['model.embeddings.weight']!;
    const table = tf.tensor(data, [...shape]);
    let states: State[] = [];
    const forward = (tokens: tf.Tensor): tf.Tensor => {
      const { output, ...after } = tf.tidy(() => {
        const embedded = tf.reshape(tf.gather(table, tf.reshape(tokens, [-1])), [...tokens.shape, 32]);
        let x = embedded as tf.Tensor3D;
        const reached = blocks.map((block, layer) => {
          const result = block.forward(x, states[layer] ? { state: states[layer] } : {});
          x = result.output;
          return [`${layer}`, { ...result.state }] as const;
        });
        return { output: head.forward(norm.forward(x)), ...Object.fromEntries(reached) };
      }) as unknown as { output: tf.Tensor } & Record<string, State>;
      for (const state of states) disposeState(state);
      states = blocks.map((_, layer) => after[`${layer}`]!);
      return output;
    };
    const prompt = tf.tensor(Int32Array.from(ids!.data), [...ids!.shape], 'int32');
    let output = forward(prompt);
    await expectCloseTo(output, { shape: logits!.shape, data: Float64Array.from(logits!.data) }, 1e-5, `${original.name}, logits`);
    const decoded: number[][] = [];
    for (let step = 0; step < generated!.shape[1]!; step++) {
      const next = tf.tidy(() => {
        const last = tf.slice(output, [0, output.shape[1]! - 1, 0], [2, 1, 64]);
        return tf.cast(tf.argMax(last, 2), 'int32');
      });
      decoded.push([...(await next.data())]);
      output.dispose();
      output = forward(next);
      next.dispose();
    }
    const wanted = decoded.map((_, step) => [0, 1].map((row) => generated!.data[row * generated!.shape[1]! + step]));
    expect(decoded).toEqual(wanted);
    tf.dispose([prompt, output, table]);
    for (const state of states) disposeState(state);
    for (const module of [...blocks, norm, head]) module.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('rows of unit length: epsilon is added to the sum of squares, and zeros stay zeros', async () => {
    const rows = [3, 4, 0, 0, 1e-3, 0, 0, 0, 0, 0, 0, 0];
    const x = tf.tensor(rows, [3, 4]);
    const given = unitLength(x);
    const data = Float64Array.from(rows, (entry, at) => entry / Math.sqrt([25, 1e-6, 0][Math.floor(at / 4)]! + 1e-6));
    await expectCloseTo(given, { shape: [3, 4], data }, 1e-6, 'unit length');
    tf.dispose([x, given]);
  });
});
