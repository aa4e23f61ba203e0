import * as tf from '@tensorflow/tfjs-core';
import type { SoftmaxAttentionAttributes, SoftmaxAttentionInputs } from '../softmax-attention.ts';

/** Added to the score of a hidden key: far below any score, yet finite, so that no infinity ever meets another one. */
export const HIDDEN = -1e30;
/** Lowest running maximum: far above `HIDDEN`, so that exp(HIDDEN - FLOOR) is exactly 0. */
export const FLOOR = -1e29;

/** What a tile of queries x keys adds to its scores; `undefined` where it adds nothing. */
export type TileTerms = {
  /** [1 or B, 1, tq, sk]: 0 where visible, `HIDDEN` where not */
  readonly mask: tf.Tensor | undefined;
  /** [1 or B, 1, tq, sk]: |query position - key position|, only with slopes */
  readonly distance: tf.Tensor | undefined;
};

/** Tells the visible tiles of a call from those that its structure excludes. */
export interface Tiles {
  readonly queryBlocks: readonly (readonly [start: number, length: number])[];
  readonly keyBlocks: readonly (readonly [start: number, length: number])[];
  /** the terms of one tile, or `'none'` when no query of it sees any of its keys */
  terms(queryBlock: number, keyBlock: number): TileTerms | 'none';
  /** gives back the terms of a tile that is done, unless other tiles share them */
  release(terms: TileTerms): void;
}

function blocks(length: number, size: number): (readonly [number, number])[] {
  const count = Math.max(1, Math.ceil(length / size));
  return Array.from({ length: count }, (_, index) => [index * size, Math.min(size, length - index * size)] as const);
}

/**
 * Plans the tiles of one attention call.
 *
 * With default positions the visibility of a tile depends on its offset alone (and, in the first tiles, on sinks and prefix), so
 * masks are made on the host once per offset, and excluded tiles are never visited; aligned key positions only add which keys exist.
 * With other positions, which only the backend knows, every tile is visited.
 *
 * @param inputs of the kernel
 * @param attributes of the kernel
 */
export function planTiles(inputs: SoftmaxAttentionInputs, attributes: SoftmaxAttentionAttributes): Tiles {
  const T = inputs.query.shape[1]!;
  const S = inputs.key.shape[1]!;
  const queryBlocks = blocks(T, attributes.blockSize);
  const keyBlocks = blocks(S, attributes.blockSize);
  const { queryPositions, keyPositions } = inputs;
  // positions that say no more than which keys exist leave the structure as it is
  const structured = !queryPositions && (!keyPositions || attributes.aligned);
  const make = structured ? structuralTerms(inputs, attributes) : explicitTerms(inputs, attributes);
  return {
    queryBlocks,
    keyBlocks,
    terms: (i, j) => {
      const terms = make(queryBlocks[i]!, keyBlocks[j]!);
      if (terms === 'none' || !structured || !keyPositions) return terms;
      return { mask: existing(terms.mask, keyPositions, keyBlocks[j]!), distance: terms.distance };
    },
    // a mask per tile would be quadratic in T if kept; masks per offset are linear and shared
    release: ({ mask, distance }) => {
      if (keyPositions || !structured) mask?.dispose();
      if (!structured) distance?.dispose();
    },
  };
}

/** A tile's mask with the keys hidden that do not exist: [1, 1, tq, sk] and positions [B, S] give [B, 1, 1 or tq, sk]. */
function existing(mask: tf.Tensor | undefined, keyPositions: tf.Tensor, [k0, sk]: Block): tf.Tensor {
  return tf.tidy(() => {
    const missing = tf.sub(1, atLeastZero(part(keyPositions, k0, sk)));
    const hidden = tf.reshape(tf.mul(missing, HIDDEN), [-1, 1, 1, sk]);
    return mask ? tf.add(mask, hidden) : hidden;
  });
}

type Block = readonly [start: number, length: number];

/** Masks from default positions: query i stands at i + S - T, key j at j. */
function structuralTerms(
  inputs: SoftmaxAttentionInputs,
  attributes: SoftmaxAttentionAttributes,
): (q: Block, k: Block) => TileTerms | 'none' {
  const { causal, window, dilation, sinks, prefix } = attributes;
  const shift = inputs.key.shape[1]! - inputs.query.shape[1]!;
  const reach = window ?? Infinity;
  const special = Math.max(sinks, prefix);
  const known = new Map<string, TileTerms | 'none'>();
  return ([q0, tq], [k0, sk]) => {
    // sinks and prefix depend on the key's own position, everything else on the distance
    const signature = `${q0 + shift - k0} ${tq} ${sk} ${k0 < special ? k0 : ''}`;
    const found = known.get(signature);
    if (found) return found;
    const values = new Float32Array(tq * sk);
    let visible = 0;
    for (let i = 0; i < tq; i++) {
      for (let j = 0; j < sk; j++) {
        const k = k0 + j;
        const distance = q0 + i + shift - k;
        const seen = k < prefix || ((!causal || distance >= 0) && distance % dilation === 0 && (Math.abs(distance) < reach || k < sinks));
        if (seen) visible++;
        else values[i * sk + j] = HIDDEN;
      }
    }
    const result: TileTerms | 'none' =
      visible === 0
        ? 'none'
        : {
            mask: visible === tq * sk ? undefined : tf.tensor(values, [1, 1, tq, sk]),
            distance: inputs.slopes ? tf.tensor(distances(q0 + shift - k0, tq, sk), [1, 1, tq, sk]) : undefined,
          };
    known.set(signature, result);
    return result;
  };
}

function distances(offset: number, tq: number, sk: number): Float32Array {
  return Float32Array.from({ length: tq * sk }, (_, index) => Math.abs(offset + Math.floor(index / sk) - (index % sk)));
}

/** Masks from position tensors; positions are whole numbers, so `clip(x + 1, 0, 1)` says x >= 0. */
function explicitTerms(inputs: SoftmaxAttentionInputs, attributes: SoftmaxAttentionAttributes): (q: Block, k: Block) => TileTerms {
  const { causal, window, dilation, sinks, prefix } = attributes;
  const T = inputs.query.shape[1]!;
  const S = inputs.key.shape[1]!;
  const queryPositions = inputs.queryPositions ?? tf.reshape(tf.range(S - T, S), [1, T]);
  const keyPositions = inputs.keyPositions ?? tf.reshape(tf.range(0, S), [1, S]);
  return ([q0, tq], [k0, sk]) =>
    tf.tidy(() => {
      const q = tf.expandDims(part(queryPositions, q0, tq), 2); // [1 or B, tq, 1]
      const k = tf.expandDims(part(keyPositions, k0, sk), 1); // [1 or B, 1, sk]
      const signed = tf.sub(q, k); // [1 or B, tq, sk]
      const distance = window !== null || inputs.slopes ? tf.abs(signed) : null;
      const conditions: tf.Tensor[] = [];
      if (causal) conditions.push(atLeastZero(signed));
      if (dilation !== 1) {
        // half a step inside the cell, so that a division that rounds cannot cross its border
        const cell = tf.floor(tf.div(tf.add(signed, 0.5), dilation));
        const rest = tf.sub(signed, tf.mul(cell, dilation));
        conditions.push(tf.sub(1, tf.clipByValue(rest, 0, 1)));
      }
      if (window !== null) {
        const near = tf.clipByValue(tf.sub(window, distance!), 0, 1);
        conditions.push(sinks > 0 ? tf.maximum(near, atLeastZero(tf.sub(sinks - 1, k))) : near);
      }
      let seen = conditions.reduce<tf.Tensor | null>((all, one) => (all ? tf.mul(all, one) : one), null);
      if (seen && prefix > 0) seen = tf.maximum(seen, atLeastZero(tf.sub(prefix - 1, k)));
      if (inputs.keyPositions) {
        const exists = atLeastZero(k);
        seen = seen ? tf.mul(seen, exists) : exists;
      }
      return {
        mask: seen ? tf.expandDims(tf.mul(tf.sub(1, seen), HIDDEN), 1) : undefined,
        distance: inputs.slopes ? tf.expandDims(distance!, 1) : undefined,
      };
    });
}

function part(positions: tf.Tensor, start: number, length: number): tf.Tensor {
  return positions.shape[1] === length ? positions : tf.slice(positions, [0, start], [-1, length]);
}

function atLeastZero(x: tf.Tensor): tf.Tensor {
  return tf.clipByValue(tf.add(x, 1), 0, 1);
}
