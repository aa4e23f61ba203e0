import type * as fs from 'node:fs';
import type { SetupOptions } from '@seqloom/core';

/** What tests ask of the place that they run in. */
export interface TestPlace {
  /** environment variables */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** options of every `setupBackend`, e.g. the kernel packages, which a bundled page cannot find by itself */
  readonly setup: SetupOptions;
  /** names and sizes in bytes of the files of a folder */
  files(folder: string | URL): Readonly<Record<string, number>>;
  read(file: string | URL): Promise<Uint8Array>;
  /** shows a line to whoever runs the tests */
  print(line: string): void;
}

/** Node's file system, found at run time: a static import would keep the laws out of a page. */
export function nodeFiles(): typeof fs {
  return process.getBuiltinModule('node:fs');
}

const node: TestPlace = {
  get environment() {
    return process.env;
  },
  setup: {},
  files: (folder) => {
    const { readdirSync, statSync } = nodeFiles();
    return Object.fromEntries(readdirSync(folder).map((name) => [name, statSync(inFolder(folder, name)).size]));
  },
  read: (file) => nodeFiles().promises.readFile(file),
  print: (line) => void process.stdout.write(`${line}\n`),
};

let place = node;

/** The place that tests run in: Node, unless a page said otherwise. */
export function testPlace(): TestPlace {
  return place;
}

/** Makes another place known, e.g. a page that fetches golden files from its server; call it before any test file is loaded. */
export function runTestsIn(other: TestPlace): void {
  place = other;
}

/** The address of a file in a folder. */
export function inFolder(folder: string | URL, name: string): string | URL {
  return folder instanceof URL ? new URL(name, folder.href.replace(/\/?$/, '/')) : `${folder.replace(/\/$/, '')}/${name}`;
}
