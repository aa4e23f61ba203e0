export { openByteFile } from './data/byte-file.ts';
