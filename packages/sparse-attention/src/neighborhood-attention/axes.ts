import { checkSetting } from '@seqloom/core';

/** One setting for every axis, or one per axis in the order depth, height, width. */
export type PerAxis<T> = T | readonly T[];

/** What a query sees along one axis. */
export interface NeighborhoodAxis {
  /** w, keys per query; one half to the left, an even window has one more there */
  readonly window: number;
  /** δ, keys stand δ apart; a query reads its own residue class modulo δ alone */
  readonly dilation: number;
  /** s, neighbours in a class that share a window */
  readonly stride: number;
  /** no key after the query */
  readonly causal: boolean;
}

/** Settings of a neighborhood along all axes. */
export interface NeighborhoodSettings {
  /** w, keys per query and axis, itself included */
  readonly window: PerAxis<number>;
  /** default 1 */
  readonly dilation?: PerAxis<number> | undefined;
  /** at most the window; default 1 */
  readonly stride?: PerAxis<number> | undefined;
  /** default false */
  readonly causal?: PerAxis<boolean> | undefined;
}

/** Keys of one query along one axis: `residue + dilation * y` with `start <= y < end`. */
export interface AxisRange {
  readonly residue: number;
  readonly start: number;
  readonly end: number;
}

/**
 * Settings of each axis.
 *
 * @param mechanism who refuses
 * @param rank number of axes
 * @param prefix in front of the names in errors, e.g. `settings.`
 * @throws SeqLoomError when a list has another length, or a number is out of range
 */
export function neighborhoodAxes(mechanism: string, rank: number, settings: NeighborhoodSettings, prefix: string): NeighborhoodAxis[] {
  const each = <T>(name: string, given: PerAxis<T>, right: (value: T, axis: number) => boolean, wanted: string): T[] => {
    const list: readonly T[] = Array.isArray(given) ? (given as readonly T[]) : Array.from({ length: rank }, () => given as T);
    const fits = list.length === rank && list.every(right);
    checkSetting(mechanism, `${prefix}${name}`, fits, `${wanted}, once or for each of ${rank} axes`, given, 'Order: depth, height, width.');
    return [...list];
  };
  const whole = (value: number): boolean => Number.isInteger(value) && value >= 1;
  const windows = each('window', settings.window, whole, 'a whole number of at least 1');
  const dilations = each('dilation', settings.dilation ?? 1, whole, 'a whole number of at least 1');
  const fitting = (value: number, axis: number): boolean => whole(value) && value <= windows[axis]!;
  const strides = each('stride', settings.stride ?? 1, fitting, 'a whole number from 1 to the window');
  const causal = each('causal', settings.causal ?? false, (value) => typeof value === 'boolean', 'true or false');
  return windows.map((window, axis) => ({ window, dilation: dilations[axis]!, stride: strides[axis]!, causal: causal[axis]! }));
}

/** Keys that query `index` sees along an axis of `length`; the window moves inward at borders. */
export function axisRange({ window, dilation, stride, causal }: NeighborhoodAxis, length: number, index: number): AxisRange {
  const residue = index % dilation;
  const own = (index - residue) / dilation;
  const members = Math.ceil((length - residue) / dilation);
  const group = own - (own % stride);
  if (causal) {
    const leader = Math.min(group + stride - 1, members - 1);
    return { residue, start: Math.max(leader - window + 1, 0), end: own + 1 };
  }
  const leader = Math.min(group + (stride >> 1), members - 1);
  // an axis shorter than the window is seen whole
  const start = Math.max(0, Math.min(leader - (window >> 1), members - window));
  return { residue, start, end: Math.min(start + window, members) };
}
