import type { Architecture } from './architecture.ts';

/** Numbers that differ between Titans models. */
export interface TitansShape {
  /** memory as context, gate or layer beside attention, or memory alone */
  readonly variant: 'context' | 'gate' | 'layer' | 'memory';
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  /** of attention and memory */
  readonly heads: number;
  /** inner width of the feed-forward layers */
  readonly hidden: number;
  /** learned tokens that attention always sees, default 4 */
  readonly persistent?: number;
  /** tokens of a segment (context), which is the memory's chunk as well, default 128 */
  readonly segmentLength?: number;
  /** tokens that attention sees (gate, layer), default 256 */
  readonly window?: number;
  /** tokens per chunk of the memory (all but context), default 16 */
  readonly chunkSize?: number;
}

const VARIANTS = ['context', 'gate', 'layer', 'memory'] as const;
type Variant = (typeof VARIANTS)[number];

/** Sizes of one width, with the counts of the four variants. */
function sizesOf(
  dim: number,
  depth: number,
  hidden: number,
  parameters: Readonly<Record<Variant, number>>,
): Architecture<TitansShape>['sizes'] {
  return Object.fromEntries(
    VARIANTS.map((variant) => [
      `${variant}-${dim}`,
      { shape: { variant, vocabSize: 32000, dim, depth, heads: 16, hidden }, parameters: parameters[variant] },
    ]),
  );
}

/**
 * Titans: a memory whose weights learn while it reads, as context, gate or layer beside attention, or alone.
 *
 * The paper names its sizes by their counts, 170M to 760M, without their widths, and no code or weights were released: sizes are named by
 * their width here, widths and depths are the usual ones, and the counts are those of this library's layers.
 */
export const titansModels: Architecture<TitansShape> = {
  id: 'titans-models',
  title: 'Titans',
  paper: 'Titans: Learning to Memorize at Test Time, arXiv 2501.00663',
  config: (shape) => {
    const { variant, vocabSize, dim, depth, heads, hidden, persistent = 4, chunkSize = 16 } = shape;
    const titans = {
      context: { type: 'titans-memory-as-context', heads, persistent, segmentLength: shape.segmentLength ?? 128, memory: { heads } },
      gate: { type: 'titans-memory-as-gate', heads, persistent, window: shape.window ?? 256, memory: { heads, chunkSize } },
      layer: { type: 'titans-memory-as-layer', heads, persistent, window: shape.window ?? 256, memory: { heads, chunkSize } },
      memory: { type: 'titans-neural-memory', heads, chunkSize },
    }[variant];
    return {
      vocabSize,
      dim,
      depth,
      mixers: 'titans',
      definitions: { titans, mlp: { type: 'mlp', hidden } },
      tieEmbeddings: false,
    };
  },
  sizes: {
    ...sizesOf(768, 12, 2048, { context: 173_569_344, gate: 173_670_720, layer: 173_652_288, memory: 145_303_872 }),
    ...sizesOf(1024, 24, 2816, { context: 513_706_112, gate: 513_976_448, layer: 513_927_296, memory: 413_165_696 }),
    ...sizesOf(1536, 24, 4096, { context: 1_091_422_848, gate: 1_091_828_352, layer: 1_091_754_624, memory: 865_114_752 }),
  },
};
