import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { root } from '../workspace.ts';

/** A registry on this machine: our packages are published to it, all others come through it from the registry that npm is set to. */
export interface LocalRegistry {
  readonly url: string;
  /** an npm configuration file that lets anybody publish here */
  readonly userconfig: string;
  stop(): Promise<void>;
}

/** A port on the loopback interface that is free right now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('The system gave no free port on 127.0.0.1.');
  return address.port;
}

/**
 * Starts Verdaccio with its storage in `folder`.
 *
 * @param folder an existing temporary folder
 * @param uplink address of the registry that answers for everything but `@seqloom/*`
 */
export async function startRegistry(folder: string, uplink: string): Promise<LocalRegistry> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/`;
  const config = join(folder, 'verdaccio.json');
  const userconfig = join(folder, 'npmrc');
  mkdirSync(join(folder, 'storage'), { recursive: true });
  const everybody = { access: '$all', publish: '$all', unpublish: '$all' };
  writeFileSync(
    config,
    JSON.stringify({
      storage: join(folder, 'storage'),
      auth: { htpasswd: { file: join(folder, 'htpasswd') } },
      uplinks: { upstream: { url: uplink, timeout: '120s', maxage: '60m', max_fails: 20 } },
      packages: { '@seqloom/*': everybody, '**': { ...everybody, proxy: 'upstream' } },
      web: { enable: false },
      max_body_size: '100mb',
      log: { type: 'stdout', format: 'pretty', level: 'warn' },
    }),
  );
  // npm refuses to publish without a token, whatever it says
  writeFileSync(userconfig, `//127.0.0.1:${port}/:_authToken=anybody\nregistry=${url}\naudit=false\nfund=false\nupdate-notifier=false\n`);
  const child: ChildProcess = spawn(
    process.execPath,
    [join(root, 'node_modules/verdaccio/bin/verdaccio'), '--config', config, '--listen', `127.0.0.1:${port}`],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let log = '';
  child.stdout?.on('data', (chunk: Buffer) => (log += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill();
    await once(child, 'exit');
  };
  for (let attempt = 0; attempt < 240; attempt++) {
    if (child.exitCode !== null) throw new Error(`Verdaccio ended at once:\n${log}`);
    const alive = await fetch(`${url}-/ping`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (alive) return { url, userconfig, stop };
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  await stop();
  throw new Error(`Verdaccio did not answer within a minute:\n${log}`);
}
