/** What core has for files on disk; Node only. */
export { fileSource, openSafetensors, writeSafetensorsFile, writeShardedSafetensors } from './safetensors/file.ts';
