/** The four ways in which a mechanism can look at tokens. */
export type Pattern = 'causal-self' | 'noncausal-self' | 'causal-cross' | 'noncausal-cross';

/** The fixed names of a mechanism's forms; each is a file of its folder. */
export type Form = 'naive' | 'parallel' | 'chunk' | 'recurrent' | 'gathered' | 'decode';

/** What decoding carries from token to token. */
export type DecodeState = 'constant-state' | 'bounded-cache' | 'full-cache' | 'none';

/** How sure we are: vectors from the original code, from a re-derivation, or properties alone. */
export type Evidence = 'golden-original' | 'golden-rederived' | 'properties-only';

/**
 * A mechanism's card: pure data, the single source for MECHANISMS.md, exports, law suites, benches and menus.
 */
export interface MechanismCard {
  /** file name of the specification card and of the folder */
  readonly id: string;
  readonly title: string;
  readonly paper: { readonly title: string; readonly authors: string; readonly year: number; readonly id: string };
  readonly patterns: readonly Pattern[];
  readonly forms: readonly Form[];
  /** kernel contracts that carry it, e.g. `LinearAttention` */
  readonly kernels: readonly string[];
  readonly decode: DecodeState;
  /** bytes of state for one row after `length` tokens, in the card's own dimensions */
  readonly stateBytes: (length: number, dims: Readonly<Record<string, number>>) => number;
  readonly complexity: { readonly train: string; readonly decode: string };
  readonly reference: { readonly repository: string; readonly path: string; readonly licence: string };
  /** where and why we differ from paper or reference code, one sentence each */
  readonly deviations: readonly string[];
  /** equalities that hold at special settings, one sentence each; each is a test */
  readonly degenerate: readonly string[];
  readonly evidence: Evidence;
  readonly since: string;
}
