import { deriveSeed, Linear, Module, normal, Parameter, tidy } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { affineOf, LayerNorm } from '../dense.ts';
import type { AttentionTensors, GatedWriterTensors, NormalisedWriterTensors } from './parameters.ts';
import { normaliseSlots } from './write.ts';

/** Projections of an attention, D to D; keys without a bias, which softmax would not see. */
export class AttentionMaps extends Module {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;

  constructor(dim: number, seed: number, outputDeviation?: number) {
    super();
    const linear = (name: string, bias: boolean, deviation?: number): Linear =>
      new Linear({ in: dim, out: dim, bias, seed: deriveSeed(seed, name), deviation });
    this.query = linear('query', true);
    this.key = linear('key', false);
    this.value = linear('value', true);
    this.output = linear('output', true, outputDeviation);
  }

  /** The learned tensors. */
  tensors(): AttentionTensors {
    return { query: affineOf(this.query), key: affineOf(this.key), value: affineOf(this.value), output: affineOf(this.output) };
  }
}

/** A writer of memory: its tensors choose the equations, and it knows where slots start. */
export interface MemoryWriter extends Module {
  /** The learned tensors. */
  tensors(): NormalisedWriterTensors | GatedWriterTensors;
  /** [N, D], the memory before the first segment. */
  firstMemory(): tf.Tensor;
}

/** The paper's writer: slots on the unit sphere, drawn to a learned direction. */
export class NormalisedWriter extends Module implements MemoryWriter {
  readonly attention: AttentionMaps;
  readonly slotBias: Parameter;

  constructor(slots: number, dim: number, seed: number) {
    super();
    this.attention = new AttentionMaps(dim, deriveSeed(seed, 'attention'));
    this.slotBias = new Parameter([slots, dim], normal(1 / Math.sqrt(dim)), deriveSeed(seed, 'slotBias'));
  }

  tensors(): NormalisedWriterTensors {
    return { ...this.attention.tensors(), slotBias: this.slotBias.value };
  }

  firstMemory(): tf.Tensor {
    return tidy(() => normaliseSlots(this.slotBias.value));
  }
}

/** The reference code's writer: a gated recurrent unit and a feed-forward layer per slot. */
export class GatedWriter extends Module implements MemoryWriter {
  readonly attention: AttentionMaps;
  readonly gateInput: Linear;
  readonly gateMemory: Linear;
  readonly norm: LayerNorm;
  readonly up: Linear;
  readonly down: Linear;
  readonly slots: Parameter;

  constructor(slots: number, dim: number, seed: number) {
    super();
    const linear = (name: string, from: number, to: number): Linear =>
      new Linear({ in: from, out: to, bias: true, seed: deriveSeed(seed, name) });
    this.attention = new AttentionMaps(dim, deriveSeed(seed, 'attention'));
    this.gateInput = linear('gateInput', dim, 3 * dim);
    this.gateMemory = linear('gateMemory', dim, 3 * dim);
    this.norm = new LayerNorm(dim);
    this.up = linear('up', dim, 4 * dim);
    this.down = linear('down', 4 * dim, dim);
    this.slots = new Parameter([slots, dim], normal(1), deriveSeed(seed, 'slots'));
  }

  tensors(): GatedWriterTensors {
    return {
      ...this.attention.tensors(),
      gateInput: affineOf(this.gateInput),
      gateMemory: affineOf(this.gateMemory),
      norm: this.norm.tensors(),
      up: affineOf(this.up),
      down: affineOf(this.down),
    };
  }

  firstMemory(): tf.Tensor {
    return this.slots.value;
  }
}
