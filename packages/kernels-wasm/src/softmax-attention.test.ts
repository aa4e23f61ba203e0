import { softmaxAttention } from '@seqloom/core';
import type { SoftmaxAttentionInputs, SoftmaxAttentionOptions } from '@seqloom/core';
import { array64, checkKernelParity, naiveSoftmaxAttention, randomStream, uniform64 } from '@seqloom/testing';
import type { NaiveSoftmaxAttentionInputs, NaiveSoftmaxAttentionOptions } from '@seqloom/testing';
import { it } from 'vitest';
import { describeBuilds } from './describe-builds.ts';

interface Case {
  readonly inputs: NaiveSoftmaxAttentionInputs;
  readonly options: SoftmaxAttentionOptions;
}

/** One random call whose options come and go; sizes up to `limit`. */
function randomCase(seed: number, limit: number): Case {
  const random = randomStream(seed);
  const whole = (low: number, high: number): number => low + Math.floor(random() * (high - low + 1));
  const pick = <X>(...choices: X[]): X => choices[whole(0, choices.length - 1)]!;
  const [B, T, G] = [whole(1, 2), whole(1, limit), whole(1, 2)];
  const S = pick(T, T, T + whole(0, limit), Math.max(1, T - 2));
  const H = G * whole(1, 3);
  const D = whole(1, 11);
  const inputs: NaiveSoftmaxAttentionInputs = {
    query: uniform64([B, T, H, D], seed, -2, 2),
    key: uniform64([B, S, G, D], seed + 1, -2, 2),
    value: uniform64([B, S, G, whole(1, 10)], seed + 2),
  };
  if (random() < 0.3) inputs.bias = uniform64([pick(1, B), pick(1, H), T, S], seed + 3);
  if (random() < 0.3) inputs.sinkLogits = uniform64([H], seed + 4);
  if (random() < 0.3) inputs.slopes = uniform64([H], seed + 5, 0, 1);
  if (random() < 0.3)
    inputs.keyPositions = array64(
      [B, S],
      Float64Array.from({ length: B * S }, () => whole(-1, S + 1)),
    );
  if (random() < 0.3)
    inputs.queryPositions = array64(
      [B, T],
      Float64Array.from({ length: B * T }, () => whole(0, S + 2)),
    );
  const options: SoftmaxAttentionOptions = {
    causal: pick(true, false),
    window: pick(null, null, 1, 2, 4, 20, 60),
    dilation: pick(1, 1, 2, 3),
    sinks: pick(0, 0, 1, 3),
    prefix: pick(0, 0, 2),
    softCap: pick(null, null, 1.5),
    scale: pick(D ** -0.5, 0.7),
  };
  return { inputs, options };
}

/** Whether some query sees two keys (or a key and a sink): else the weights are constant and gradients of the logits exactly 0. */
function hasChoice({ inputs, options }: Case): boolean {
  const wide = { ...inputs, bias: undefined, slopes: undefined, query: array64(inputs.query.shape), value: array64(inputs.value.shape) };
  return naiveSoftmaxAttention(wide, options as NaiveSoftmaxAttentionOptions).logSumExp.data.some((x) => x > 0.1);
}

const parity = (
  { inputs, options }: Case,
  { gradients = true, hidden = true, ...rest }: { gradients?: boolean; hidden?: boolean; differentiate?: string[] } = {},
): Promise<void> =>
  checkKernelParity('wasm', {
    inputs: inputs as never,
    run: (tensors) => softmaxAttention(tensors as unknown as SoftmaxAttentionInputs, options),
    oracle: (arrays) =>
      naiveSoftmaxAttention(arrays as unknown as NaiveSoftmaxAttentionInputs, options as NaiveSoftmaxAttentionOptions) as never,
    ...(gradients && {
      differentiate: hasChoice({ inputs, options }) ? ['query', 'key', 'value', 'bias', 'sinkLogits', 'slopes'] : ['value'],
    }),
    // a row that sees nothing has logSumExp -Infinity, which no loss can read
    ...(hidden && { lossTerms: ['output'] }),
    ...rest,
  });

function plain(T: number, S: number, H = 2, G = 1, D = 5, Dv = 7, reach = 1): NaiveSoftmaxAttentionInputs {
  return {
    query: uniform64([1, T, H, D], T, -reach, reach),
    key: uniform64([1, S, G, D], T + 1, -reach, reach),
    value: uniform64([1, S, G, Dv], T + 2),
  };
}

describeBuilds('SoftmaxAttention', 'SoftmaxAttention', () => {
  it.each([0, 1, 2, 3])('equals float64 over random options, outputs and all gradients (lot %i)', async (lot) => {
    for (let seed = lot * 12; seed < lot * 12 + 12; seed++) await parity(randomCase(seed, 9));
  });

  it.each([0, 1, 2, 3])('equals float64 over random options and several tiles (lot %i)', async (lot) => {
    for (let seed = 500 + lot * 10; seed < 510 + lot * 10; seed++) await parity(randomCase(seed, 130), { gradients: false });
  });

  it.each([1, 2, 7, 47, 48, 49, 63, 65, 97, 100])('equals float64 at T = %i', async (T) => {
    for (const options of [{ causal: true }, { causal: true, window: 9, sinks: 2 }, { window: 5 }, {}] as SoftmaxAttentionOptions[]) {
      await parity(
        { inputs: plain(T, T), options },
        { gradients: T < 8 || (T > 46 && T < 50 && options.window === 5) || (T === 65 && options.window === 9), hidden: false },
      );
    }
  });

  it('reads a long key sequence with few queries, unpacked, and with many, packed', async () => {
    for (const T of [1, 3, 9]) await parity({ inputs: plain(T, 1500), options: { causal: true } }, { gradients: false });
    await parity({ inputs: plain(2, 1100, 6, 2), options: { causal: true, window: 200, sinks: 4 } }, { gradients: false });
    // 15 and 16 rows of a group, odd widths, keys beyond the last whole tile
    await parity({ inputs: plain(5, 1501, 6, 2, 13, 9), options: { causal: true, softCap: 2 } }, { gradients: false });
    await parity({ inputs: plain(4, 203, 8, 2, 64, 64), options: { causal: false } }, { gradients: false });
  });

  it('takes logits of 1e4', async () => {
    // the scores themselves carry float32 rounding of about 1e-3, so the inputs are small whole numbers whose products are exact
    const inputs = plain(33, 33, 2, 1, 4, 3);
    for (const array of [inputs.query, inputs.key]) array.data.forEach((x, i) => (array.data[i] = Math.round(x * 50)));
    // one key takes all the weight, so that only the values' gradient is far from 0
    await parity({ inputs, options: { causal: true, scale: 4 } }, { differentiate: ['value'] });
    await parity({ inputs, options: { causal: true, scale: 4, softCap: 30 } }, { gradients: false });
  });

  it('gives 0, -Infinity and zero gradients to rows that see nothing', async () => {
    const inputs = plain(50, 50);
    inputs.keyPositions = array64([1, 50], -1);
    await parity({ inputs, options: {} });
    inputs.keyPositions = array64(
      [1, 50],
      Float64Array.from({ length: 50 }, (_, j) => (j < 20 ? -1 : j)),
    );
    await parity({ inputs, options: { causal: true } });
  });

  it('honours the gradient of logSumExp', async () => {
    await parity({ inputs: { ...plain(31, 31), sinkLogits: uniform64([2], 3) }, options: { causal: true } }, { hidden: false });
  });
});
