import { describe, expect, it } from 'vitest';
import { adapterClassOf, candidates, checkTuning, tileName, tunings } from './tuning.ts';

describe('the table of tunings', () => {
  it('holds what every WebGPU device can run, in candidates that can be measured', () => {
    const tiles = candidates.matMul.map(tileName);
    for (const tuning of Object.values(tunings)) {
      checkTuning(tuning);
      expect(tiles).toEqual(expect.arrayContaining([tileName(tuning.matMul), tileName(tuning.smallMatMul)]));
      expect(candidates.attention.map(tileName)).toContain(tileName(tuning.attention));
      expect(tuning.halfTiles).toBe(false);
    }
    for (const matMul of candidates.matMul) checkTuning({ matMul, smallMatMul: matMul });
    for (const attention of candidates.attention) checkTuning({ attention });
  });

  it.each([
    [{ vendor: 'nvidia', architecture: 'hopper' }, 'nvidia'],
    [{ vendor: 'amd', architecture: 'rdna-3', description: '' }, 'amd'],
    [{ vendor: 'apple', architecture: 'metal-3' }, 'apple'],
    [{ vendor: 'intel', architecture: 'gen-12lp' }, 'intel'],
    [{ vendor: 'arm', architecture: 'valhall' }, 'mobile'],
    [{ vendor: 'qualcomm', architecture: 'adreno-7xx' }, 'mobile'],
    [{ vendor: 'google', architecture: 'swiftshader' }, 'software'],
    [{ vendor: 'mesa', architecture: '', description: 'llvmpipe (LLVM 15.0.6, 256 bits)' }, 'software'],
    [{ vendor: 'nvidia', architecture: '', isFallbackAdapter: true }, 'software'],
    [{ vendor: 'armada', architecture: '' }, 'other'],
    [{}, 'other'],
  ] as const)('takes the row for %o', (info, wanted) => expect(adapterClassOf(info)).toBe(wanted));
});

describe('settings that no GPU can run', () => {
  const matMul = { rows: 64, columns: 64, inner: 16, rowsEach: 4, columnsEach: 4 };
  it.each([
    [{ matMul: { ...matMul, rows: 256 } }, /tuning\.matMul must be a tile of at most 256 invocations; got 1024 \(256x64x16\/4x4\)/],
    [
      { smallMatMul: { rows: 128, columns: 128, inner: 16, rowsEach: 8, columnsEach: 8 } },
      /tuning\.smallMatMul must be a tile of at most 16384 bytes of workgroup memory; got 16896 bytes/,
    ],
    [{ matMul: { ...matMul, rowsEach: 2 } }, /tuning\.matMul\.rowsEach must be 4 or 8; got 2/],
    [{ matMul: { ...matMul, inner: 12 } }, /tuning\.matMul\.inner must be 8, 16 or 32; got 12/],
    [{ matMul: { ...matMul, columns: 66 } }, /tuning\.matMul\.columns must be a multiple of 4; got 66/],
    [{ matMul: { ...matMul, inner: 8 } }, /tuning\.matMul\.rows must be so many that 256 invocations load equal shares/],
    [{ matMul: { rows: 64 } }, /tuning\.matMul must be an object with rows, columns, inner, rowsEach, columnsEach/],
    [{ attention: { own: 64, other: 32 } }, /tuning\.attention\.own must be 8, 16 or 32; got 64/],
    [{ attention: { own: 32, other: 64 } }, /tuning\.attention must be a tile of at most 16384 bytes of workgroup memory/],
    [{ subgroups: 1 }, /tuning\.subgroups must be true or false; got 1/],
    [{ halfTile: true }, /tuning must be an object with matMul, smallMatMul, attention, subgroups, halfTiles; got \{"halfTile":true\}/],
    ['fast', /tuning must be an object/],
  ])('are refused: %o', (given, message) => expect(() => checkTuning(given as object)).toThrow(message));

  it('allow larger slices when tiles are of 16-bit floats', () => {
    checkTuning({ halfTiles: true, matMul: { rows: 128, columns: 128, inner: 16, rowsEach: 8, columnsEach: 8 } });
  });
});
