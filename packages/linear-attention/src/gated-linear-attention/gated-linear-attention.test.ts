import { readFileSync } from 'node:fs';
import { Block, Mlp, readSafetensors, RmsNorm, setupBackend, tidy } from '@seqloom/core';
import type { Linear, Parameter } from '@seqloom/core';
import { relativeError64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { card } from './card.ts';
import { GatedLinearAttention } from './layer.ts';

const golden = (file: string): ReturnType<typeof readSafetensors>['tensors'] =>
  readSafetensors(readFileSync(new URL(`../../golden/gated-linear-attention/model/${file}.safetensors`, import.meta.url))).tensors;

describe.each(['cpu', 'wasm'] as const)('gated-linear-attention on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it('law 3: a model of two layers gives the logits of the original code', async () => {
    const weights = golden('model');
    const tensorOf = (name: string): tf.Tensor => tf.tensor(weights[name]!.data as Float32Array, [...weights[name]!.shape]);
    const set = (parameter: Parameter | null, name: string): void => tidy(() => parameter!.assign(tensorOf(name)));
    // the original keeps matrices as [out, in]
    const setMatrix = (linear: Linear | null, name: string): void =>
      tidy(() => linear!.weight.assign(tf.transpose(tensorOf(`${name}.weight`))));
    const blocks = [0, 1].map((index) => {
      const layer = new GatedLinearAttention({ dim: 32, heads: 2, epsilon: 1e-6 });
      const mlp = new Mlp({ dim: 32, hidden: 48 });
      const block = new Block({ mixer: layer, channel: mlp, epsilon: 1e-6 });
      const from = `model.layers.${index}`;
      set(block.norm1!.weight, `${from}.attn_norm.weight`);
      set(block.norm2!.weight, `${from}.mlp_norm.weight`);
      set(layer.norm.weight, `${from}.attn.g_norm_swish_gate.weight`);
      set(layer.forgetUp.bias, `${from}.attn.gk_proj.1.bias`);
      for (const [linear, name] of [
        [layer.query, 'attn.q_proj'],
        [layer.key, 'attn.k_proj'],
        [layer.value, 'attn.v_proj'],
        [layer.gate, 'attn.g_proj'],
        [layer.forgetDown, 'attn.gk_proj.0'],
        [layer.forgetUp, 'attn.gk_proj.1'],
        [layer.output, 'attn.o_proj'],
        [mlp.gate, 'mlp.gate_proj'],
        [mlp.up, 'mlp.up_proj'],
        [mlp.down, 'mlp.down_proj'],
      ] as const)
        setMatrix(linear, `${from}.${name}`);
      return block;
    });
    const norm = new RmsNorm({ dim: 32, epsilon: 1e-6 });
    set(norm.weight, 'model.norm.weight');
    const { input_ids: ids, logits: wanted } = golden('io');
    const logits = tidy(() => {
      const [batch, length] = ids!.shape as [number, number];
      let x = tf.reshape(tf.gather(tensorOf('model.embeddings.weight'), tf.tensor1d(Int32Array.from(ids!.data as Int32Array), 'int32')), [
        batch,
        length,
        32,
      ]);
      for (const block of blocks) x = block.forward(x).output;
      return tf.matMul(tf.reshape(norm.forward(x), [-1, 32]), tf.transpose(tensorOf('lm_head.weight')));
    });
    expect(relativeError64(await logits.data(), wanted!.data as Float32Array)).toBeLessThan(1e-5);
    logits.dispose();
    for (const block of blocks) block.dispose();
    norm.dispose();
  });

  it('the parameters are as many as the budget says', () => {
    const layer = new GatedLinearAttention({ dim: 64, heads: 4 });
    const count = [...layer.namedParameters()].reduce((sum, [, parameter]) => sum + parameter.size, 0);
    // the query and key of 32 channels; a gate of rank 16 with its bias; one norm for all heads
    expect(count).toBe(4 * 64 ** 2 + 24 * 64 + 32 + 16);
    expect(card.stateBytes(1000, { heads: 4, keyDim: 8, valueDim: 16 })).toBe(layer.stateBytes(1, 1000));
    layer.dispose();
  });
});
