import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { softwareVulkan } from './chromium.ts';
import { root } from './workspace.ts';

const run = promisify(execFile);
const vulkan = softwareVulkan();
// what a snippet keeps for later is not for the machine's user
const env = { ...process.env, XDG_CACHE_HOME: join(tmpdir(), 'seqloom-snippets'), ...(vulkan && { VK_ICD_FILENAMES: vulkan }) };
const pages = globSync(['README.md', 'packages/*/README.md', 'packages/*/src/*/README.md'], { cwd: root }).sort();

// every block of TypeScript in a README runs as it stands; one that only shows a shape is marked `ts no-run`
const snippets = pages.flatMap((page) =>
  [...readFileSync(join(root, page), 'utf8').matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match, index) => ({
    page,
    name: `${page} (${index + 1})`,
    code: match[1]!,
  })),
);

test('there are snippets', () => expect(snippets.length).toBeGreaterThan(0));

test.for(snippets)('$name runs', async ({ code }) => {
  const flags = ['--conditions=@seqloom/source', '--no-warnings', '--input-type=module-typescript', '--eval', code];
  await expect(run(process.execPath, flags, { cwd: root, env, timeout: 120_000 })).resolves.toBeTruthy();
});
