import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fail } from '@seqloom/core';
import { drawPanels } from '@seqloom/train';
import type { Panel } from '@seqloom/train';
import { print } from '../output.ts';

/** Where an evaluation's results go. */
export interface EvaluationFlags {
  /** true: to standard output; a name: to that file, and the lines for a person to standard output */
  readonly json: boolean | string;
  /** an SVG file */
  readonly picture?: string;
}

/** Prints or writes what an evaluation found, and its picture. */
export async function deliver(
  { json, picture }: EvaluationFlags,
  found: unknown,
  lines: () => readonly string[],
  picturing: { readonly title: string; readonly panels: readonly Panel[] },
): Promise<void> {
  const written: string[] = [];
  const write = async (flag: string, file: string, text: string): Promise<void> => {
    try {
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text);
    } catch (cause) {
      const given = `${file} (${(cause as Error).message})`;
      fail({ mechanism: 'seqloom', argument: flag, wanted: 'a file that can be written', given, remedy: 'Choose another name.', cause });
    }
    written.push(file);
  };
  if (typeof json === 'string') await write('--json', json, `${JSON.stringify(found, null, 2)}\n`);
  if (picture !== undefined) await write('--picture', picture, drawPanels(picturing.title, picturing.panels));
  print(json === true, found, () => [...lines(), ...(written.length > 0 ? ['', `wrote ${written.join(' and ')}`] : [])]);
}

/** Tokens of a piece that keep the logits of so many rows below 64 MiB. */
export function pieceFor(rows: number, vocabSize: number): number {
  return Math.min(512, Math.max(1, Math.floor(2 ** 24 / (rows * vocabSize))));
}
