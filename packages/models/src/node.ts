/** Public checkpoints on disk: a cache of downloads, local folders, and saving. Node only. */
export { folderRepository } from './checkpoints/folder-repository.ts';
export { fromPretrained, openRepository } from './checkpoints/from-pretrained.ts';
export type { FromPretrainedOptions, PretrainedFolder } from './checkpoints/from-pretrained.ts';
export { fetchSnapshot } from './checkpoints/hub-cache.ts';
export type { CacheOptions, Snapshot } from './checkpoints/hub-cache.ts';
export { savePretrained } from './checkpoints/save-pretrained.ts';
export type { SavePretrainedOptions } from './checkpoints/save-pretrained.ts';
