import type { ByteSource } from '@seqloom/core';

/** Where the files of one checkpoint lie: a folder, a hub, or whatever else can give them. */
export interface Repository {
  /** what to call it in an error, such as `org/name` or a path */
  readonly label: string;
  /** the commit that its files are of; null outside a hub */
  readonly commit: string | null;
  /** The text of a file; null when there is none of this name. */
  text(file: string): Promise<string | null>;
  /** Random access to a file; null when there is none of this name. */
  open(file: string): Promise<ByteSource | null>;
}

/** One report of progress. */
export interface PretrainedProgress {
  /** `download`: bytes from the network; `load`: bytes of weights that the model has taken */
  readonly phase: 'download' | 'load';
  /** the file, or the tensor, at work */
  readonly name: string;
  /** bytes done in this phase, those of an earlier attempt included */
  readonly done: number;
  /** bytes of this phase in all */
  readonly total: number;
}

/** Small files that travel with a checkpoint, apart from `config.json` and the weights. */
export const COMPANION_FILES = [
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'tokenizer.model',
  'chat_template.jinja',
  'chat_template.json',
] as const;
