import * as tf from '@tensorflow/tfjs-core';

const FLAG = 'WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE';
const tfjsDefault = 15;
const dispatches = 512;

/**
 * Lets tfjs-webgpu put more dispatches into one submit: decoding a token of a small model then takes one or two instead of dozens. A pass that
 * makes many bytes is still submitted early, see `runWgsl`.
 *
 * @returns the way back; a number that somebody chose stays
 */
export function submitLater(): () => void {
  // the flag exists once tfjs-backend-webgpu was imported
  if (!tf.getKernel('BatchMatMul', 'webgpu') || tf.env().getNumber(FLAG) !== tfjsDefault) return () => undefined;
  tf.env().set(FLAG, dispatches);
  return () => {
    if (tf.env().getNumber(FLAG) === dispatches) tf.env().set(FLAG, tfjsDefault);
  };
}
