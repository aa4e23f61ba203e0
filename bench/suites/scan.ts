import * as tf from '@tensorflow/tfjs-core';
import { complexLinearScan, linearScan } from '@seqloom/core';
import type { ComplexLinearScanInputs, LinearScanInputs } from '@seqloom/core';
import { naiveComplexLinearScan, naiveLinearScan, weightedSum64 } from '../../packages/testing/src/oracle/index.ts';
import type { Array64 } from '../../packages/testing/src/oracle/index.ts';
import type { Candidate, Case, Outputs, Work } from '../measure/candidate.ts';
import { COMPOSED } from '../measure/candidate.ts';
import { bytesOf, directionCheck, doubles, uniform } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { Jax } from '../peers/jax.ts';
import type { SkippedPeer } from '../peers/load.ts';
import type { Bench, CaseResult, Floor, Suite } from '../measure/suite.ts';
import { bothOverForward, floor, rowOf } from '../measure/suite.ts';
import { forwardAlone, gradientCall, ourCandidates, tensorsOf } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';

type Arrays = Record<string, HostArray>;

/** A scan over time, with all that a case needs to know of it. */
export interface Scan {
  readonly title: string;
  /** operations per step and channel */
  readonly flops: number;
  inputs(length: number, channels: number): Arrays;
  run(inputs: Record<string, tf.Tensor>): Record<string, tf.Tensor>;
  oracle(inputs: Record<string, Array64>): Record<string, Array64>;
  /** the same in a plain loop over typed arrays */
  loop(inputs: Arrays): Outputs;
  /** arrays of [T, channels] that go in and out */
  readonly rows: number;
  /** the best that jax-js can express, up to the length that fits its memory */
  readonly jax?: { readonly longest: number; readonly reason: string; candidate(jax: Jax, inputs: Arrays): Candidate };
}

const linear: Scan = {
  title: 'LinearScan',
  flops: 2,
  rows: 3,
  inputs: (length, channels) => ({ decay: uniform([1, length, channels], 1, 0.5, 1), input: uniform([1, length, channels], 2) }),
  run: (inputs) => linearScan(inputs as LinearScanInputs),
  oracle: (inputs) => naiveLinearScan(inputs as Parameters<typeof naiveLinearScan>[0]),
  loop({ decay, input }) {
    const channels = decay!.shape[2]!;
    const hidden = new Float32Array(decay!.data.length);
    for (let place = 0; place < hidden.length; place++) {
      const before = place < channels ? 0 : hidden[place - channels]!;
      hidden[place] = decay!.data[place]! * before + input!.data[place]!;
    }
    return { hidden };
  },
};

const complex: Scan = {
  title: 'ComplexLinearScan',
  flops: 8,
  rows: 6,
  inputs: (length, channels) => ({
    decayReal: uniform([1, length, channels], 1, -0.7, 0.7),
    decayImaginary: uniform([1, length, channels], 2, -0.7, 0.7),
    inputReal: uniform([1, length, channels], 3),
    inputImaginary: uniform([1, length, channels], 4),
  }),
  run: (inputs) => complexLinearScan(inputs as ComplexLinearScanInputs),
  oracle: (inputs) => naiveComplexLinearScan(inputs as Parameters<typeof naiveComplexLinearScan>[0]),
  loop(inputs) {
    const [a, b] = [inputs['decayReal']!.data, inputs['decayImaginary']!.data];
    const [x, y] = [inputs['inputReal']!.data, inputs['inputImaginary']!.data];
    const channels = inputs['decayReal']!.shape[2]!;
    const [hiddenReal, hiddenImaginary] = [new Float32Array(a.length), new Float32Array(a.length)];
    for (let place = 0; place < a.length; place++) {
      const before = place - channels;
      const real = before < 0 ? 0 : hiddenReal[before]!;
      const imaginary = before < 0 ? 0 : hiddenImaginary[before]!;
      hiddenReal[place] = a[place]! * real - b[place]! * imaginary + x[place]!;
      hiddenImaginary[place] = a[place]! * imaginary + b[place]! * real + y[place]!;
    }
    return { hiddenReal, hiddenImaginary };
  },
};

function inDoubles(arrays: Arrays): Record<string, Array64> {
  return Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, doubles(array)]));
}

export const scanName = (scan: Scan, direction: string, length: number): string => `${scan.title}, ${direction}, T = ${length}`;

/** A case of one scan, one direction and one length. */
export function scanCase(
  scan: Scan,
  direction: 'forward' | 'forward + backward',
  length: number,
  channels: number,
  { peers }: Bench,
): Case {
  const forwardOnly = direction === 'forward';
  const traffic = bytesOf(Array.from({ length: scan.rows }, () => ({ shape: [length, channels] })));
  const workOf = (way: typeof direction): Work => ({
    tokens: length,
    flops: (way === 'forward' ? 1 : 3) * scan.flops * length * channels,
    bytes: (way === 'forward' ? 1 : 2) * traffic,
  });
  return {
    name: scanName(scan, direction, length),
    series: `${scan.title}, ${direction}`,
    x: length,
    work: workOf(direction),
    prepare() {
      const inputs = scan.inputs(length, channels);
      const tensors = tensorsOf(inputs);
      const kept = length <= (forwardOnly ? 4096 : 1024) ? 2 : 1;
      const skipped: SkippedPeer[] = kept === 2 ? [] : [{ name: COMPOSED, reason: 'takes minutes at this length' }];
      if (forwardOnly) {
        const wanted = scan.oracle(inDoubles(inputs));
        const loop: Candidate = {
          name: 'plain JavaScript',
          implementation: 'a loop over Float32Array',
          run: () => void scan.loop(inputs),
          outputs: () => scan.loop(inputs),
        };
        const candidates = [...ourCandidates(() => scan.run(tensors)).slice(0, kept), loop];
        if (peers.jax && scan.jax) {
          if (length <= scan.jax.longest) candidates.push(scan.jax.candidate(peers.jax, inputs));
          else skipped.push({ name: 'jax-js', reason: scan.jax.reason });
        }
        return {
          candidates,
          skipped,
          checks: Object.entries(wanted).map(([name, { data }]) => equals(name, data)),
          dispose: () => tf.dispose(tensors),
        };
      }
      // the state output is left out of the loss: its last row is in the hidden states already
      const main = Object.entries(scan.oracle(inDoubles(scan.inputs(1, channels)))).filter(([name]) => !name.startsWith('state'));
      const cotangents = Object.fromEntries(
        main.map(([name, { shape }], index) => [name, uniform([1, length, ...shape.slice(2)], 40 + index)]),
      );
      const weights = tensorsOf(cotangents);
      const weights64 = inDoubles(cotangents);
      return {
        candidates: [
          ...ourCandidates(gradientCall((given) => scan.run(given), tensors, weights)).slice(0, kept),
          forwardAlone(() => scan.run(tensors), workOf('forward')),
        ],
        skipped,
        checks: [directionCheck(inputs, (given) => weightedSum64(scan.oracle(given), weights64))],
        agreement: 1e-3,
        dispose: () => tf.dispose([tensors, weights]),
      };
    },
  };
}

const scans = [linear, complex];

/** The scans over time. */
export const scan: Suite = {
  name: 'scan',
  title: 'Scans',
  about:
    'The `LinearScan` and `ComplexLinearScan` contracts, B = 1, C = 256. No peer library has such an operator; the peer is a plain loop over typed arrays, which V8 compiles well.',
  peers: [],
  cases: (bench) =>
    scans.flatMap((each) =>
      bench.quick
        ? [
            scanCase(each, 'forward', 33, 8, bench),
            scanCase(each, 'forward', 70, 8, bench),
            scanCase(each, 'forward + backward', 33, 8, bench),
          ]
        : [
            ...[256, 1024, 4096, 16_384].map((length) => scanCase(each, 'forward', length, 256, bench)),
            ...[1024, 4096].map((length) => scanCase(each, 'forward + backward', length, 256, bench)),
          ],
    ),
  floors: (results) => scans.flatMap((each) => scanFloors(each, results)),
};

/** Floors of one scan: what a gradient may cost, and what fusing must bring. */
export function scanFloors(each: Scan, results: readonly CaseResult[]): Floor[] {
  const both = bothOverForward(results, scanName(each, 'forward + backward', 4096));
  return [
    floor(`${each.title}, forward + backward over forward, T = 4096`, 'at most', 4, both),
    floor(`${each.title}, T = 4096, against composed`, 'at least', 1, rowOf(results, scanName(each, 'forward', 4096), COMPOSED)?.ratio),
  ];
}
