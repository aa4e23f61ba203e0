/** Where a `Random` stands: four unsigned 32-bit words, plain JSON. */
export type RandomState = readonly [number, number, number, number];

/**
 * A small seeded generator of pseudo-random numbers (xoshiro128**), whose state can be saved and restored.
 *
 * Source: Blackman & Vigna 2018, "Scrambled linear pseudorandom number generators".
 */
export class Random {
  private words: [number, number, number, number];

  /** @param seed any whole number, or a saved state */
  constructor(seed: number | RandomState) {
    this.words = typeof seed === 'number' ? spread(seed) : [...seed];
  }

  /** The state, to be saved and handed to a new `Random`. */
  get state(): RandomState {
    return [...this.words];
  }

  /** A whole number in [0, 2^32). */
  word(): number {
    const s = this.words;
    const result = Math.imul(rotate(Math.imul(s[1], 5), 7), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 11);
    return result;
  }

  /** A number in [0, 1) with 53 random bits. */
  uniform(): number {
    return ((this.word() >>> 5) * 67108864 + (this.word() >>> 6)) / 9007199254740992;
  }

  /** A standard normal number (Box-Muller; one of the pair is thrown away, so that the state stays small). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** A whole number in [0, limit). */
  below(limit: number): number {
    return Math.floor(this.uniform() * limit);
  }

  /** Shuffles an array in place (Fisher-Yates) and returns it. */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const held = items[i];
      items[i] = items[j];
      items[j] = held;
    }
    return items;
  }
}

/**
 * Derives an independent seed from a seed and a path, so that a layer's weights depend on its name and not on construction order.
 *
 * @returns a whole number in [0, 2^32)
 */
export function deriveSeed(seed: number, path: string): number {
  let hash = (0x811c9dc5 ^ seed) >>> 0;
  for (let i = 0; i < path.length; i++) hash = Math.imul(hash ^ path.charCodeAt(i), 0x01000193) >>> 0;
  return mix(hash);
}

function spread(seed: number): [number, number, number, number] {
  let counter = seed >>> 0;
  // the high part of large seeds counts too
  counter = (counter ^ mix(Math.floor(seed / 4294967296) >>> 0)) >>> 0;
  const next = (): number => {
    counter = (counter + 0x9e3779b9) >>> 0;
    return mix(counter);
  };
  return [next(), next(), next(), next() | 1];
}

function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

function rotate(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k));
}
