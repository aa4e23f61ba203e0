import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { GrowingTensors } from './growing.ts';
import type { WasmBackend } from './heap.ts';
import { useWasmKernels } from './use-wasm-kernels.ts';

const WIDTH = 16;

describe('appending to a tensor again and again', () => {
  beforeAll(async () => {
    await tf.setBackend('wasm');
    const { undo } = await useWasmKernels();
    return undo;
  });

  const address = ({ dataId }: tf.Tensor): number => (tf.backend() as WasmBackend).dataIdMap.get(dataId).memoryOffset;
  const rows = (first: number, count: number): tf.Tensor3D =>
    tf.tidy(() => tf.mul(tf.reshape(tf.range(first, first + count), [1, count, 1]), tf.ones([1, 1, WIDTH])));
  /** Holds [1, count, WIDTH] to rows of these numbers. */
  const expectRows = async (x: tf.Tensor, wanted: readonly number[]): Promise<void> => {
    expect(x.shape).toEqual([1, wanted.length, WIDTH]);
    expect([...(await x.data())]).toEqual(wanted.flatMap((row) => Array.from({ length: WIDTH }, () => row)));
  };
  const upTo = (count: number): number[] => Array.from({ length: count }, (_, row) => row);
  const append = (x: tf.Tensor, row: number): tf.Tensor => tf.tidy(() => tf.concat([x, rows(row, 1)], 1));

  it('writes behind it from the third time on, and copies where the room ends', async () => {
    const steps: tf.Tensor[] = [rows(0, 100)];
    for (let row = 100; row < 200; row++) steps.push(append(steps.at(-1)!, row));
    const places = new Set(steps.map(address));
    // given, appended once, and then blocks of a quarter more: 102, 128, 161 rows and so on
    expect(places.size).toBeGreaterThan(3);
    expect(places.size).toBeLessThan(8);
    expect(address(steps[3]!)).toBe(address(steps[2]!));
    for (const step of [0, 1, 2, 3, 50, 100]) await expectRows(steps[step]!, upTo(100 + step));
    // from the last to the first and the other way round: what is left keeps its values
    for (const step of steps.splice(60)) step.dispose();
    await expectRows(steps[59]!, upTo(159));
    for (const step of steps.splice(0, 59)) step.dispose();
    await expectRows(steps[0]!, upTo(159));
    steps[0]!.dispose();
  });

  it('leaves every tensor as it was when several go on from one', async () => {
    let x: tf.Tensor = rows(0, 100);
    for (let row = 100; row < 104; row++) x = append(x, row);
    const [one, other] = [append(x, -1), append(x, -2)];
    const [oneMore, otherMore] = [append(append(one, 7), 8), append(append(append(other, 5), 6), 7)];
    await expectRows(x, upTo(104));
    await expectRows(one, [...upTo(104), -1]);
    await expectRows(other, [...upTo(104), -2]);
    await expectRows(oneMore, [...upTo(104), -1, 7, 8]);
    await expectRows(otherMore, [...upTo(104), -2, 5, 6, 7]);
    expect(address(oneMore)).toBe(address(x));
    expect(address(other)).not.toBe(address(x));
  });

  it('goes through views and moves to other backends', async () => {
    let x: tf.Tensor = rows(0, 100);
    for (let row = 100; row < 104; row++) x = tf.reshape(append(tf.reshape(x, [1, row, WIDTH]), row), [1, row + 1, 4, WIDTH / 4]);
    x = tf.reshape(x, [1, 104, WIDTH]);
    await tf.setBackend('cpu');
    const onCpu = tf.add(x, 1);
    await tf.setBackend('wasm');
    await expectRows(append(x, 104), upTo(105));
    await expectRows(x, upTo(104));
    await expectRows(
      onCpu,
      upTo(104).map((row) => row + 1),
    );
  });

  it('copies rows of a batch, small tensors and long additions as before', async () => {
    const wide = tf.tidy(() => tf.concat([rows(0, 100), rows(0, 100)], 0));
    const longer = [1, 2, 3].reduce<tf.Tensor>((x) => tf.concat([x, tf.ones([2, 1, WIDTH])], 1), wide);
    expect([...(await tf.slice(longer, [1, 99, 0], [1, 4, 1]).data())]).toEqual([99, 1, 1, 1]);
    const half = [1, 2, 3].reduce<tf.Tensor>((x) => tf.concat([x, rows(0, 100)], 1), rows(0, 100));
    await expectRows(half, [...upTo(100), ...upTo(100), ...upTo(100), ...upTo(100)]);
  });
});

describe('blocks of a heap', () => {
  /** A backend on a buffer of its own that knows which addresses are in use. */
  function fakeBackend(): { backend: WasmBackend; live: Set<number>; tensor: (bytes: number) => tf.TensorInfo; full: { yes: boolean } } {
    const memory = new Uint8Array(1 << 20);
    const live = new Set<number>();
    const records = new Map<object, { memoryOffset: number }>();
    const full = { yes: false };
    let next = 64;
    const wasm = {
      HEAPU8: memory,
      _malloc: (bytes: number): number => {
        if (full.yes) return 0;
        live.add(next);
        next += bytes;
        return next - bytes;
      },
      _free: (pointer: number): void => {
        expect(live.delete(pointer), `${pointer} is in use`).toBe(true);
      },
    };
    const backend = {
      wasm,
      dataIdMap: { get: (dataId: object) => records.get(dataId)! },
      makeOutput: (shape: number[], dtype: tf.DataType, memoryOffset: number) => {
        const dataId = {};
        records.set(dataId, { memoryOffset });
        return { dataId, shape, dtype };
      },
    } as unknown as WasmBackend;
    const tensor = (bytes: number): tf.TensorInfo => backend.makeOutput([bytes / 4], 'float32', wasm._malloc(bytes));
    return { backend, live, tensor, full };
  }

  it('are freed with their last tensor, whatever the order', () => {
    for (const order of [
      [0, 1, 2, 3, 4],
      [4, 3, 2, 1, 0],
      [2, 4, 0, 3, 1],
    ]) {
      const { backend, live, tensor } = fakeBackend();
      const growing = GrowingTensors.of(backend);
      expect(GrowingTensors.of(backend)).toBe(growing);
      const more = tensor(64);
      const made = [tensor(8192)];
      for (let step = 0; step < 4; step++) {
        const last = made.at(-1)!;
        const shape = [last.shape[0]! + 16];
        made.push(growing.append(last, more, shape, () => tensor(4 * shape[0]!)));
      }
      // given, appended once, and a block of three
      expect(live.size).toBe(4);
      for (const index of order) backend.wasm._free(backend.dataIdMap.get(made[index]!.dataId).memoryOffset);
      expect(live.size).toBe(1);
    }
  });

  it('are done without when the heap is full', () => {
    const { backend, tensor, full } = fakeBackend();
    const growing = GrowingTensors.of(backend);
    const [given, more] = [tensor(8192), tensor(64)];
    let copies = 0;
    const spare = [tensor(9000), tensor(9000)];
    const join = (): tf.TensorInfo => spare[copies++]!;
    const once = growing.append(given, more, [2064], join);
    full.yes = true;
    const twice = growing.append(once, more, [2080], join);
    expect([copies, twice]).toEqual([2, spare[1]]);
  });
});
