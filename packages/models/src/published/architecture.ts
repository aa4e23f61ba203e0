import type { HybridConfig } from '../config.ts';

/** A published architecture: a config for any shape, and the released sizes with their exact parameter counts. */
export interface Architecture<Shape> {
  /** name in presets, `based` of `based/360m` */
  readonly id: string;
  readonly title: string;
  /** title and arXiv id of the paper, or the release where there is none */
  readonly paper: string;
  /** the config of a shape: the few numbers that differ between sizes */
  readonly config: (shape: Shape) => HybridConfig;
  /** released sizes by name */
  readonly sizes: Readonly<Record<string, { readonly shape: Shape; readonly parameters: number }>>;
}
