import { execFileSync } from 'node:child_process';
import { cpus, loadavg, totalmem } from 'node:os';

/** What the figures were measured on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly platform: string;
  /** the GPU's adapter, for suites that run there */
  readonly gpu?: string;
  readonly node: string;
  /** load averages over 1, 5 and 15 minutes before the first measurement */
  readonly load: readonly number[];
  /** the revision of the sources, `+` when they were changed since */
  readonly commit: string;
  readonly date: string;
}

/** Describes this machine as it is now. */
export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown processor',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform} ${process.arch}`,
    node: process.versions.node,
    load: loadavg().map((value) => Math.round(value * 100) / 100),
    commit: revision(),
    date: new Date().toISOString(),
  };
}

function revision(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no', '--', '..', ':!../results');
    return git('rev-parse', '--short', 'HEAD') + (changed ? '+' : '');
  } catch {
    return 'unknown';
  }
}

/** The machine in one line. */
export function machineLine(machine: Machine): string {
  const { cpu, cores, memoryGiB, platform, gpu, node, load, commit, date } = machine;
  return `${cpu}, ${cores} cores, ${memoryGiB} GiB, ${platform}${gpu === undefined ? '' : `, GPU ${gpu}`}, Node ${node}, load ${load.join(' ')}, sources ${commit}, ${date.slice(0, 16)}Z`;
}

/** A warning when something else keeps the machine busy, or null. */
export function loadWarning(machine: Machine): string | null {
  return machine.load[0]! > 1
    ? `The load average was ${machine.load[0]} at the start: other work shared the processor, and these times are not to be quoted.`
    : null;
}
