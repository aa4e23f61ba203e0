import { fail } from '@seqloom/core';

/** A `config.json` as it was parsed. */
export type HubConfig = Readonly<Record<string, unknown>>;

/** Typed access to a `config.json`, which names the key at fault. A key that is absent or null has the fallback, if there is one. */
export class ConfigReader {
  readonly config: HubConfig;
  /** what to call it in an error */
  readonly label: string;

  constructor(config: HubConfig, label = 'config.json') {
    this.config = config;
    this.label = label;
  }

  /** Whether a key is there and not null. */
  has(key: string): boolean {
    return Object.hasOwn(this.config, key) && this.config[key] !== null;
  }

  /** A whole number from 1. */
  count(key: string, fallback?: number): number {
    return this.#value(
      key,
      fallback,
      'a whole number from 1',
      (value): value is number => Number.isInteger(value) && (value as number) >= 1,
    );
  }

  /** A whole number from 0. */
  natural(key: string, fallback?: number): number {
    return this.#value(
      key,
      fallback,
      'a whole number from 0',
      (value): value is number => Number.isInteger(value) && (value as number) >= 0,
    );
  }

  /** A finite number. */
  number(key: string, fallback?: number): number {
    return this.#value(key, fallback, 'a finite number', (value): value is number => Number.isFinite(value));
  }

  flag(key: string, fallback?: boolean): boolean {
    return this.#value(key, fallback, 'true or false', (value): value is boolean => typeof value === 'boolean');
  }

  /** One of a few words, given as word to meaning. */
  choice<T>(key: string, meanings: Readonly<Record<string, T>>, fallback?: string): T {
    const wanted = `one of ${Object.keys(meanings).join(', ')}`;
    return meanings[
      this.#value(key, fallback, wanted, (value): value is string => typeof value === 'string' && Object.hasOwn(meanings, value))
    ]!;
  }

  /** A list of words. */
  words(key: string, known: readonly string[]): readonly string[] {
    const isList = (value: unknown): value is string[] => Array.isArray(value) && value.every((word) => known.includes(word as string));
    return this.#value(key, undefined, `a list of ${known.join(', ')}`, isList);
  }

  /** A list of whole numbers from 0. */
  naturals(key: string, fallback?: readonly number[]): readonly number[] {
    const isList = (value: unknown): value is number[] =>
      Array.isArray(value) && value.every((item) => Number.isInteger(item) && item >= 0);
    return this.#value(key, fallback, 'a list of whole numbers from 0', isList);
  }

  /** An object inside the config; null when it is absent. */
  part(key: string): ConfigReader | null {
    if (!this.has(key)) return null;
    const isPart = (value: unknown): value is HubConfig => typeof value === 'object' && !Array.isArray(value);
    return new ConfigReader(this.#value(key, undefined, 'an object', isPart), `${this.label} ${key}`);
  }

  /** Refuses a value that the layers cannot do. */
  refuse(key: string, wanted: string, remedy = 'This variant is not supported.'): never {
    return fail({
      mechanism: 'checkpoint',
      argument: `${this.label} ${key}`,
      wanted,
      given: JSON.stringify(this.config[key]) ?? 'nothing',
      remedy,
    });
  }

  #value<T>(key: string, fallback: T | undefined, wanted: string, is: (value: unknown) => value is T): T {
    if (!this.has(key)) {
      if (fallback !== undefined) return fallback;
      return this.refuse(key, wanted, 'The file lacks it: fetch the config of the checkpoint again.');
    }
    const value = this.config[key];
    return is(value) ? value : this.refuse(key, wanted);
  }
}

/**
 * Rotary settings of a config: `rope_theta` with `rope_scaling`, or `rope_parameters`.
 *
 * @param dims channels per head that are rotated; left out for all
 * @returns the `rotary` of an attention layer
 * @throws SeqLoomError on a scaling that our rotary positions do not have
 */
export function readRotary(config: ConfigReader, dims?: number): Readonly<Record<string, unknown>> {
  const parameters = config.part('rope_parameters');
  const base = parameters?.has('rope_theta') ? parameters.number('rope_theta') : config.number('rope_theta', 10_000);
  const scaling = parameters ?? config.part('rope_scaling');
  return { base, ...(dims === undefined ? {} : { dims }), ...(scaling ? { scaling: readScaling(scaling, config) } : {}) };
}

function readScaling(scaling: ConfigReader, config: ConfigReader): Readonly<Record<string, unknown>> | null {
  const key = scaling.has('rope_type') ? 'rope_type' : 'type';
  const types = { default: 'default', linear: 'linear', yarn: 'yarn', llama3: 'llama3' } as const;
  const type = scaling.choice(key, types, 'default');
  if (type === 'default') return null;
  const factor = scaling.number('factor');
  if (type === 'linear') return { type, factor };
  const originalLength = scaling.has('original_max_position_embeddings')
    ? scaling.count('original_max_position_embeddings')
    : config.count('max_position_embeddings');
  if (type === 'llama3') {
    const [lowFrequencyFactor, highFrequencyFactor] = [scaling.number('low_freq_factor'), scaling.number('high_freq_factor')];
    return { type, factor, originalLength, lowFrequencyFactor, highFrequencyFactor };
  }
  for (const other of ['mscale', 'mscale_all_dim', 'truncate']) {
    if (scaling.has(other)) scaling.refuse(other, 'absent', 'This variant of YaRN is not supported.');
  }
  return {
    type,
    factor,
    originalLength,
    betaFast: scaling.number('beta_fast', 32),
    betaSlow: scaling.number('beta_slow', 1),
    ...(scaling.has('attention_factor') ? { magnitude: scaling.number('attention_factor') } : {}),
  };
}
