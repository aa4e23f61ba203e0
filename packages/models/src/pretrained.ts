/** Public checkpoints, wherever there is `fetch`: reading them from a hub or from files, and the adapters for both ways. */
export type { CheckpointAdapter, Mapping, ParameterShapes, Rule } from './checkpoints/adapter.ts';
export { defaultAdapters, findAdapter } from './checkpoints/adapters/index.ts';
export { ConfigReader, readRotary } from './checkpoints/config-reader.ts';
export type { HubConfig } from './checkpoints/config-reader.ts';
export { HUB_URL, hubRepository } from './checkpoints/hub.ts';
export type { HubOptions } from './checkpoints/hub.ts';
export { describePretrained, filesRepository, loadPretrained } from './checkpoints/load-pretrained.ts';
export type { LoadPretrainedOptions, Pretrained, PretrainedDescription } from './checkpoints/load-pretrained.ts';
export { loadWeights } from './checkpoints/load-weights.ts';
export type { LoadDtype, LoadReport, LoadWeightsOptions } from './checkpoints/load-weights.ts';
export { COMPANION_FILES } from './checkpoints/repository.ts';
export type { PretrainedProgress, Repository } from './checkpoints/repository.ts';
export { checkpointTensors } from './checkpoints/save-weights.ts';
export type { PendingTensor } from './checkpoints/save-weights.ts';
export * from './checkpoints/transform.ts';
