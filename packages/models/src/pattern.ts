import { fail } from '@seqloom/core';

/** Layers by name: a pattern string such as `(kda*3, mla)*6`, a list of names, or one name in every `every` layers. */
export type LayerPattern =
  string | readonly string[] | { readonly every: number; readonly offset: number; readonly then: string; readonly else: string };

const MOST = 10_000;

/**
 * Expands a pattern to one name per layer.
 *
 * Grammar: `pattern := item {"," item}`, `item := (name | "(" pattern ")") ["*" integer]`; spaces are ignored. A list that is shorter
 * than `depth` and divides it is repeated.
 *
 * @param depth number of layers; null: as many as the pattern yields
 * @returns names, first layer first
 */
export function expandPattern(pattern: LayerPattern, depth: number | null, argument = 'config.mixers'): string[] {
  const names = expand(pattern, depth, argument);
  if (depth === null || names.length === depth) return names;
  if (names.length === 0 || depth % names.length !== 0) {
    return fail({
      mechanism: 'hybrid-model',
      argument,
      wanted: `a pattern of ${depth} layers or of a divisor of ${depth}`,
      given: `${names.length} layers`,
      remedy: 'Change the pattern or the depth.',
    });
  }
  return Array.from({ length: depth }, (_, index) => names[index % names.length]!);
}

function expand(pattern: LayerPattern, depth: number | null, argument: string): string[] {
  if (typeof pattern === 'string') return new PatternParser(pattern, argument).parse();
  if (isList(pattern)) return [...pattern];
  if (depth === null) {
    return fail({ mechanism: 'hybrid-model', argument, wanted: 'given with a depth', given: 'no depth', remedy: 'Set config.depth.' });
  }
  return Array.from({ length: depth }, (_, index) => (index % pattern.every === pattern.offset ? pattern.then : pattern.else));
}

function isList(pattern: Exclude<LayerPattern, string>): pattern is readonly string[] {
  return Array.isArray(pattern);
}

class PatternParser {
  private at = 0;
  private readonly text: string;
  private readonly argument: string;

  constructor(text: string, argument: string) {
    this.text = text;
    this.argument = argument;
  }

  parse(): string[] {
    const names = this.items();
    if (this.peek() !== '') this.refuse('a comma or the end');
    return names;
  }

  private items(): string[] {
    const names = this.item();
    while (this.peek() === ',') {
      this.at++;
      names.push(...this.item());
      if (names.length > MOST) this.refuse(`at most ${MOST} layers`);
    }
    return names;
  }

  private item(): string[] {
    let names: string[];
    if (this.peek() === '(') {
      this.at++;
      names = this.items();
      if (this.peek() !== ')') this.refuse('a closing parenthesis');
      this.at++;
    } else {
      names = [this.match(/[A-Za-z_][A-Za-z0-9_-]*/y, 'a name')];
    }
    if (this.peek() !== '*') return names;
    this.at++;
    this.peek();
    const count = Number(this.match(/\d+/y, 'a whole number'));
    if (count * names.length > MOST) this.refuse(`at most ${MOST} layers`);
    return Array.from({ length: count }, () => names).flat();
  }

  private match(expression: RegExp, wanted: string): string {
    expression.lastIndex = this.at;
    const found = expression.exec(this.text)?.[0];
    if (found === undefined) return this.refuse(wanted);
    this.at += found.length;
    return found;
  }

  private peek(): string {
    while (this.text[this.at] === ' ') this.at++;
    return this.text[this.at] ?? '';
  }

  private refuse(wanted: string): never {
    return fail({
      mechanism: 'hybrid-model',
      argument: this.argument,
      wanted: `a pattern with ${wanted} at position ${this.at}`,
      given: JSON.stringify(this.text),
      remedy: 'Write it like "(conv*2, linear, window)*3".',
    });
  }
}
