import { complexLinearScanKernel, linearScanKernel } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import type { FindHeap } from './heap.ts';

type Sizes = [batch: number, time: number, channels: number];

function implementReal(findHeap: FindHeap, label: string): () => void {
  return linearScanKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs: { decay, input, state }, attributes: { reverse }, backend }) {
      const heap = findHeap(backend);
      const sizes = input.shape as Sizes;
      const hidden = heap.output(sizes);
      const final = heap.output([sizes[0], sizes[2]]);
      heap.kernels.scanForward(...sizes, reverse, ...heap.pointers(decay, input, state, hidden, final));
      return { hidden, state: final };
    },
    gradient({ inputs, saved, upstream, attributes: { reverse }, backend }) {
      const heap = findHeap(backend);
      const sizes = inputs.input.shape as Sizes;
      const [decay, input] = [heap.output(sizes), heap.output(sizes)];
      const state = heap.output([sizes[0], sizes[2]]);
      const given = heap.pointers(inputs.decay, inputs.state, saved.hidden, upstream.hidden, upstream.state);
      heap.kernels.scanBackward(...sizes, reverse, ...given, ...heap.pointers(decay, input, state));
      if (inputs.state) return { decay, input, state };
      backend.disposeData(state.dataId);
      return { decay, input };
    },
  });
}

function implementComplex(findHeap: FindHeap, label: string): () => void {
  return complexLinearScanKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs, attributes: { reverse }, backend }) {
      const heap = findHeap(backend);
      const sizes = inputs.inputReal.shape as Sizes;
      const [hiddenReal, hiddenImaginary] = [heap.output(sizes), heap.output(sizes)];
      const [stateReal, stateImaginary] = [heap.output([sizes[0], sizes[2]]), heap.output([sizes[0], sizes[2]])];
      const { decayReal, decayImaginary, inputReal, inputImaginary } = inputs;
      const given = heap.pointers(decayReal, decayImaginary, inputReal, inputImaginary, inputs.stateReal, inputs.stateImaginary);
      const made = heap.pointers(hiddenReal, hiddenImaginary, stateReal, stateImaginary);
      heap.kernels.complexScanForward(...sizes, reverse, ...given, ...made);
      return { hiddenReal, hiddenImaginary, stateReal, stateImaginary };
    },
    gradient({ inputs, saved, upstream, attributes: { reverse }, backend }) {
      const heap = findHeap(backend);
      const sizes = inputs.inputReal.shape as Sizes;
      const whole = (): tf.TensorInfo => heap.output(sizes);
      const row = (): tf.TensorInfo => heap.output([sizes[0], sizes[2]]);
      const made = {
        decayReal: whole(),
        decayImaginary: whole(),
        inputReal: whole(),
        inputImaginary: whole(),
        stateReal: row(),
        stateImaginary: row(),
      };
      const given = heap.pointers(inputs.decayReal, inputs.decayImaginary, inputs.stateReal, inputs.stateImaginary);
      const forward = heap.pointers(saved.hiddenReal, saved.hiddenImaginary, upstream.hiddenReal, upstream.hiddenImaginary);
      const outer = heap.pointers(upstream.stateReal, upstream.stateImaginary);
      const { decayReal, decayImaginary, inputReal, inputImaginary, stateReal, stateImaginary } = made;
      const results = heap.pointers(decayReal, decayImaginary, inputReal, inputImaginary, stateReal, stateImaginary);
      heap.kernels.complexScanBackward(...sizes, reverse, ...given, ...forward, ...outer, ...results);
      if (inputs.stateReal) return made;
      backend.disposeData(stateReal.dataId);
      backend.disposeData(stateImaginary.dataId);
      return { decayReal, decayImaginary, inputReal, inputImaginary };
    },
  });
}

/** Installs the fused `LinearScan` and `ComplexLinearScan`; returns the way back. */
export function implementLinearScan(findHeap: FindHeap, label: string): () => void {
  const undo = [implementReal(findHeap, label), implementComplex(findHeap, label)];
  return () => undo.forEach((step) => step());
}
