const sources = new Map<string, string>();

/** The source of a shader whose text is made: the text is long, and the same at every call of its name. */
export function sourceOf(name: string, make: () => string): string {
  let source = sources.get(name);
  if (source === undefined) sources.set(name, (source = make()));
  return source;
}
