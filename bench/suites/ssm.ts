import { selectiveScan } from '@seqloom/core';
import type { SelectiveScanInputs } from '@seqloom/core';
import { stateSpaceDuality } from '@seqloom/ssm';
import type { DualityTensors } from '@seqloom/ssm';
import { naiveLinearAttention, naiveSelectiveScan } from '../../packages/testing/src/oracle/index.ts';
import type { Array64 } from '../../packages/testing/src/oracle/index.ts';
import { OURS } from '../measure/candidate.ts';
import { uniform } from '../measure/inputs.ts';
import { rowOf } from '../measure/suite.ts';
import type { Suite } from '../measure/suite.ts';
import type { JaxArray, JaxModule } from '../peers/jax.ts';
import { scanCase, scanFloors, scanName } from './scan.ts';
import type { Scan } from './scan.ts';

const STATES = 16;

const selective: Scan = {
  title: `SelectiveScan, N = ${STATES}`,
  // exp counted as one
  flops: 7 * STATES,
  inputs: (length, channels) => ({
    input: uniform([1, length, channels], 1),
    delta: uniform([1, length, channels], 2, 0.01, 0.2),
    transition: uniform([channels, STATES], 3, -4, -0.1),
    inputMatrix: uniform([1, length, STATES], 4),
    outputMatrix: uniform([1, length, STATES], 5),
    skip: uniform([channels], 6),
  }),
  run: (inputs) => selectiveScan(inputs as unknown as SelectiveScanInputs),
  oracle: (inputs) => naiveSelectiveScan(inputs as unknown as Parameters<typeof naiveSelectiveScan>[0]),
  rows: 3,
  jax: {
    longest: 1024,
    reason: 'without a scan it holds arrays of T x C x N and takes log2 T passes over them, which do not fit its memory beyond T = 1024',
    candidate(jax, inputs) {
      const [, length, channels] = inputs['input']!.shape as [number, number, number];
      const order = ['input', 'delta', 'transition', 'inputMatrix', 'outputMatrix', 'skip'];
      return jax.candidate(
        order.map((name) => inputs[name]!),
        ({ numpy: np }, u, delta, a, b, c, d) => {
          const step = delta!.reshape([length, channels, 1]);
          let decay = np.exp(np.multiply(step.ref, a!.reshape([1, channels, STATES])));
          const drive = np.multiply(step, u!.ref.reshape([length, channels, 1]));
          let hidden = np.multiply(drive, b!.reshape([length, 1, STATES]));
          // doubling: after pass s every entry holds the sum over the 2^s tokens before it
          for (let shift = 1; shift < length; shift *= 2) {
            const earlier = (x: JaxArray, first: JaxArray): JaxArray => np.concatenate([first, x.slice([0, length - shift])], 0);
            hidden = np.add(np.multiply(decay.ref, earlier(hidden.ref, np.zeros([shift, channels, STATES]))), hidden);
            decay = np.multiply(decay.ref, earlier(decay, np.ones([shift, channels, STATES])));
          }
          decay.dispose();
          const read = np.sum(np.multiply(hidden, c!.reshape([length, 1, STATES])), 2);
          return np.add(read, np.multiply(u!.reshape([length, channels]), d!));
        },
        (values) => ({ output: values }),
      );
    },
  },
  loop(inputs) {
    const data = (name: string): Float32Array => inputs[name]!.data;
    const [u, delta, a, b, c, d] = ['input', 'delta', 'transition', 'inputMatrix', 'outputMatrix', 'skip'].map(data) as [
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    const [, length, channels] = inputs['input']!.shape as [number, number, number];
    const state = new Float32Array(channels * STATES);
    const output = new Float32Array(u.length);
    for (let t = 0; t < length; t++) {
      for (let channel = 0; channel < channels; channel++) {
        const place = t * channels + channel;
        let sum = d[channel]! * u[place]!;
        const write = delta[place]! * u[place]!;
        for (let n = 0; n < STATES; n++) {
          const lane = channel * STATES + n;
          const hidden = Math.exp(delta[place]! * a[lane]!) * state[lane]! + write * b[t * STATES + n]!;
          state[lane] = hidden;
          sum += c[t * STATES + n]! * hidden;
        }
        output[place] = sum;
      }
    }
    return { output, state };
  },
};

const [WIDTH, DUAL_STATES] = [64, 64];

/** Mamba-2 with one group: heads of 64 channels, a state of 64 x 64 each. */
const duality: Scan = {
  title: `SSD, P = ${WIDTH}, N = ${DUAL_STATES}`,
  // per channel: decay, write and read of N numbers
  flops: 5 * DUAL_STATES,
  rows: 2,
  inputs(length, channels) {
    const heads = Math.max(1, channels / WIDTH);
    return {
      input: uniform([1, length, heads, channels / heads], 1),
      delta: uniform([1, length, heads], 2, 0.01, 0.2),
      transition: uniform([heads], 3, -4, -0.1),
      inputMatrix: uniform([1, length, 1, DUAL_STATES], 4),
      outputMatrix: uniform([1, length, 1, DUAL_STATES], 5),
    };
  },
  run(inputs) {
    const { output, state } = stateSpaceDuality(inputs as unknown as DualityTensors, { deltaSoftplus: false });
    return { output, state: state.memory };
  },
  oracle: (inputs) => naiveLinearAttention(asLinearAttention(inputs), { updateRule: 'gated', scale: 1 }),
  jax: {
    longest: 16_384,
    reason: 'without a scan the chunks are joined by a matrix of chunks x chunks per head, which takes minutes beyond T = 16384',
    candidate(jax, inputs) {
      const [, length, heads, width] = inputs['input']!.shape as [number, number, number, number];
      const order = ['input', 'delta', 'transition', 'inputMatrix', 'outputMatrix'];
      return jax.candidate(
        order.map((name) => inputs[name]!),
        (module, x, delta, a, b, c) => jaxDuality(module, [x!, delta!, a!, b!, c!], { length, heads, width }),
        (values) => ({ output: values }),
      );
    },
  },
  loop(inputs) {
    const data = (name: string): Float32Array => inputs[name]!.data;
    const [u, delta, a, b, c] = ['input', 'delta', 'transition', 'inputMatrix', 'outputMatrix'].map(data) as [
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    const [, length, heads, width] = inputs['input']!.shape as [number, number, number, number];
    const state = new Float32Array(heads * DUAL_STATES * width);
    const output = new Float32Array(u.length);
    for (let t = 0; t < length; t++) {
      for (let head = 0; head < heads; head++) {
        const step = delta[t * heads + head]!;
        const decay = Math.exp(step * a[head]!);
        const row = (t * heads + head) * width;
        for (let n = 0; n < DUAL_STATES; n++) {
          const [write, read] = [step * b[t * DUAL_STATES + n]!, c[t * DUAL_STATES + n]!];
          const lanes = (head * DUAL_STATES + n) * width;
          for (let p = 0; p < width; p++) {
            const hidden = decay * state[lanes + p]! + write * u[row + p]!;
            state[lanes + p] = hidden;
            output[row + p]! += read * hidden;
          }
        }
      }
    }
    return { output, state };
  },
};

/** The same as a call of the gated rule: query C, key B, value Delta x, log-decay Delta A. */
function asLinearAttention(inputs: Record<string, Array64>): Parameters<typeof naiveLinearAttention>[0] {
  const { input, delta, transition, inputMatrix, outputMatrix } = inputs as Record<string, Array64>;
  const [batch, length, heads, width] = input!.shape as [number, number, number, number];
  const perHead = ({ data }: Array64): Array64 => ({
    shape: [batch, length, heads, DUAL_STATES],
    data: Float64Array.from({ length: batch * length * heads * DUAL_STATES }, (_, i) => {
      const row = Math.floor(i / (heads * DUAL_STATES));
      return data[row * DUAL_STATES + (i % DUAL_STATES)]!;
    }),
  });
  return {
    query: perHead(outputMatrix!),
    key: perHead(inputMatrix!),
    value: { shape: input!.shape, data: input!.data.map((value, i) => value * delta!.data[Math.floor(i / width)]!) },
    logDecay: { shape: delta!.shape, data: delta!.data.map((value, i) => value * transition!.data[i % heads]!) },
  };
}

/** SSD of matrix products, chunk by chunk, as Mamba-2's paper lists it; the states of the chunks are joined by a decay matrix. */
function jaxDuality(
  { numpy: np }: JaxModule,
  [x, delta, a, b, c]: [JaxArray, JaxArray, JaxArray, JaxArray, JaxArray],
  { length, heads, width }: { readonly length: number; readonly heads: number; readonly width: number },
): JaxArray {
  const size = Math.min(64, length);
  const chunks = length / size;
  const drive = np.multiply(x.reshape([chunks, size, heads, width]), delta.ref.reshape([chunks, size, heads, 1]));
  const logDecay = np.multiply(delta.reshape([chunks, size, heads]), a.reshape([1, 1, heads]));
  const sums = np.cumsum(np.swapaxes(logDecay, 1, 2), 2); // [chunks, heads, size]
  const keys = b.reshape([chunks, size, DUAL_STATES]);
  const reads = c.reshape([chunks, size, DUAL_STATES]);
  // exp of the difference where i >= j, zero elsewhere
  const decays = (s: JaxArray, [outer, n]: readonly [number[], number], strict: boolean): JaxArray => {
    const apart = np.subtract(s.ref.reshape([...outer, n, 1]), s.reshape([...outer, 1, n]));
    return np.multiply(np.tril(np.exp(np.minimum(apart, 0))), np.tril(np.ones([n, n]), strict ? -1 : 0));
  };
  const scores = np.matmul(reads.ref, np.swapaxes(keys.ref, 1, 2)); // [chunks, size, size]
  const weights = np.multiply(scores.reshape([chunks, 1, size, size]), decays(sums.ref, [[chunks, heads], size], false));
  const values = np.swapaxes(drive, 1, 2); // [chunks, heads, size, width]
  const within = np.matmul(weights, values.ref);
  const last = sums.ref.slice([], [], [size - 1, size]); // [chunks, heads, 1]
  const toEnd = np.exp(np.subtract(last.ref, sums.ref)).reshape([chunks, heads, 1, size]);
  const written = np.matmul(np.multiply(np.swapaxes(keys, 1, 2).reshape([chunks, 1, DUAL_STATES, size]), toEnd), values);
  // state before chunk n: sum over m < n of exp(decay of the chunks between) times what m wrote
  const whole = np.cumsum(np.swapaxes(last.reshape([chunks, heads]), 0, 1), 1); // [heads, chunks]
  const before = np.concatenate([np.zeros([heads, 1]), whole.ref.slice([], [0, chunks - 1])], 1);
  const between = np.exp(np.minimum(np.subtract(before.reshape([heads, chunks, 1]), whole.reshape([heads, 1, chunks])), 0));
  const joined = np.multiply(between, np.tril(np.ones([chunks, chunks]), -1));
  const flat = np.swapaxes(written, 0, 1).reshape([heads, chunks, DUAL_STATES * width]);
  const states = np.swapaxes(np.matmul(joined, flat), 0, 1).reshape([chunks, heads, DUAL_STATES, width]);
  const fromStart = np.exp(sums).reshape([chunks, heads, size, 1]);
  const across = np.multiply(np.matmul(reads.reshape([chunks, 1, size, DUAL_STATES]), states), fromStart);
  return np.swapaxes(np.add(within, across), 1, 2);
}

const scans = [selective, duality];

/** Mamba and Mamba-2 over time. */
export const ssm: Suite = {
  name: 'ssm',
  title: 'Selective scan and state space duality',
  about:
    'The `SelectiveScan` contract and the SSD op of Mamba-2 (one group), B = 1, 256 channels. jax-js has no scan: the selective scan is written for it as log2 T doubling passes, SSD as the chunked matrix products of its paper.',
  peers: ['jax-js'],
  cases: (bench) =>
    scans.flatMap((each) =>
      bench.quick
        ? [scanCase(each, 'forward', 192, WIDTH, bench), scanCase(each, 'forward + backward', 64, WIDTH, bench)]
        : (['forward', 'forward + backward'] as const).flatMap((direction) =>
            [256, 1024, 4096, 16_384, 65_536].map((length) => scanCase(each, direction, length, 256, bench)),
          ),
    ),
  floors: (results) => scans.flatMap((each) => scanFloors(each, results)),
  notes: (results) =>
    scans.flatMap((each) =>
      (['forward', 'forward + backward'] as const).flatMap((direction) => {
        const times = [256, 1024, 4096, 16_384, 65_536].map((length) => {
          const row = rowOf(results, scanName(each, direction, length), OURS);
          return row && (row.ms * 1000) / length;
        });
        if (times.some((time) => time === undefined)) return [];
        const shown = (times as number[]).map((time) => time.toFixed(2)).join(', ');
        return [`${each.title}, ${direction}: ${shown} microseconds per token at T = 256, 1024, 4096, 16384, 65536`];
      }),
    ),
};
