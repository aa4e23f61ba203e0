/// <reference types="vite/client" />
// vitest's own runner over the repository's own law files, on the WebGPU of the browser
import { config } from './worker-state.ts';
import { explain } from '@seqloom/core';
import { useGpuKernels } from '@seqloom/kernels-gpu';
import { runTestsIn } from '@seqloom/testing';
import { startTests } from 'vitest/internal/browser';
import type { RunnerTask, RunnerTestCase, RunnerTestFile } from 'vitest';
import type { LawPage, Outcome, PageRun, PageTest } from './outcome.ts';

const files = import.meta.glob('../../../packages/*/src/*/*.laws.test.ts');
const { report } = globalThis as unknown as { report: (outcome: Outcome) => Promise<void> };
const lines: string[] = [];

// a run without calls that reach the GPU did not run on WebGPU
let submits = 0;
const submit = GPUQueue.prototype.submit;
GPUQueue.prototype.submit = function (commands) {
  submits++;
  submit.call(this, commands);
};

const pathOf = (address: string | URL): string => new URL(address, location.origin).pathname;

async function get(address: string | URL): Promise<Response> {
  const answer = await fetch(pathOf(address));
  if (!answer.ok) throw new Error(`${pathOf(address)}: ${answer.status} ${answer.statusText}`);
  return answer;
}

async function settle(environment: Readonly<Record<string, string>>): Promise<void> {
  const golden = (await (await get('/golden.json')).json()) as Record<string, Record<string, number>>;
  runTestsIn({
    environment,
    setup: { kernels: [useGpuKernels] },
    files: (folder) => golden[pathOf(folder)] ?? {},
    read: async (file) => new Uint8Array(await (await get(file)).arrayBuffer()),
    print: (line) => void lines.push(line),
  });
}

/** The tests of a task, without those of the backends that Node's tests cover. */
function testsOf(task: RunnerTask): RunnerTestCase[] {
  if (task.type === 'test') return [task];
  return /^on (cpu|wasm)$/.test(task.name) ? [] : task.tasks.flatMap(testsOf);
}

function titleOf(task: RunnerTask): string {
  return task.suite ? `${titleOf(task.suite)} > ${task.name}` : task.name;
}

function outcomeOf({ id, mode, result, suite, file }: RunnerTestCase): Outcome {
  if (result?.state === 'pass') return { id, state: 'passed', messages: [] };
  const skipped = result?.state === 'skip' || mode === 'skip';
  // a hook that fails leaves its tests without a result
  const errors = [result, suite?.result, file.result].flatMap((found) => found?.errors ?? []);
  if (skipped && errors.length === 0)
    return { id, state: 'skipped', messages: [(result as { note?: string } | undefined)?.note ?? 'no reason given'] };
  return { id, state: 'failed', messages: errors.length > 0 ? errors.map(({ message }) => message) : ['it never ran'] };
}

let begin = (): void => {};
let ended: Promise<RunnerTestFile[]> | undefined;

const page: LawPage = {
  declare: async (path, environment) => {
    await settle(environment);
    const load = files[`../../..${path}`];
    if (!load) throw new Error(`there is no law file ${path}`);
    const begun = new Promise<void>((resolve) => (begin = resolve));
    return new Promise<PageTest[]>((resolve, reject) => {
      ended = startTests([path], {
        config: config as never,
        pool: 'browser',
        importFile: load,
        onCollected: async ([file]) => {
          const errors = file!.result?.errors ?? [];
          if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('\n'));
          const tests = testsOf(file!).map((test) => ({ id: test.id, title: titleOf(test) }));
          if (tests.length === 0) throw new Error(`${path} declares no test`);
          resolve(tests);
          await begun;
        },
        onAfterRunTask: (test) => report(outcomeOf(test)),
      });
      ended.catch(reject);
    });
  },
  run: async (): Promise<PageRun> => {
    begin();
    for (const test of (await ended!).flatMap(testsOf)) await report(outcomeOf(test));
    const { backend, reason, kernelPackages, kernels } = explain();
    const names = kernels
      .filter((run) => run.backend === 'webgpu')
      .map(({ kernel, implementation }) => `${kernel}: ${implementation.kind === 'fused' ? implementation.label : 'composed'}`);
    return { backend, reason, kernelPackages, kernels: names, submits, lines };
  },
};

Object.assign(globalThis, { laws: page });
document.title = 'ready';
