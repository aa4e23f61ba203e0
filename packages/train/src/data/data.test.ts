import { mkdtemp, readdir, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Random } from '@seqloom/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openByteFile } from './byte-file.ts';
import { ByteTokeniser } from './byte-tokeniser.ts';
import { loadTokeniser } from './file-tokeniser.ts';
import { memoryStore } from './memory-store.ts';
import { packDocuments } from './pack.ts';
import { permutation } from './permutation.ts';
import { openTokenFile } from './token-file.ts';
import { WindowData } from './windows.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seqloom-data-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const write = async (content: string | Uint8Array, name = 'text.txt'): Promise<string> => {
  await writeFile(join(folder, name), content);
  return join(folder, name);
};
const alphabet = (length: number): string => Array.from({ length }, (_, i) => String.fromCharCode(33 + (i % 90))).join('');

describe('permutation', () => {
  it('visits each number once, in another order for another seed', () => {
    for (const size of [1, 2, 3, 16, 17, 1000, 4097]) {
      const order = Array.from({ length: size }, (_, i) => permutation(size, 5)(i));
      expect(order.toSorted((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i));
      if (size > 16) expect(order).not.toEqual(Array.from({ length: size }, (_, i) => permutation(size, 6)(i)));
    }
  });

  it('mixes: neighbours land far apart on average', () => {
    const at = permutation(10_000, 1);
    let sum = 0;
    for (let i = 1; i < 10_000; i++) sum += Math.abs(at(i) - at(i - 1));
    // two random numbers below n are n / 3 apart
    expect(sum / 9999).toBeGreaterThan(3000);
    expect(sum / 9999).toBeLessThan(3700);
  });
});

describe('windows', () => {
  it('cover the training part once an epoch and never the held-out part', async () => {
    const store = await memoryStore(alphabet(1000), { tokeniser: new ByteTokeniser() });
    const starts: number[] = [];
    const read = (from: number, count: number): Promise<Int32Array> => {
      starts.push(from);
      return store.read(from, count);
    };
    const data = new WindowData({ ...store, read }, { length: 10, seed: 2 });
    const perEpoch: number[][] = [];
    while (data.position.epoch < 3) {
      starts.length = 0;
      const { epoch } = data.position;
      const { ids, labels } = await data.nextBatch(1);
      expect([...labels.subarray(0, 9)]).toEqual([...ids.subarray(1)]);
      if (data.position.epoch === epoch) (perEpoch[epoch] ??= []).push(starts[0]!);
      else (perEpoch[epoch + 1] ??= []).push(starts[0]!);
    }
    for (const epoch of [0, 1, 2]) {
      const sorted = perEpoch[epoch]!.toSorted((a, b) => a - b);
      if (epoch < 2) expect(sorted.length).toBeGreaterThanOrEqual(93);
      expect(new Set(sorted).size).toBe(sorted.length);
      expect(new Set(sorted.map((start) => start % 10)).size, 'one phase an epoch').toBe(1);
      expect(sorted.at(-1)! + 11).toBeLessThanOrEqual(950);
    }
    expect(perEpoch[0]!.slice(0, 20)).not.toEqual(perEpoch[1]!.slice(0, 20));
  });

  it('go on exactly from a saved position, across an epoch', async () => {
    const store = await memoryStore(alphabet(400), { tokeniser: new ByteTokeniser() });
    const make = (): WindowData => new WindowData(store, { length: 16, seed: 9 });
    const one = make();
    for (let i = 0; i < 6; i++) await one.nextBatch(5);
    const two = make();
    two.seek(structuredClone(one.position));
    for (let i = 0; i < 12; i++) expect(await two.nextBatch(3)).toEqual(await one.nextBatch(3));
    expect(two.position).toEqual(one.position);
    expect(two.position.epoch).toBeGreaterThan(1);
  });

  it.each([0, 4, 9])('score each held-out token once, with %i tokens of overlap', async (overlap) => {
    const store = await memoryStore(alphabet(1003), { tokeniser: new ByteTokeniser() });
    const data = new WindowData(store, { length: 10 });
    const scored: number[] = [];
    for await (const { ids, labels, rows, tokens } of data.evaluation(3, { overlap })) {
      const counted = labels.filter((label) => label >= 0);
      expect(counted.length).toBe(tokens);
      expect(ids.length).toBe(rows * 10);
      scored.push(...counted);
      for (const [i, label] of labels.entries()) {
        if (label < 0) continue;
        // the alphabet runs on, so the input before each label is the letter before
        expect(ids[i]).toBe(label === 33 ? 122 : label - 1);
        if (overlap > 0) expect(i % 10).toBeGreaterThanOrEqual(overlap);
      }
    }
    expect(scored).toEqual([...(await store.read(store.trainCount, store.count - store.trainCount))]);
  });

  it('score a spread of the held-out part when asked for less', async () => {
    const data = new WindowData(await memoryStore(alphabet(4000), { tokeniser: new ByteTokeniser() }), { length: 10 });
    let tokens = 0;
    for await (const batch of data.evaluation(4, { overlap: 5, maxTokens: 60 })) tokens += batch.tokens;
    expect(tokens).toBe(60);
  });

  it('refuse a text that is too short', async () => {
    const store = await memoryStore(alphabet(40), { tokeniser: new ByteTokeniser() });
    expect(() => new WindowData(store, { length: 64 })).toThrow(
      'data: text must be long enough for one window of 65 training tokens and a held-out part; got 38 training and 2 held-out tokens.',
    );
    expect(() => new WindowData(store, { length: 0 })).toThrow('length must be a whole number of tokens from 1');
  });
});

describe('text files', () => {
  it('are read by offset, as bytes', async () => {
    const text = 'Ahab \u{1F40B} é '.repeat(50);
    const store = await openByteFile(await write(text));
    const bytes = new TextEncoder().encode(text);
    expect(store).toMatchObject({ count: bytes.length, trainCount: Math.floor(bytes.length * 0.95), vocabSize: 256 });
    expect([...(await store.read(3, 30))]).toEqual([...bytes.subarray(3, 33)]);
    await truncate(join(folder, 'text.txt'), 20);
    await expect(store.read(10, 30)).rejects.toThrow('it was cut while in use');
    await store.close();
  });

  it('are refused with one clear error when they are no text', async () => {
    const random = new Random(1);
    const noise = Uint8Array.from({ length: 5000 }, () => 1 + random.below(255));
    await expect(openByteFile(join(folder, 'none.txt'))).rejects.toThrow(
      /none\.txt must be a text file; got no file there\. Check the path/,
    );
    await expect(openByteFile(folder)).rejects.toThrow('got a folder or a device');
    await expect(openByteFile(await write(''))).rejects.toThrow('got an empty file');
    await expect(openByteFile(await write('text\0text'))).rejects.toThrow('got binary data (it holds zero bytes)');
    await expect(openByteFile(await write(noise))).rejects.toThrow(/got binary data \(\d+\.\d% control characters\)/);
    // zero bytes far behind the start
    await expect(openByteFile(await write(`${'x'.repeat(300_000)}${'\0'.repeat(70_000)}${'x'.repeat(300_000)}`))).rejects.toThrow(
      'zero bytes',
    );
  });

  it('have a fingerprint that follows the text', async () => {
    const marks = [];
    for (const text of ['some text', 'some test', 'some text']) {
      const store = await openByteFile(await write(text));
      marks.push(store.fingerprint);
      await store.close();
    }
    expect(marks[0]).toBe(marks[2]);
    expect(marks[0]).not.toBe(marks[1]);
  });
});

// a byte-level BPE without merges but for whole words, small enough to be written down
async function writeTokeniser(): Promise<string> {
  const bytes = Array.from({ length: 256 }, (_, byte) => byteLetter(byte));
  const vocab: Record<string, number> = {};
  for (const token of [...bytes, 'ca', 'll', 'call', '\u0120call', '<end>']) vocab[token] ??= Object.keys(vocab).length;
  const merges = ['c a', 'l l', 'ca ll', '\u0120 call'];
  const content = {
    version: '1.0',
    added_tokens: [
      { id: vocab['<end>'], content: '<end>', special: true, lstrip: false, rstrip: false, normalized: false, single_word: false },
    ],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      vocab,
      merges,
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
    },
  };
  await write(JSON.stringify({ eos_token: '<end>' }), 'tokenizer_config.json');
  return write(JSON.stringify(content), 'tokenizer.json');
}

/** The letter that byte-level tokenisers write for a byte. */
function byteLetter(byte: number): string {
  const plain = (code: number): boolean => (code >= 33 && code <= 126) || (code >= 161 && code <= 172) || code >= 174;
  if (plain(byte)) return String.fromCharCode(byte);
  let place = 0;
  for (let code = 0; code < byte; code++) if (!plain(code)) place++;
  return String.fromCharCode(256 + place);
}

describe('tokenisers', () => {
  it('of bytes go there and back', () => {
    const tokeniser = new ByteTokeniser();
    const text = '\uFEFFCall me é\u{1F40B}\n';
    expect(tokeniser.decode(tokeniser.encode(text))).toBe(text);
    expect([...tokeniser.encode('é')]).toEqual([195, 169]);
    expect(tokeniser.decode([255, 65])).toBe('\uFFFDA');
  });

  it('load from a file', async () => {
    const tokeniser = await loadTokeniser(await writeTokeniser());
    const ids = tokeniser.encode('call call\u{1F40B}me');
    expect(ids).toHaveLength(1 + 1 + 4 + 2);
    expect(tokeniser.decode(ids)).toBe('call call\u{1F40B}me');
    expect(tokeniser.vocabSize).toBe(261);
    expect(tokeniser.endId).toBe(260);
    expect(tokeniser.decode([])).toBe('');
    expect((await loadTokeniser(folder)).fingerprint).toBe(tokeniser.fingerprint);
  });

  it('are refused when they are none', async () => {
    await expect(loadTokeniser(join(folder, 'nothing.json'))).rejects.toThrow('got no file there');
    await expect(loadTokeniser(await write('{"a":', 'tokenizer.json'))).rejects.toThrow('must be JSON');
    await expect(loadTokeniser(await write('{"a":1}', 'tokenizer.json'))).rejects.toThrow('JSON without a model');
  });

  it('turn a file into the tokens of the whole text, piece by piece', async () => {
    const tokeniser = await loadTokeniser(await writeTokeniser());
    const line = 'call me Ishmael.  Some call  it é\u{1F40B}\n\n';
    const text = line.repeat(5000);
    const path = await write(text, 'long.txt');
    const longest = { length: 0 };
    const watched = {
      ...tokeniser,
      encode: (part: string) => ((longest.length = Math.max(longest.length, part.length)), tokeniser.encode(part)),
    };
    const store = await openTokenFile(path, { tokeniser: watched, cache: join(folder, 'cache') });
    expect(longest.length).toBeLessThan(140_000);
    const bytes = new TextEncoder().encode(text);
    expect(store.trainBytes + store.heldOutBytes).toBe(bytes.length);
    const ids = [...(await store.read(0, store.count))];
    expect(tokeniser.decode(ids)).toBe(text);
    expect(ids.slice(0, store.trainCount)).toEqual([...tokeniser.encode(new TextDecoder().decode(bytes.subarray(0, store.trainBytes)))]);
    await store.close();
    // a second call reads the cache
    longest.length = 0;
    const again = await openTokenFile(path, { tokeniser: watched, cache: join(folder, 'cache') });
    expect(longest.length).toBe(0);
    expect(again.fingerprint).toBe(store.fingerprint);
    await again.close();
    await utimes(path, 1, 1);
    await (await openTokenFile(path, { tokeniser: watched, cache: join(folder, 'cache') })).close();
    expect(longest.length).toBeGreaterThan(0);
    expect((await readdir(join(folder, 'cache'))).every((name) => name.endsWith('.tokens'))).toBe(true);
  });
});

describe('packing', () => {
  it('fills rows, keeps documents apart and loses no label', () => {
    const rows = [...packDocuments([[1, 2, 3], [], [4, 5, 6, 7, 8], [9]], { length: 4 })];
    expect(rows.map(({ ids }) => [...ids])).toEqual([
      [1, 2, 3, 4],
      [5, 6, 7, 8],
      [9, 0, 0, 0],
    ]);
    expect(rows.map(({ labels }) => [...labels])).toEqual([
      [2, 3, -1, 5],
      [6, 7, 8, -1],
      [-1, -1, -1, -1],
    ]);
    expect(rows.map(({ segments }) => [...segments])).toEqual([
      [1, 1, 1, 2],
      [1, 1, 1, 1],
      [1, 0, 0, 0],
    ]);
  });

  it('ends documents with an id, and reaches across when asked', () => {
    const [row] = [...packDocuments([[1, 2], [3]], { length: 5, endId: 0, acrossDocuments: true })];
    expect([...row!.ids]).toEqual([1, 2, 0, 3, 0]);
    expect([...row!.labels]).toEqual([2, 0, 3, 0, -1]);
    const [apart] = [...packDocuments([[1, 2], [3]], { length: 5, endId: 0 })];
    expect([...apart!.labels]).toEqual([2, 0, -1, 0, -1]);
    expect(() => [...packDocuments([[1]], { length: 0 })]).toThrow('packDocuments: length');
  });
});
