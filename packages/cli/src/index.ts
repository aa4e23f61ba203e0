export { createProgram, run } from './program.ts';
export { presets } from './presets.ts';
