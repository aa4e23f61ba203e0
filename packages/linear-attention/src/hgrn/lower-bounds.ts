import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, Module, Parameter, zeros } from '@seqloom/core';

/**
 * The learned lower bounds of the forget gates of all layers: `gamma^l = P_1 + ... + P_l`, `P = softmax of Gamma over the layers`, so that
 * the first layer has none and every further one more of it.
 *
 * Give one object to all `Hgrn` layers of a model. Starts at l / L.
 *
 * @see Qin et al. 2023, section 3.3, arXiv 2311.04823
 */
export class HgrnLowerBounds extends Module {
  /** Gamma, [layers, width] */
  readonly weight: Parameter;

  /** @param config layers: number L of HGRN layers in the model; width: channels E of each */
  constructor(config: { readonly layers: number; readonly width: number }) {
    super();
    this.weight = new Parameter([config.layers, config.width], zeros, 0, { decay: false });
  }

  /**
   * @param layer index of the layer among those of the model, from 0
   * @returns gamma of that layer, [width], at least 0 and below 1
   * @throws SeqLoomError when there is no such layer
   */
  at(layer: number): tf.Tensor1D {
    const [layers, width] = this.weight.shape as [number, number];
    const right = Number.isInteger(layer) && layer >= 0 && layer < layers;
    checkSetting('hgrn', 'layer', right, `a whole number from 0 to ${layers - 1}`, layer, 'Count the HGRN layers of the model.');
    if (layer === 0) return tf.zeros([width]);
    return tf.tidy(() => {
      const shares = tf.softmax(tf.transpose(this.weight.value)); // [E, L]
      return tf.sum(tf.slice(shares, [0, 1], [width, layer]), 1);
    });
  }
}
