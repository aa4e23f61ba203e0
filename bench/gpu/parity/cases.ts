import { kernelCases } from '../../../packages/testing/src/kernel-cases.ts';
import { array64, uniform64 } from '../../../packages/testing/src/oracle/index.ts';
import type { Array64 } from '../../../packages/testing/src/oracle/index.ts';
import { MATMUL } from '../contracts.ts';

/** A small call of a contract whose results and gradients are compared with double precision. */
export interface ParityCase {
  readonly kernel: string;
  readonly inputs: Readonly<Record<string, Array64>>;
  readonly options: Readonly<Record<string, unknown>>;
  /** inputs with a gradient */
  readonly differentiate: readonly string[];
  /** outputs that the loss reads */
  readonly lossTerms: readonly string[];
}

const [time, width, valueWidth] = [37, 6, 5];
/** the specification's gradient of a bias takes a run per pair of tokens */
const short = 19;

/** Lengths of linear attention: one that goes token by token in WGSL, and one that goes in chunks. */
const lengths = { short: time, long: 150 } as const;

function linear(updateRule: string, decay: readonly number[] | null, low: number, length: keyof typeof lengths = 'short'): ParityCase {
  const [T, batch, groups] = [lengths[length], length === 'short' ? 2 : 1, length === 'short' ? 2 : 1];
  const inputs = {
    query: uniform64([batch, T, 2 * groups, width], 1),
    key: uniform64([batch, T, groups, width], 2, -0.5, 0.5),
    value: uniform64([batch, T, groups, valueWidth], 3),
    ...(decay && { logDecay: uniform64([batch, T, groups, ...decay], 4, low, 0) }),
    ...(updateRule.endsWith('delta') && { beta: uniform64([batch, T, groups], 5, 0, 1) }),
    state: uniform64([batch, groups, width, valueWidth], 6),
  };
  const options = { updateRule, chunkSize: 16 };
  return { kernel: 'LinearAttention', inputs, options, differentiate: Object.keys(inputs), lossTerms: ['output', 'state'] };
}

function attention(options: Readonly<Record<string, unknown>>, more: ParityCase['inputs'] = {}): ParityCase {
  const length = 'bias' in more ? short : time;
  const moving = {
    query: uniform64([2, length, 4, width], 1, -2, 2),
    key: uniform64([2, length, 2, width], 2, -2, 2),
    value: uniform64([2, length, 2, valueWidth], 3),
  };
  return {
    kernel: 'SoftmaxAttention',
    inputs: { ...moving, ...more },
    options: { blockSize: 16, ...options },
    differentiate: Object.keys({ ...moving, ...more }).filter((name) => !name.endsWith('Positions')),
    lossTerms: ['output', 'logSumExp'],
  };
}

/** Positions in their order, with a gap in the second row; -1 stands where a row has no key. */
function positions(ahead: number): Array64 {
  return array64(
    [2, time],
    Array.from({ length: 2 * time }, (_, place) => {
      const [row, t] = [Math.floor(place / time), place % time];
      return ahead === 0 && row === 1 && t > 30 ? -1 : t + ahead + (row === 1 && t > 9 ? 5 : 0);
    }),
  );
}

/** One call or more of every contract. */
export function parityCases(): ParityCase[] {
  const product = { left: uniform64([3, 17, 33], 1), right: uniform64([3, 33, 9], 2) };
  return [
    { kernel: MATMUL, inputs: product, options: {}, differentiate: ['left', 'right'], lossTerms: ['output'] },
    linear('linear', null, 0),
    linear('gated', [], -3),
    linear('gated', [width], -3),
    linear('delta', null, 0),
    linear('gated_delta', [], -3),
    // decays that leave nothing of the state
    linear('gated_delta', [width], -100),
    linear('linear', null, 0, 'long'),
    linear('gated', [width], -0.5, 'long'),
    linear('delta', null, 0, 'long'),
    linear('gated_delta', [], -0.5, 'long'),
    linear('gated_delta', [width], -10, 'long'),
    attention({ causal: true }),
    attention({ causal: true, window: 9, sinks: 2, softCap: 3 }),
    attention({ causal: false, dilation: 2 }),
    attention(
      { causal: true },
      { bias: uniform64([1, 4, short, short], 4), sinkLogits: uniform64([4], 5), slopes: uniform64([4], 6, 0, 0.5) },
    ),
    attention({ causal: true, window: 20 }, { queryPositions: positions(3), keyPositions: positions(0) }),
    ...kernelCases(),
  ];
}
