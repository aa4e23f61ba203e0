import type { Array64 } from '@seqloom/core';
import type { FeatureMap } from './feature-maps.ts';

/** Learned tensors of a map, as in `FeatureParameters`, in double precision. */
export interface FeatureParameters64 {
  readonly weight: Array64;
  readonly bias: Array64;
  readonly weight2?: Array64;
  readonly bias2?: Array64;
}

const softmax = (x: readonly number[]): number[] => {
  const top = Math.max(...x);
  const powers = x.map((value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
};

const affine = (x: readonly number[], weight: Array64, bias: Array64): number[] =>
  Array.from(bias.data, (b, f) => b + x.reduce((sum, value, k) => sum + value * weight.data[k * bias.data.length + f]!, 0));

/** phi of one token, [K] to [F], in double precision; for `efficient` the query side. */
export function naiveFeatureMap(x: readonly number[], map: FeatureMap, parameters?: FeatureParameters64): number[] {
  const width = x.length;
  switch (map.name) {
    case 'elu1':
      return x.map((value) => (value > 0 ? value + 1 : Math.exp(value)));
    case 'relu':
      return x.map((value) => Math.max(value, 0));
    case 'identity':
      return [...x];
    case 'silu':
      return x.map((value) => value / (1 + Math.exp(-value)));
    case 'softmax':
    case 'efficient':
      return softmax(x);
    case 't2r':
      return affine(x, parameters!.weight, parameters!.bias).map((value) => Math.max(value, 0));
    case 'hadamard': {
      const second = affine(x, parameters!.weight2!, parameters!.bias2!);
      return affine(x, parameters!.weight, parameters!.bias).map((value, f) => value * second[f]!);
    }
    case 'hedgehog': {
      const y = affine(x, parameters!.weight, parameters!.bias).map((value) => value * (map.c ?? 1));
      return softmax([...y, ...y.map((value) => -value)]);
    }
    case 'dpfp': {
      const halves = [...x.map((value) => Math.max(value, 0)), ...x.map((value) => Math.max(-value, 0))];
      const rolls = Array.from({ length: map.nu ?? 1 }, (_, j) => j + 1);
      return rolls.flatMap((shift) => halves.map((value, i) => value * halves[(i - shift + shift * halves.length) % halves.length]!));
    }
    case 'taylor2': {
      const pairs = x.flatMap((left, i) => x.flatMap((right, j) => pair(left, right, i, j, map.symmetric ?? false)));
      return [1, ...x.map((value) => value / width ** 0.25), ...pairs.map((value) => value / Math.sqrt(width))];
    }
  }
}

function pair(left: number, right: number, i: number, j: number, symmetric: boolean): number[] {
  if (!symmetric || i === j) return [(left * right) / Math.SQRT2];
  return i < j ? [left * right] : [];
}
