import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TextCodec } from '@seqloom/models';
import { ByteTokeniser } from '@seqloom/train';
import { loadTokeniser } from '@seqloom/train/node';
import type { LoadedModel } from './model.ts';

/** How a model's text is read and written, and the ids that end it; no codec where nothing says how. */
export async function openCodec({ model, pretrained }: LoadedModel): Promise<{ codec: TextCodec | null; endIds: number[] }> {
  if (!pretrained) return { codec: new ByteTokeniser(), endIds: [] };
  const { folder, config, generationConfig } = pretrained;
  const endIds = endOf(generationConfig?.['eos_token_id'] ?? config['eos_token_id']);
  if (!existsSync(join(folder, 'tokenizer.json'))) return { codec: model.config.vocabSize === 256 ? new ByteTokeniser() : null, endIds };
  const tokeniser = await loadTokeniser(folder);
  return {
    codec: {
      vocabSize: tokeniser.vocabSize,
      // with the token that begins a text, which models are trained to see first
      encode: (text) => tokeniser.encode(text, { addSpecial: true }),
      decode: (ids) => tokeniser.decode(ids),
    },
    endIds: endIds.length > 0 || tokeniser.endId === undefined ? endIds : [tokeniser.endId],
  };
}

function endOf(value: unknown): number[] {
  return [value].flat().filter((id): id is number => Number.isInteger(id));
}
