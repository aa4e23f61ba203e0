import { describe, expect, it } from 'vitest';
import { expandPattern } from './pattern.ts';

const count = (names: readonly string[], name: string): number[] => [...names.keys()].filter((index) => names[index] === name);

describe('layer patterns', () => {
  it('expands names, repeats, groups and nested groups', () => {
    expect(expandPattern('a, b*2,(c,d)*2', null)).toEqual(['a', 'b', 'b', 'c', 'd', 'c', 'd']);
    expect(expandPattern('((a*2,b)*2,c)*2', null)).toHaveLength(14);
    expect(expandPattern('a*0,b', null)).toEqual(['b']);
  });

  it('yields the published layouts', () => {
    const kimi = expandPattern('(kda*3,mla)*6,kda*2,mla', 27);
    expect(count(kimi, 'mla')).toEqual([3, 7, 11, 15, 19, 23, 26]);
    const based = expandPattern('(c,l,w,c*2)*5,c*2', 27);
    expect(count(based, 'l')).toEqual([1, 6, 11, 16, 21]);
    expect(count(based, 'w')).toEqual([2, 7, 12, 17, 22]);
    expect(expandPattern('m,(m*5,h)*7,m*4,h,m*3,h,m*2', 54)).toHaveLength(54);
    expect(count(expandPattern({ every: 8, offset: 4, then: 'a', else: 'm' }, 32), 'a')).toEqual([4, 12, 20, 28]);
  });

  it('repeats a pattern that divides the depth and refuses one that does not', () => {
    expect(expandPattern('a,b', 6)).toEqual(['a', 'b', 'a', 'b', 'a', 'b']);
    expect(() => expandPattern('a*25', 27)).toThrow('a pattern of 27 layers or of a divisor of 27; got 25 layers');
  });

  it.each(['a,', '(a', 'a**2', '*3', 'a b', '', 'a*', 'a*99999999'])('refuses %j, saying where', (text) => {
    expect(() => expandPattern(text, null)).toThrow(/hybrid-model: config.mixers must be a pattern with .* at position \d+/);
  });
});
