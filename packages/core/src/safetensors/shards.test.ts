/// <reference lib="esnext.disposable" />
import { describe, expect, test } from 'vitest';
import { SeqLoomError } from '../error.ts';
import { bytesSource, formatSafetensorsIndex, openShardedSafetensors, parseSafetensorsIndex, writeSafetensors } from './index.ts';
import type { ByteSource } from './index.ts';
import { splitShards } from './shards.ts';

const tensor = (value: number) => ({ dtype: 'U8' as const, shape: [], data: Uint8Array.of(value) });
const SHARDS: Record<string, Uint8Array> = {
  'model-00001-of-00002.safetensors': writeSafetensors({ a: tensor(1), b: tensor(2) }, { metadata: { format: 'pt' } }),
  'model-00002-of-00002.safetensors': writeSafetensors({ c: tensor(3) }),
};
const MAP = { a: 'model-00001-of-00002.safetensors', b: 'model-00001-of-00002.safetensors', c: 'model-00002-of-00002.safetensors' };
const indexOf = (weight_map: unknown, metadata: unknown = { total_size: 3 }): string => JSON.stringify({ metadata, weight_map });

describe('index', () => {
  test('is written sorted and read back', () => {
    const text = formatSafetensorsIndex(new Map(Object.entries(MAP).reverse()), 3);
    expect(JSON.parse(text)).toEqual({ metadata: { total_size: 3 }, weight_map: MAP });
    const index = parseSafetensorsIndex(text);
    expect([...index.weightMap]).toEqual(Object.entries(MAP));
    expect(index.metadata).toEqual({ total_size: 3 });
    expect(parseSafetensorsIndex(formatSafetensorsIndex(new Map(), 0)).weightMap.size).toBe(0);
    expect(parseSafetensorsIndex('{"weight_map":{"__proto__":"x.safetensors"}}').weightMap.get('__proto__')).toBe('x.safetensors');
  });

  test.each([
    '../model.safetensors',
    '/etc/model.safetensors',
    String.raw`..\model.safetensors`,
    'sub/model.safetensors',
    'C:model.safetensors',
    'model\u0000.safetensors',
    'model.bin',
    '..',
    '',
    7,
    null,
  ])('refuses the shard name %j', (file) => {
    const parse = (): unknown => parseSafetensorsIndex(indexOf({ a: file }));
    expect(parse).toThrow(SeqLoomError);
    expect(parse).toThrow(/weight_map "a" must be a plain '\*\.safetensors' file name/);
  });

  test.each([
    ['[]', /JSON object/],
    ['nope', /valid JSON/],
    ['{}', /weight_map must be an object of file names/],
    [indexOf(['a']), /weight_map must be an object/],
    [indexOf(MAP, 3), /metadata must be an object/],
    [`{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}`, /got "a" twice/],
    ['{"__proto__":{"weight_map":{}}}', /weight_map must be/],
  ])('refuses %s', (text, message) => {
    expect(() => parseSafetensorsIndex(text)).toThrow(SeqLoomError);
    expect(() => parseSafetensorsIndex(text)).toThrow(message);
  });
});

describe('set', () => {
  const opened = new Set<string>();
  const openShard =
    (shards: Record<string, Uint8Array>) =>
    (file: string): Promise<ByteSource> => {
      if (!Object.hasOwn(shards, file)) return Promise.reject(new Error(`no ${file}`));
      opened.add(file);
      return Promise.resolve({ ...bytesSource(shards[file], file), close: () => Promise.resolve(void opened.delete(file)) });
    };

  test('reads as one', async () => {
    await using reader = await openShardedSafetensors(parseSafetensorsIndex(indexOf(MAP)), openShard(SHARDS));
    expect([...reader.tensors.keys()]).toEqual(['a', 'b', 'c']);
    expect({ ...reader.metadata }).toEqual({ format: 'pt' });
    expect((await reader.tensor('c')).data).toEqual(Uint8Array.of(3));
    const seen: string[] = [];
    for await (const [name, { data }] of reader) seen.push(`${name}${data[0]}`);
    expect(seen).toEqual(['a1', 'b2', 'c3']);
    await expect(reader.tensor('d')).rejects.toThrow(/one of the 3 tensors in the sharded set; got "d"/);
    await reader.close();
    expect(opened.size).toBe(0);
  });

  test.each<[string, object, Record<string, Uint8Array>, RegExp]>([
    [
      'missing shards, each named',
      { ...MAP, d: 'other.safetensors' },
      { [MAP.a]: SHARDS[MAP.a] },
      /all 3 readable; got no model-00002-of-00002.safetensors, other.safetensors/,
    ],
    ['a mapped tensor that is not there', { ...MAP, d: MAP.c }, SHARDS, /the shard that holds "d"/],
    [
      'a tensor that is not mapped',
      { a: MAP.a, c: MAP.c },
      SHARDS,
      /tensor "b" must be where the index places it; got a tensor that it does not name/,
    ],
    ['a tensor in another shard', { ...MAP, b: MAP.c }, SHARDS, /tensor "b" .* got one that it places in model-00002/],
    ['a damaged shard', MAP, { ...SHARDS, [MAP.c]: SHARDS[MAP.c].slice(0, -1) }, /model-00002-of-00002.safetensors tensor "c"/],
  ])('%s: refused, nothing stays open', async (_, map, shards, message) => {
    const opening = openShardedSafetensors(parseSafetensorsIndex(indexOf(map)), openShard(shards));
    await expect(opening).rejects.toBeInstanceOf(SeqLoomError);
    await expect(opening).rejects.toThrow(message);
    expect(opened.size).toBe(0);
  });
});

test('shards are filled in order and never beyond the limit, but for a tensor that is larger alone', () => {
  const sizes = [4, 4, 1, 9, 0, 3, 3].map((byteLength) => ({ byteLength }));
  const split = (limit: number): number[][] => splitShards(sizes, limit).map((shard) => shard.map(({ byteLength }) => byteLength));
  expect(split(8)).toEqual([[4, 4], [1], [9], [0, 3, 3]]);
  expect(split(1)).toEqual([[4], [4], [1], [9], [0], [3], [3]]);
  expect(split(100)).toEqual([[4, 4, 1, 9, 0, 3, 3]]);
  expect(splitShards([], 8)).toEqual([]);
  for (const bad of [0, -1, 1.5, NaN, Infinity])
    expect(() => splitShards(sizes, bad)).toThrow(/maxShardBytes must be a whole number of bytes from 1/);
});
