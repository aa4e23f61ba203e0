export { card as shortCausalConv1dCard } from './card.ts';
export { ShortCausalConv1d } from './layer.ts';
export type { ShortCausalConv1dConfig } from './layer.ts';
export { naiveShortCausalConv1d } from './naive.ts';
export type { NaiveConvolutionInputs } from './naive.ts';
export { shortCausalConv1d } from './short-causal-conv1d.ts';
export type { ConvolutionSettings, ConvolutionState, ConvolutionTensors } from './short-causal-conv1d.ts';
