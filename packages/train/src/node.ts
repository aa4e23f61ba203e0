export { folderCheckpoints, readCheckpoint } from './checkpoint/folder.ts';
export { openByteFile } from './data/byte-file.ts';
export { loadTokeniser } from './data/file-tokeniser.ts';
export type { FileTokeniser } from './data/file-tokeniser.ts';
export { openTokenFile } from './data/token-file.ts';
export type { TokenFileOptions } from './data/token-file.ts';
export { metricsFile, readMetrics } from './metrics.ts';
export { writeReport } from './report/write.ts';
