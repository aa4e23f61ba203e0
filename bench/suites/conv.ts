import * as tf from '@tensorflow/tfjs-core';
import { causalConv1d } from '@seqloom/core';
import type { CausalConv1dInputs } from '@seqloom/core';
import { naiveCausalConv1d, weightedSum64 } from '../../packages/testing/src/oracle/index.ts';
import type { Candidate, Case, Prepared } from '../measure/candidate.ts';
import { bytesOf, directionCheck, doubles, uniform } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { Bench, Suite } from '../measure/suite.ts';
import { gradientCall, ourCandidates, PLAIN_BACKEND, tensorsOf, tfCandidate } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';

const TAPS = 4;

/** [T, C] as [C, T], or back. */
function swapped(values: ArrayLike<number>, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const result = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) result[column * rows + row] = values[row * columns + column]!;
  return result;
}

function inputsOf(length: number, channels: number): { input: HostArray; weight: HostArray; bias: HostArray } {
  return { input: uniform([1, length, channels], 1), weight: uniform([channels, TAPS], 2), bias: uniform([channels], 3) };
}

async function forward(length: number, channels: number, { peers }: Bench): Promise<Prepared> {
  const inputs = inputsOf(length, channels);
  const { input, weight, bias } = inputs;
  const wanted = naiveCausalConv1d({ input: doubles(input), weight: doubles(weight), bias: doubles(bias) });
  const tensors = tensorsOf(inputs);
  // tfjs wants images: [1, T, 1, C] and a filter [K, 1, C, 1]
  const filter = tf.tensor(swapped(weight.data, channels, TAPS), [TAPS, 1, channels, 1]) as tf.Tensor4D;
  const convolve = () => {
    const image = tf.pad(tf.reshape(tensors.input, [1, length, 1, channels]) as tf.Tensor4D, [
      [0, 0],
      [TAPS - 1, 0],
      [0, 0],
      [0, 0],
    ]);
    return { output: tf.add(tf.reshape(tf.depthwiseConv2d(image, filter, 1, 'valid'), [1, length, channels]), tensors.bias) };
  };
  const candidates: Candidate[] = [
    ...ourCandidates(() => causalConv1d(tensors)),
    tfCandidate('tfjs-wasm', PLAIN_BACKEND, convolve, 'pad, depthwiseConv2d, add'),
  ];
  // [1, C, T], as convolutions elsewhere have it
  const channelsFirst: HostArray = { shape: [1, channels, length], data: swapped(input.data, length, channels) };
  if (peers.jax) {
    const jax = peers.jax.candidate(
      [channelsFirst, { shape: [channels, 1, TAPS], data: weight.data }],
      ({ lax }, x, w) => lax.convGeneralDilated(x!, w!, [1], [[TAPS - 1, 0]], { featureGroupCount: channels }),
      (values) => ({ output: swapped(values, channels, length).map((value, place) => value + bias.data[place % channels]!) }),
    );
    candidates.push({ ...jax, implementation: 'convGeneralDilated on [B, C, T], without bias' });
  }
  if (peers.gpuJs) {
    const source = `function (x, w, b) {
      let sum = b[this.thread.x];
      for (let i = 0; i < this.constants.taps; i++) {
        const t = this.thread.y + i - this.constants.taps + 1;
        if (t >= 0) sum += x[t][this.thread.x] * w[this.thread.x][i];
      }
      return sum;
    }`;
    const given: HostArray[] = [{ shape: [length, channels], data: input.data }, weight, bias];
    candidates.push(peers.gpuJs.candidate(given, source, { output: [channels, length], constants: { taps: TAPS } }, 'output'));
  }
  if (peers.onnxRuntime) {
    const given: HostArray[] = [input, { shape: [channels, 1, TAPS], data: weight.data }, bias];
    const call = { operator: 'CausalConvWithState', domain: 'com.microsoft', inputs: given, outputs: ['output', null] } as const;
    candidates.push(await peers.onnxRuntime.candidate({ ...call, attributes: { channels_last: { int: 1 } } }));
  }
  return {
    candidates,
    checks: [equals('output', wanted.output.data), equals('state', wanted.state.data)],
    dispose: () => tf.dispose([tensors, filter]),
  };
}

function both(length: number, channels: number): Prepared {
  const inputs = inputsOf(length, channels);
  const cotangent = uniform(inputs.input.shape, 6);
  const tensors = tensorsOf(inputs);
  const weights = tensorsOf({ output: cotangent });
  const weights64 = { output: doubles(cotangent) };
  return {
    candidates: ourCandidates(gradientCall((given) => causalConv1d(given as CausalConv1dInputs), tensors, weights)),
    checks: [
      directionCheck(inputs, (given) => weightedSum64(naiveCausalConv1d(given as Parameters<typeof naiveCausalConv1d>[0]), weights64)),
    ],
    agreement: 1e-3,
    dispose: () => tf.dispose([tensors, weights]),
  };
}

function caseOf(direction: 'forward' | 'forward + backward', length: number, channels: number, bench: Bench): Case {
  const forwardOnly = direction === 'forward';
  const row = { shape: [length, channels] };
  return {
    name: `CausalConv1d, ${direction}, T = ${length}`,
    series: `CausalConv1d, ${direction}`,
    x: length,
    work: {
      tokens: length,
      flops: (forwardOnly ? 1 : 3) * 2 * TAPS * length * channels,
      bytes: (forwardOnly ? 1 : 2) * bytesOf([row, row]),
    },
    prepare: () => (forwardOnly ? forward(length, channels, bench) : both(length, channels)),
  };
}

/** Causal depthwise convolution. */
export const conv: Suite = {
  name: 'conv',
  title: 'Causal depthwise convolution',
  about: `The \`CausalConv1d\` contract, B = 1, C = 512, K = ${TAPS}. \`onnxruntime\` is its native \`com.microsoft.CausalConvWithState\`.`,
  peers: ['jax-js', 'gpu.js', 'onnxruntime'],
  cases: (bench) =>
    bench.quick
      ? [caseOf('forward', 33, 8, bench), caseOf('forward', 70, 8, bench), caseOf('forward + backward', 33, 8, bench)]
      : [
          ...[256, 1024, 4096, 16_384].map((length) => caseOf('forward', length, 512, bench)),
          ...[1024, 4096].map((length) => caseOf('forward + backward', length, 512, bench)),
        ],
};
