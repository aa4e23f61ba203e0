import { spreadOf } from './statistics.ts';

/** Measured ceilings of one core, in GFLOP/s. */
export interface Peak {
  /** multiplications and additions as separate instructions */
  readonly simd: number;
  /** fused multiply-add; null where the runtime has no relaxed SIMD */
  readonly relaxed: number | null;
}

const ACCUMULATORS = 12;
const [F32X4_ADD, F32X4_MUL, F32X4_RELAXED_MADD] = [0xe4, 0xe6, 0x105];

function leb(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ;) {
    const low = rest & 0x7f;
    rest >>>= 7;
    if (rest === 0) return [...bytes, low];
    bytes.push(low | 0x80);
  }
}

const F32X4_EXTRACT_LANE = 0x1f;
const HEADER = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
// i32.const 1, i32.sub, local.tee, br_if 0
const decrementAndBranch = (local: number): number[] => [0x41, 1, 0x6b, 0x22, local, 0x0d, 0];

const section = (id: number, body: readonly number[]): number[] => [id, ...leb(body.length), ...body];
const simd = (opcode: number): number[] => [0xfd, ...leb(opcode)];
const get = (local: number): number[] => [0x20, ...leb(local)];
const set = (local: number): number[] => [0x21, ...leb(local)];

/**
 * Bytes of a module whose function `loop(count)` does `count` rounds of `a = a x + y` on twelve independent registers of four lanes: more
 * than latency times ports, and few enough for sixteen registers.
 */
export function peakModule(relaxed: boolean): Uint8Array<ArrayBuffer> {
  const [count, first] = [0, 1];
  const [x, y] = [first + ACCUMULATORS, first + ACCUMULATORS + 1];
  const splat = (value: number): number[] => [0x43, ...new Uint8Array(Float32Array.of(value).buffer), ...simd(0x13)];
  const registers = Array.from({ length: ACCUMULATORS }, (_, index) => first + index);
  const step = registers.flatMap((a) =>
    relaxed
      ? [...get(a), ...get(x), ...get(y), ...simd(F32X4_RELAXED_MADD), ...set(a)]
      : [...get(a), ...get(x), ...simd(F32X4_MUL), ...get(y), ...simd(F32X4_ADD), ...set(a)],
  );
  const body = [
    1,
    ...leb(ACCUMULATORS + 2),
    0x7b,
    ...registers.flatMap((a, index) => [...splat(index + 1), ...set(a)]),
    ...splat(0.999),
    ...set(x),
    ...splat(0.001),
    ...set(y),
    0x03,
    0x40,
    ...step,
    // count = count - 1; again while it is not 0
    ...get(count),
    ...decrementAndBranch(count),
    0x0b,
    // the sum keeps every register alive
    ...get(first),
    ...registers.slice(1).flatMap((a) => [...get(a), ...simd(F32X4_ADD)]),
    ...simd(F32X4_EXTRACT_LANE),
    0,
    0x0b,
  ];
  return Uint8Array.from([
    ...HEADER,
    ...section(1, [1, 0x60, 1, 0x7f, 1, 0x7d]),
    ...section(3, [1, 0]),
    ...section(7, [1, 4, ...new TextEncoder().encode('loop'), 0, 0]),
    ...section(10, [1, ...leb(body.length), ...body]),
  ]);
}

const ROUNDS = 200_000;
/** Operations of one call of `fmaLoop`. */
export const LOOP_FLOPS = ROUNDS * ACCUMULATORS * 8;

/** One call of the FMA loop, a fraction of a millisecond long; null where the runtime lacks the instructions. */
export async function fmaLoop(relaxed: boolean): Promise<(() => void) | null> {
  const bytes = peakModule(relaxed);
  if (!WebAssembly.validate(bytes)) return null;
  const { instance } = await WebAssembly.instantiate(bytes);
  const loop = instance.exports['loop'] as (count: number) => number;
  // the optimising compiler takes over during the first calls
  for (let call = 0; call < 50; call++) loop(20_000);
  return () => void loop(ROUNDS);
}

async function measure(relaxed: boolean, milliseconds: number): Promise<number | null> {
  const loop = await fmaLoop(relaxed);
  if (!loop) return null;
  const rates: number[] = [];
  const begin = performance.now();
  do {
    const start = performance.now();
    loop();
    rates.push(LOOP_FLOPS / (performance.now() - start) / 1e6);
  } while (performance.now() - begin < milliseconds);
  // a ceiling is what is reached when nothing disturbs
  return spreadOf(rates).max;
}

/** Measures the FMA loop with both instruction sets. */
export async function measurePeak(milliseconds = 400): Promise<Peak> {
  return { simd: (await measure(false, milliseconds))!, relaxed: await measure(true, milliseconds) };
}
