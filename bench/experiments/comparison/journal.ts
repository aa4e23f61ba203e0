import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** What an interrupted run had finished. */
export interface Journal<Entry> {
  find(key: string): Entry | undefined;
  add(key: string, entry: Entry): void;
}

/**
 * Finished pieces of work in a file, one line each, so that an interrupted run can go on.
 *
 * @param settings entries of other settings are not found, and stay
 * @param resume false: entries of these settings are forgotten
 */
export function openJournal<Entry>(path: string, settings: string, resume: boolean): Journal<Entry> {
  mkdirSync(dirname(path), { recursive: true });
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  const saved = lines.map((line) => JSON.parse(line) as { settings: string; key: string; entry: Entry });
  const own = saved.filter((each) => each.settings === settings);
  if (!resume && own.length > 0)
    writeFileSync(
      path,
      lines
        .filter((_, at) => saved[at]!.settings !== settings)
        .map((line) => `${line}\n`)
        .join(''),
    );
  const known = new Map(resume ? own.map(({ key, entry }) => [key, entry]) : []);
  return {
    find: (key) => known.get(key),
    add: (key, entry) => appendFileSync(path, `${JSON.stringify({ settings, key, entry })}\n`),
  };
}
