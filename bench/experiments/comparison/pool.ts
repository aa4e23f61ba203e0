import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { setupBackend } from '@seqloom/core';
import type { Run, Sizes } from './train-model.ts';

/** One model to train; plain JSON, so that another process can do it. */
export interface Job {
  readonly candidate: string;
  readonly sizes: Sizes;
  readonly seed: number;
  /** highest learning rate of the schedule */
  readonly peak: number;
  /** which held-out sequences score it */
  readonly set: 'choice' | 'report';
}

/** Trains models, so many at a time. */
export interface Pool {
  train(job: Job): Promise<Run>;
  close(): void;
}

type Answer = { readonly run: Run } | { readonly error: string };

/**
 * A queue of jobs in front of this process, or of several others that were started with `--worker`.
 *
 * @param experiment name of the experiment, to start the others with
 * @param jobs models at a time; 1: in this process
 */
export function openPool(experiment: string, jobs: number, train: (job: Job) => Promise<Run>): Pool {
  const workers = jobs === 1 ? [] : Array.from({ length: jobs }, () => fork(process.argv[1]!, [experiment, '--worker']));
  // what each place last worked on; the next job goes where the first one ends
  const idle = workers.length > 0 ? workers.map((worker) => (job: Job) => ask(worker, job)) : [train];
  const waiting: ((place: (job: Job) => Promise<Run>) => void)[] = [];
  return {
    train: async (job) => {
      const place = idle.shift() ?? (await new Promise<(job: Job) => Promise<Run>>((resolve) => waiting.push(resolve)));
      try {
        return await place(job);
      } finally {
        const next = waiting.shift();
        if (next) next(place);
        else idle.push(place);
      }
    },
    close: () => {
      for (const worker of workers) worker.kill();
    },
  };
}

function ask(worker: ChildProcess, job: Job): Promise<Run> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void): void => {
      worker.off('message', answered);
      worker.off('exit', ended);
      done();
    };
    const answered = (answer: Answer): void =>
      settle(() => ('run' in answer ? resolve(answer.run) : reject(new Error(`${job.candidate}: ${answer.error}`))));
    const ended = (code: number | null): void =>
      settle(() => reject(new Error(`${job.candidate}: the process ended with ${String(code)}`)));
    worker.on('message', answered);
    worker.on('exit', ended);
    worker.send(job);
  });
}

/** Trains what the parent process asks for, until it goes away. */
export async function serveJobs(train: (job: Job) => Promise<Run>): Promise<never> {
  await setupBackend('wasm');
  process.on('message', (job: Job) => {
    const answer = (answer: Answer): void => void process.send!(answer);
    train(job).then(
      (run) => answer({ run }),
      (error: unknown) => answer({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  });
  await new Promise((resolve) => process.once('disconnect', resolve));
  // in the middle of a model, too
  process.exit(0);
}
