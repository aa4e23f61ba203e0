import { createRequire } from 'node:module';
import { Command, InvalidArgumentError } from 'commander';
import { benchDecode } from './commands/bench-decode.ts';
import { convert } from './commands/convert.ts';
import type { ConvertFlags } from './commands/convert.ts';
import { doctor } from './commands/doctor.ts';
import { evalPerplexity } from './commands/eval-perplexity.ts';
import { evalRecall } from './commands/eval-recall.ts';
import { generateText } from './commands/generate.ts';
import { inspect } from './commands/inspect.ts';
import { quickstart } from './commands/quickstart.ts';
import { trainModel } from './commands/train.ts';
import { outlineModel, startBackend } from './model.ts';
import { report } from './output.ts';

const number = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('a number is wanted.');
  return value;
};
const wholeNumber = (text: string): number => {
  const value = number(text);
  if (!Number.isInteger(value)) throw new InvalidArgumentError('a whole number is wanted.');
  return value;
};
const positive = (text: string): number => {
  const value = number(text);
  if (value <= 0) throw new InvalidArgumentError('a number above 0 is wanted.');
  return value;
};

const wholeNumbers = (text: string): number[] => text.split(',').map(wholeNumber);
const numbers = (text: string): number[] => text.split(',').map(number);
const names = (text: string): string[] => text.split(',');

/** Options that name a model, shared by the commands that take one. */
const withModel = (command: Command): Command =>
  command
    .option('--checkpoint <folder>', 'a run folder or one of its checkpoints')
    .option('--config <file>', 'a model config as JSON')
    .option('--preset <name>', 'a model config by name: quickstart, or a published size such as mamba-lm/mamba-130m');

/** Where public checkpoints come from. */
const withHub = (command: Command): Command =>
  command
    .option('--revision <name>', 'branch, tag or commit of a public checkpoint, default main')
    .option('--offline', 'use the cache of public checkpoints alone')
    .option('--cache <folder>', 'where public checkpoints are kept, default where the Python tools keep them')
    .option('--hub <url>', 'address of the hub; HF_TOKEN in the environment is its access token');

/** As `withModel`, for commands that take a public checkpoint too. */
const withAnyModel = (command: Command): Command =>
  withHub(
    withModel(command).option(
      '--model <id or folder>',
      'a public checkpoint: owner/name on the hub, or a folder with config.json and safetensors',
    ),
  );

const withRuntime = (command: Command): Command =>
  command
    .option('--backend <name>', 'auto, wasm, webgpu, tensorflow or cpu', 'auto')
    .option('--composed', 'leave kernel packages out and run composed kernels');

const withBackend = (command: Command): Command => withRuntime(command).option('--json', 'print JSON', false);

const withResults = (command: Command): Command =>
  withRuntime(command)
    .option('--json [file]', 'print JSON, or write it to a file', false)
    .option('--picture <file>', 'draw the results as SVG');

const withSampling = (command: Command): Command =>
  command
    .option('--temperature <number>', 'divides the logits; 0 takes the most likely token', number)
    .option('--top-k <count>', 'keep the k most likely tokens', wholeNumber)
    .option('--top-p <share>', 'keep the most likely tokens that reach this probability', number)
    .option('--min-p <share>', 'keep tokens of at least this share of the best probability', number)
    .option('--repetition-penalty <factor>', 'makes tokens seen less likely', number);

/** The `seqloom` command. */
export function createProgram(): Command {
  const program = new Command('seqloom')
    .description('Train, run and look into sequence models woven from attention, linear recurrences, state spaces and memory.')
    .version((createRequire(import.meta.url)('../package.json') as { version: string }).version)
    .showHelpAfterError('(seqloom --help lists the commands)');

  const trainCommand = program.command('train').description('train a model on a text file; Ctrl-C saves and ends');
  withBackend(withModel(trainCommand))
    .requiredOption('--text <file>', 'the text to learn from')
    .option('--out <folder>', 'run folder: config, metrics, checkpoints, report', 'runs/train')
    .option('--steps <count>', 'optimiser steps', wholeNumber)
    .option('--minutes <number>', 'stop after this time instead', positive)
    .option('--batch <rows>', 'rows per step', wholeNumber)
    .option('--length <tokens>', 'tokens per row', wholeNumber)
    .option('--learning-rate <number>', 'peak learning rate', positive)
    .option('--seed <number>', 'seed of weights and data order', wholeNumber)
    .option('--resume', 'continue the run in --out', false)
    .action(guard(trainModel));

  withSampling(withBackend(withAnyModel(program.command('generate').description('write on from a prompt, as a stream'))))
    .option('--prompt <text>', 'text to start from; default a new line')
    .option('--prompt-ids <list>', 'ids to start from, in place of a text', wholeNumbers)
    .option('--tokens <count>', 'tokens to write', wholeNumber, 256)
    .option('--stop <text...>', 'end at these texts')
    .option('--seed <number>', 'seed of the draws', wholeNumber)
    .action(guard(generateText));

  withBackend(withAnyModel(program.command('inspect').description('layers, parameters, state bytes over context length, FLOPs per token')))
    .option('--tensors', 'list every tensor', false)
    .action(
      guard(async (options) => {
        await startBackend(options);
        const model = await outlineModel(options);
        inspect(model, options);
        model.dispose();
      }),
    );

  const converting = program
    .command('convert')
    .description('turn a public checkpoint into a run folder, or a run into a folder that other tools read');
  withHub(
    withRuntime(converting).argument('<from>', 'an id on the hub, a checkpoint folder, or a run').argument('<to>', 'the folder to make'),
  )
    .option('--to <kind>', 'hub or run; default: what <from> is not')
    .option('--like <id or folder>', 'public checkpoint whose config, names and tokeniser a run takes; default: the one it came from')
    .option('--dtype <type>', 'F32, BF16 or F16 for a public checkpoint', 'F32')
    .option('--max-shard-bytes <count>', 'tensor bytes per file of a public checkpoint', wholeNumber, 5e9)
    .option('--overwrite', 'replace <to>', false)
    .option('--json', 'print JSON', false)
    .action((from: string, to: string, options: Omit<ConvertFlags, 'from' | 'target'>) => guard(convert)({ ...options, from, target: to }));

  const bench = program.command('bench').description('measure a model on this machine');
  withBackend(withAnyModel(bench.command('decode').description('time of one token and bytes of state over the length of the context')))
    .option('--contexts <list>', 'tokens before the measured ones', wholeNumbers, [1024, 4096, 16_384, 65_536])
    .option('--tokens <count>', 'tokens measured at each', wholeNumber, 16)
    .option('--batch <rows>', 'rows at once', wholeNumber, 1)
    .action(guard(benchDecode));

  const evaluation = program.command('eval').description('score a model: what it recalls, how well it foretells a text');
  withResults(
    withModel(
      evaluation.command('recall').description('recall tasks over length; first trains a model for each, unless it is given with weights'),
    ),
  )
    .option('--tasks <list>', 'mqar, needle, selective-copy, induction, segment-recall; default all', names)
    .option('--lengths <list>', 'tokens of a sequence', wholeNumbers, [64, 128])
    .option('--pairs <list>', 'key-value pairs, tokens to copy, or facts', wholeNumbers, [2, 4])
    .option('--depths <list>', 'places of the needle from 0 to 1', numbers, [0, 0.25, 0.5, 0.75, 1])
    .option('--segment-length <tokens>', 'tokens of a segment in segment-recall', wholeNumber, 16)
    .option('--count <sequences>', 'sequences scored at each point', wholeNumber, 128)
    .option(
      '--steps <count>',
      'optimiser steps for each task before it is scored; default 1000, and 0 with --checkpoint or --model',
      wholeNumber,
    )
    .option('--batch <rows>', 'rows per step', wholeNumber, 16)
    .option('--learning-rate <number>', 'peak learning rate', positive, 4e-3)
    .option('--seed <number>', 'seed of the sequences', wholeNumber, 0)
    .option('--out <folder>', 'keep the trained models, one run folder for each task')
    .action(guard(evalRecall));
  withResults(withAnyModel(evaluation.command('perplexity').description('loss, bits per byte and loss over context of a text')))
    .option('--text <file>', 'the text')
    .option('--literal <text>', 'the text itself')
    .option('--held-out', 'only the last 5 % of the file, which `train` holds out', false)
    .option('--tokeniser <file>', 'a tokenizer.json; default: that of --model, else bytes')
    .option('--window <tokens>', 'windows that each start without a state; default: one state through the whole text', wholeNumber)
    .option('--stride <tokens>', 'tokens from one window to the next, default half a window', wholeNumber)
    .option('--rows <count>', 'windows at a time', wholeNumber)
    .action(guard(evalPerplexity));

  program
    .command('doctor')
    .description('which backends and kernels work here, and what would make the others work')
    .option('--json', 'print JSON', false)
    .action(guard(doctor));

  withBackend(program.command('quickstart').description('train the default hybrid on a book, then write'))
    .option('--text <file>', 'another text than the book')
    .option('--minutes <number>', 'time to train', positive, 4.2)
    .option('--seed <number>', 'seed of weights, data order and draws', wholeNumber, 0)
    .action(guard(quickstart));

  return program;
}

/** Runs the command line; errors end in one message and exit code 1. */
export async function run(argv: readonly string[]): Promise<void> {
  await createProgram().parseAsync(argv);
}

function guard<O extends { json: boolean | string }>(action: (options: O) => void | Promise<void>): (options: O) => Promise<void> {
  return async (options) => {
    try {
      await action(options);
    } catch (error) {
      report(error, options.json === true);
    }
  };
}
