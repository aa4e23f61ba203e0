import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { readSafetensors, setupBackend, toFloat32, valueAndGradients } from '@seqloom/core';
import type { Safetensors } from '@seqloom/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generate } from '../generate.ts';
import type { Hybrid } from '../hybrid.ts';
import { findAdapter } from './adapters/index.ts';
import { ConfigReader } from './config-reader.ts';
import { fromPretrained } from './from-pretrained.ts';
import type { PretrainedFolder } from './from-pretrained.ts';
import { planMapping } from './mapping.ts';
import { savePretrained } from './save-pretrained.ts';

/** One row per checkpoint that the original code made, `gradients` where it gave some; the tolerances are relative to the largest number of what is compared. */
const rows: readonly { readonly name: string; readonly logits: number; readonly gradients?: number }[] = [
  { name: 'llama', logits: 1e-5, gradients: 1e-4 },
  { name: 'mamba', logits: 1e-5, gradients: 1e-4 },
  { name: 'mamba2', logits: 1e-5, gradients: 1e-4 },
  { name: 'jamba', logits: 1e-5 },
  { name: 'minimax', logits: 1e-5, gradients: 1e-4 },
  { name: 'qwen3_next', logits: 1e-5, gradients: 1e-4 },
  { name: 'hymba', logits: 1e-5 },
  { name: 'kimi_linear', logits: 1e-5 },
  { name: 'falcon_h1', logits: 1e-5 },
  { name: 'deepseek_v3', logits: 1e-5 },
  { name: 'fla_gla', logits: 1e-5 },
  { name: 'fla_delta_net', logits: 1e-5 },
  { name: 'fla_gated_deltanet', logits: 1e-5 },
  { name: 'fla_kda', logits: 1e-5 },
];

const golden = (name: string): string => fileURLToPath(new URL(`../../golden/models/${name}`, import.meta.url));
const read = async (name: string, file: string): Promise<Safetensors> => readSafetensors(await readFile(join(golden(name), file)));

function relativeError(given: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let [error, largest] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    error = Math.max(error, Math.abs(given[i]! - wanted[i]!));
    largest = Math.max(largest, Math.abs(wanted[i]!));
  }
  return given.length === wanted.length && Number.isFinite(error) ? error / largest : Infinity;
}

describe.each(rows)('$name, against the original code', ({ name, logits: tolerance, gradients: gradientTolerance }) => {
  let loaded: PretrainedFolder;
  let io: Safetensors;
  let ids: tf.Tensor2D;
  let before: number;

  beforeAll(async () => {
    await setupBackend('cpu');
    before = tf.memory().numTensors;
    loaded = await fromPretrained(golden(name));
    io = await read(name, 'io.safetensors');
    const { shape, data } = io.tensors['input_ids']!;
    ids = tf.tensor2d(data as Int32Array, shape as [number, number], 'int32');
  });

  afterAll(() => {
    ids.dispose();
    loaded.model.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('accounts for every tensor', async () => {
    const { tensors } = await read(name, 'model.safetensors');
    const numbers = Object.values(tensors).reduce((sum, { data }) => sum + data.length, 0);
    expect(loaded.report).toMatchObject({ missing: [], unexpected: [], wrongShape: [], parameters: numbers });
    expect(loaded.model.countParameters()).toBe(numbers);
  });

  it('gives its logits and its loss', async ({ annotate }) => {
    const { logits, state } = loaded.model.forward(ids);
    const error = relativeError(await logits.data(), toFloat32(io.tensors['logits']!));
    await annotate(`${name}: logits off by ${error.toExponential(1)} of the largest`);
    expect(error).toBeLessThanOrEqual(tolerance);
    tf.dispose([logits, { ...state }]);
    const loss = tf.tidy(() => tf.div(sumOfLosses(loaded.model, ids), countLabels(ids)));
    expect(Math.abs((await loss.data())[0]! - toFloat32(io.tensors['loss']!)[0]!)).toBeLessThan(1e-5);
    loss.dispose();
  });

  it('continues greedily with the same tokens, from its cache', async () => {
    expect(await greedy(loaded.model, ids)).toEqual(rowsOf(io.tensors['generated_ids']!.data as Int32Array, 16));
  });

  if (gradientTolerance !== undefined)
    it('gives the gradients of the loss by every weight', async ({ annotate }) => {
      const { tensors: wanted } = await read(name, 'grads.safetensors');
      const parameters = loaded.model.namedParameters();
      const count = countLabels(ids);
      const { value, gradients } = valueAndGradients(
        () => tf.div(sumOfLosses(loaded.model, ids), count),
        [...parameters.values()].map(({ variable }) => variable),
      );
      const own = new Map([...parameters.keys()].map((key, at) => [key, gradients[at]]));
      const config = new ConfigReader(loaded.config);
      const shapes = new Map([...parameters].map(([key, { shape }]) => [key, shape]));
      const { groups } = planMapping(findAdapter(config).mapping(config, shapes), shapes, loaded.model.stack.layers.length);
      const seen: string[] = [];
      let worst = { name: '', error: 0 };
      for (const { hub, own: names, transform } of groups) {
        const laid = names.map((key) => {
          const gradient = own.get(key);
          return {
            shape: shapes.get(key)!,
            data: gradient ? (gradient.dataSync() as Float32Array) : new Float32Array(tf.util.sizeFromShape([...shapes.get(key)!])),
          };
        });
        for (const [place, { data }] of transform.backward(laid).entries()) {
          const key = hub[place]!;
          if (!wanted[key]) continue;
          seen.push(key);
          const target = toFloat32(wanted[key]!);
          // a weight that the loss does not depend on has a gradient of zeros
          const error = target.every((number) => number === 0) ? Math.max(...data!.map(Math.abs)) : relativeError(data!, target);
          if (error > worst.error) worst = { name: key, error };
        }
      }
      tf.dispose([value, ...gradients.filter((gradient) => gradient !== null)]);
      await annotate(`${name}: gradients off by at most ${worst.error.toExponential(1)} of the largest (${worst.name})`);
      expect(seen.toSorted()).toEqual(Object.keys(wanted).toSorted());
      expect(worst.error).toBeLessThanOrEqual(gradientTolerance);
    });

  it('is saved with the same bytes, whole and in shards, and loads again to the same logits', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'seqloom-golden-'));
    try {
      const whole = join(folder, 'whole');
      await savePretrained(loaded.model, whole, { config: loaded.config });
      const [saved, original] = [readSafetensors(await readFile(join(whole, 'model.safetensors'))), await read(name, 'model.safetensors')];
      expect(Object.keys(saved.tensors).toSorted()).toEqual(Object.keys(original.tensors).toSorted());
      for (const [key, { shape, data }] of Object.entries(original.tensors)) {
        expect(saved.tensors[key]!.shape, key).toEqual(shape);
        expect(Buffer.compare(bytes(saved.tensors[key]!.data), bytes(data)), key).toBe(0);
      }
      expect(JSON.parse(await readFile(join(whole, 'config.json'), 'utf8'))).toEqual(loaded.config);

      const sharded = join(folder, 'sharded');
      await savePretrained(loaded.model, sharded, { config: loaded.config, maxShardBytes: 20_000 });
      expect(existsSync(join(sharded, 'model.safetensors'))).toBe(false);
      const again = await fromPretrained(sharded);
      const [one, two] = [loaded.model.forward(ids), again.model.forward(ids)];
      expect(Buffer.compare(bytes(one.logits.dataSync()), bytes(two.logits.dataSync()))).toBe(0);
      tf.dispose([one.logits, { ...one.state }, two.logits, { ...two.state }]);
      again.model.dispose();
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe.each(rows)('$name on the default backend, with its kernels', ({ name, logits: tolerance }) => {
  it('gives the same logits and tokens', async () => {
    await setupBackend('wasm');
    const before = tf.memory().numTensors;
    const { model } = await fromPretrained(golden(name));
    const { tensors } = await read(name, 'io.safetensors');
    const { shape, data } = tensors['input_ids']!;
    const ids = tf.tensor2d(data as Int32Array, shape as [number, number], 'int32');
    const { logits, state } = model.forward(ids);
    expect(relativeError(await logits.data(), toFloat32(tensors['logits']!))).toBeLessThanOrEqual(tolerance);
    expect(await greedy(model, ids)).toEqual(rowsOf(tensors['generated_ids']!.data as Int32Array, 16));
    tf.dispose([ids, logits, { ...state }]);
    model.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
});

function bytes({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

function countLabels({ shape: [batch, length] }: tf.Tensor2D): number {
  return batch * (length - 1);
}

/** Summed loss of every token but the first of each row. */
function sumOfLosses(model: Hybrid, ids: tf.Tensor2D): tf.Scalar {
  const [batch, length] = ids.shape;
  const labels = tf.concat([tf.slice(ids, [0, 1], [batch, length - 1]), tf.fill([batch, 1], -1, 'int32')], 1);
  return model.loss(ids, labels).sum;
}

async function greedy(model: Hybrid, ids: tf.Tensor2D): Promise<number[][]> {
  const prompt = (await ids.array()) as number[][];
  const written: number[][] = prompt.map(() => []);
  for await (const { row, id } of generate(model, { prompt, maxNewTokens: 16, temperature: 0 })) written[row]!.push(id!);
  return written;
}

function rowsOf(data: Int32Array, width: number): number[][] {
  return Array.from({ length: data.length / width }, (_, row) => [...data.subarray(row * width, (row + 1) * width)]);
}
