import { deriveSeed, fanIn, Module, Parameter, zeros } from '@seqloom/core';
import type { Initialiser } from '@seqloom/core';
import { featureDimOf } from './feature-maps.ts';
import type { FeatureMap, FeatureParameters } from './feature-maps.ts';

const identity: Initialiser = ([rows, columns]) => {
  const data = new Float32Array(rows! * columns!);
  for (let place = 0; place < Math.min(rows!, columns!); place++) data[place * columns! + place] = 1;
  return data;
};

/** The learned tensors of one side's feature map, shared by all heads. */
export class LearnedFeatures extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly weight2: Parameter | null;
  readonly bias2: Parameter | null;

  constructor(map: FeatureMap, headDim: number, seed: number) {
    super();
    // hedgehog starts as the identity, so that it begins as softmax of [x, -x]
    const hedgehog = map.name === 'hedgehog';
    const features = hedgehog ? headDim : featureDimOf(map, headDim);
    const matrix = (name: string): Parameter => new Parameter([headDim, features], hedgehog ? identity : fanIn, deriveSeed(seed, name));
    this.weight = matrix('weight');
    this.bias = new Parameter([features], zeros, 0);
    this.weight2 = map.name === 'hadamard' ? matrix('weight2') : null;
    this.bias2 = map.name === 'hadamard' ? new Parameter([features], zeros, 0) : null;
  }

  /** The tensors as the op reads them. */
  tensors(): FeatureParameters {
    const second = this.weight2 && this.bias2 ? { weight2: this.weight2.value, bias2: this.bias2.value } : {};
    return { weight: this.weight.value, bias: this.bias.value, ...second };
  }
}
