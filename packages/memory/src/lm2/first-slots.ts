/**
 * Where slots start: unit vectors, all distinct, for slots that start alike stay alike.
 *
 * Slot i < D is the unit vector of channel i (the identity); slot i >= D is the normed sum of those of i mod D and of the channel
 * floor(i / D) further on.
 *
 * @returns [slots, dim], row-major
 */
export function firstSlots(slots: number, dim: number): Float32Array {
  const table = new Float32Array(slots * dim);
  for (let slot = 0; slot < slots; slot++) {
    const [channel, further] = [slot % dim, Math.floor(slot / dim)];
    const size = further === 0 ? 1 : Math.SQRT1_2;
    table[slot * dim + channel] = size;
    table[slot * dim + ((channel + further) % dim)] = size;
  }
  return table;
}
