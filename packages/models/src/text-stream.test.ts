import { describe, expect, it } from 'vitest';
import { TextStream } from './text-stream.ts';

const bytes = {
  vocabSize: 256,
  encode: (text: string) => new TextEncoder().encode(text),
  decode: (ids: readonly number[]) => new TextDecoder().decode(Uint8Array.from(ids)),
};

function feed(text: string, stops: string[] = []): { parts: string[]; text: string; stopped: boolean } {
  const stream = new TextStream(bytes, stops);
  const parts: string[] = [];
  for (const id of bytes.encode(text)) {
    const { text: part, stopped } = stream.push(id);
    parts.push(part);
    if (stopped) return { parts, text: stream.text, stopped };
  }
  parts.push(stream.flush());
  return { parts, text: stream.text, stopped: false };
}

describe('text stream', () => {
  it('emits a character of several bytes once, when it is whole', () => {
    const { parts, text } = feed('a\u{1F40B}b');
    expect(parts).toEqual(['a', '', '', '', '\u{1F40B}', 'b', '']);
    expect(text).toBe('a\u{1F40B}b');
  });

  it('stops at a stop string that spans tokens and cuts before it', () => {
    expect(feed('call END me', ['END'])).toMatchObject({ text: 'call ', stopped: true });
  });

  it('holds back what may begin a stop string and lets it go when it does not', () => {
    const { parts, text } = feed('an ENemy', ['END']);
    expect(parts).toEqual(['a', 'n', ' ', '', '', 'ENe', 'm', 'y', '']);
    expect(text).toBe('an ENemy');
    expect(feed('is EN', ['END']).text).toBe('is EN');
  });

  it('keeps bytes that never become a character', () => {
    const stream = new TextStream(bytes, []);
    stream.push(0xff);
    stream.push(0x41);
    expect(stream.text + stream.flush()).toContain('A');
  });
});
