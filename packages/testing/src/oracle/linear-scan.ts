import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** h_t = a_t h_{t-1} + b_t step by step in double precision; `reverse` runs from the last step to the first. */
export function naiveLinearScan(
  inputs: { decay: Array64; input: Array64; state?: Array64 | undefined },
  settings: { reverse?: boolean } = {},
): { hidden: Array64; state: Array64 } {
  const zeros = (array: Array64): Array64 => array64(array.shape);
  const { hiddenReal, stateReal } = naiveComplexLinearScan(
    {
      decayReal: inputs.decay,
      decayImaginary: zeros(inputs.decay),
      inputReal: inputs.input,
      inputImaginary: zeros(inputs.input),
      ...(inputs.state && { stateReal: inputs.state, stateImaginary: zeros(inputs.state) }),
    },
    settings,
  );
  return { hidden: hiddenReal, state: stateReal };
}

/** The same recurrence of complex numbers, real and imaginary parts apart. */
export function naiveComplexLinearScan(
  inputs: {
    decayReal: Array64;
    decayImaginary: Array64;
    inputReal: Array64;
    inputImaginary: Array64;
    stateReal?: Array64 | undefined;
    stateImaginary?: Array64 | undefined;
  },
  settings: { reverse?: boolean } = {},
): { hiddenReal: Array64; hiddenImaginary: Array64; stateReal: Array64; stateImaginary: Array64 } {
  const [batch, time, channels] = inputs.decayReal.shape as [number, number, number];
  const [hiddenReal, hiddenImaginary] = [array64([batch, time, channels]), array64([batch, time, channels])];
  const [stateReal, stateImaginary] = [array64([batch, channels]), array64([batch, channels])];
  for (let b = 0; b < batch; b++) {
    for (let c = 0; c < channels; c++) {
      const lane = b * channels + c;
      let real = inputs.stateReal?.data[lane] ?? 0;
      let imaginary = inputs.stateImaginary?.data[lane] ?? 0;
      for (let step = 0; step < time; step++) {
        const place = (b * time + (settings.reverse ? time - 1 - step : step)) * channels + c;
        const [x, y] = [inputs.decayReal.data[place]!, inputs.decayImaginary.data[place]!];
        [real, imaginary] = [
          x * real - y * imaginary + inputs.inputReal.data[place]!,
          x * imaginary + y * real + inputs.inputImaginary.data[place]!,
        ];
        hiddenReal.data[place] = real;
        hiddenImaginary.data[place] = imaginary;
      }
      stateReal.data[lane] = real;
      stateImaginary.data[lane] = imaginary;
    }
  }
  return { hiddenReal, hiddenImaginary, stateReal, stateImaginary };
}
