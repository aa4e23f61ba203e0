/** Safetensors in Node and the browser: reading, writing, streaming, sharded sets. Files on disk are in `file.ts`. */
export { encodeBf16, encodeF16, toFloat32, toFloat64, toInt32 } from './convert.ts';
export type { NumberData } from './convert.ts';
export { DTYPES, bytesPerElement, isDtype, isFloatDtype } from './dtype.ts';
export type { Dtype, DtypeArrays, FloatDtype, SafeTensor, TensorData } from './dtype.ts';
export { MAX_HEADER_BYTES } from './header.ts';
export type { TensorInfo } from './header.ts';
export type { SafetensorsWriteOptions, TensorEntries, TensorInput } from './layout.ts';
export { readSafetensors, writeSafetensors } from './memory.ts';
export type { Safetensors } from './memory.ts';
export { openSafetensorsSource } from './reader.ts';
export type { TensorReader } from './reader.ts';
export { INDEX_FILE, formatSafetensorsIndex, openShardedSafetensors, parseSafetensorsIndex } from './shards.ts';
export type { SafetensorsIndex } from './shards.ts';
export { blobSource, bytesSource, httpSource } from './source.ts';
export type { ByteSource, HttpSourceOptions } from './source.ts';
