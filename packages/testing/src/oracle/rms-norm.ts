import type { Array64 } from './array64.ts';

/** Settings of `naiveRmsNorm`. */
export interface NaiveRmsNormSettings {
  readonly epsilon?: number;
  readonly gateActivation?: 'silu' | 'sigmoid';
  readonly normBeforeGate?: boolean;
  readonly groups?: number;
}

/**
 * Root-mean-square normalisation in double precision: rms(x) = x / sqrt(mean(x^2) + epsilon) within each group of channels,
 * then `rms(x) * weight * act(gate)`, or `rms(x * act(gate)) * weight`.
 */
export function naiveRmsNorm(
  inputs: { input: Array64; weight?: Array64 | undefined; gate?: Array64 | undefined },
  settings: NaiveRmsNormSettings = {},
): { output: Array64 } {
  const { epsilon = 1e-5, gateActivation = 'silu', normBeforeGate = true, groups = 1 } = settings;
  const { input, weight, gate } = inputs;
  const width = input.shape.at(-1)!;
  const slice = width / groups;
  const output = new Float64Array(input.data.length);
  for (let start = 0; start < input.data.length; start += slice) {
    let squares = 0;
    const factor = (index: number): number => {
      if (!gate) return 1;
      const sigmoid = 1 / (1 + Math.exp(-gate.data[index]!));
      return gateActivation === 'silu' ? gate.data[index]! * sigmoid : sigmoid;
    };
    const value = (index: number): number => (normBeforeGate ? input.data[index]! : input.data[index]! * factor(index));
    for (let index = start; index < start + slice; index++) squares += value(index) ** 2;
    const rms = Math.sqrt(squares / slice + epsilon);
    for (let index = start; index < start + slice; index++) {
      const normalised = (value(index) / rms) * (weight ? weight.data[index % width]! : 1);
      output[index] = normBeforeGate ? normalised * factor(index) : normalised;
    }
  }
  return { output: { shape: [...input.shape], data: output } };
}
