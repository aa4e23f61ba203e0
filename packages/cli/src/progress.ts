import { SingleBar } from 'cli-progress';
import type { TrainEvent } from '@seqloom/train';

/** Shows a run as it goes. */
export interface ProgressView {
  show(event: TrainEvent): void;
  close(): void;
}

/** A bar on a terminal, a line every few seconds in a log, nothing with `--json`. Everything goes to standard error. */
export function progressView(json: boolean, minutes: number | undefined): ProgressView {
  if (json) return { show: () => undefined, close: () => undefined };
  return process.stderr.isTTY ? barView(minutes) : lineView();
}

function barView(minutes: number | undefined): ProgressView {
  const bar = new SingleBar({
    format:
      '{bar} {percentage}% | step {value}/{steps} | loss {loss} | {bits} bits/byte | held out {heldOut} | {speed} tokens/s | {left} left',
    barCompleteChar: '=',
    barIncompleteChar: '.',
    barsize: 20,
    hideCursor: true,
    clearOnComplete: false,
    stream: process.stderr,
    etaBuffer: 1,
  });
  const payload = { steps: '?', loss: '-', bits: '-', heldOut: '-', speed: '-', left: minutes === undefined ? '-' : clock(minutes * 60) };
  let started = false;
  const since = performance.now();
  // until the number of steps is known, time tells how far the run is
  const guess = (step: number): number => Math.ceil((step * (minutes ?? 1) * 60_000) / (performance.now() - since));
  return {
    show(event) {
      if (event.type === 'start') {
        bar.start(event.total ?? 1, 0, payload);
        started = true;
      } else if (event.type === 'step') {
        bar.setTotal(event.total ?? Math.max(event.step + 1, guess(event.step)));
        bar.update(event.step, {
          ...payload,
          steps: String(event.total ?? '?'),
          loss: event.loss.toFixed(3),
          bits: event.bitsPerByte.toFixed(3),
          speed: Math.round(event.tokensPerSecond).toLocaleString('en'),
          left: event.secondsLeft === null ? payload.left : clock(event.secondsLeft),
        });
      } else if (event.type === 'evaluation') {
        payload.heldOut = event.bitsPerByte.toFixed(3);
      }
    },
    close() {
      if (started) bar.stop();
    },
  };
}

function lineView(): ProgressView {
  let last = 0;
  const write = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  return {
    show(event) {
      if (event.type === 'start')
        write(`${event.resumed ? `resumed at step ${event.step}` : 'started'}, ${event.parameters.toLocaleString('en')} parameters`);
      if (event.type === 'evaluation') write(`step ${event.step}: held out ${event.bitsPerByte.toFixed(3)} bits/byte`);
      if (event.type !== 'step' || performance.now() - last < 5000) return;
      last = performance.now();
      const left = event.secondsLeft === null ? '' : `, ${clock(event.secondsLeft)} left`;
      write(
        `step ${event.step}/${event.total ?? '?'}: loss ${event.loss.toFixed(3)}, ${event.bitsPerByte.toFixed(3)} bits/byte, ${Math.round(event.tokensPerSecond).toLocaleString('en')} tokens/s${left}`,
      );
    },
    close: () => undefined,
  };
}

/** 75 seconds are "1:15". */
function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
