import { sigmoidText } from './activation.ts';
import { checkArray, sizeOf, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { checkDivides } from './check.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Steps, Value, Values } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `rmsNorm`. */
export interface RmsNormInputs {
  /** [..., D] */
  readonly input: GpujsArray;
  /** [D] */
  readonly weight?: GpujsArray | undefined;
  /** [..., D] */
  readonly gate?: GpujsArray | undefined;
}

/** Options of `rmsNorm`, as in the contract. */
export interface RmsNormOptions extends Placement {
  readonly epsilon?: number;
  readonly gateActivation?: 'silu' | 'sigmoid';
  readonly normBeforeGate?: boolean;
  readonly groups?: number;
}

interface Settings {
  readonly width: number;
  readonly rows: number;
  readonly epsilon: number;
  readonly activation: 'silu' | 'sigmoid';
  readonly normBeforeGate: boolean;
  readonly groups: number;
}

/** What decides on a kernel's text. */
type Choice = readonly [weight: boolean, gate: 'none' | 'silu' | 'sigmoid', normBeforeGate: boolean];

/** Statements that set `value` (what is normalised) and `factor` (the activated gate) at the channel `at`. */
const readValue = ([, gate, normBeforeGate]: Choice, at: string): string =>
  gate === 'none'
    ? `const value = input[0][row][${at}];
    const factor = 1.0;`
    : `const raw = gate[0][row][${at}];
    ${sigmoidText('opened', 'raw')}
    const factor = ${gate === 'silu' ? 'raw * opened' : 'opened'};
    const value = input[0][row][${at}]${normBeforeGate ? '' : ' * factor'};`;

const inverseScale = variants((...choice: Choice) =>
  kernelSource(
    'rmsNorm.inverseScale',
    { input: 'Input', gate: choice[1] === 'none' ? false : 'Input', slice: 'Integer', epsilon: 'Float' },
    `const row = this.thread.y;
    const start = this.thread.x * slice;
    let squares = 0;
    for (let i = 0; i < slice; i++) {
      ${readValue(choice, 'start + i')}
      squares += value * value;
    }
    return 1 / Math.sqrt(squares / slice + epsilon);`,
  ),
);

const apply = variants((...choice: Choice) =>
  kernelSource(
    'rmsNorm.apply',
    {
      input: 'Input',
      weight: choice[0] && 'Input',
      gate: choice[1] === 'none' ? false : 'Input',
      inverse: 'Input',
      slice: 'Integer',
    },
    `const row = this.thread.y;
    const column = this.thread.x;
    const group = Math.floor((column + 0.5) / slice);
    ${readValue(choice, 'column')}
    return value * inverse[0][row][group]${choice[0] ? ' * weight[0][0][column]' : ''}${choice[2] ? ' * factor' : ''};`,
  ),
);

/** Statements that set `pulled`: the cotangent of the normalised value before its weight. */
const readPulled = ([weight, gate, normBeforeGate]: Choice, at: string): string =>
  `const pulled = cotangent[0][row][${at}]${weight ? ` * weight[0][0][${at}]` : ''}${gate !== 'none' && normBeforeGate ? ' * factor' : ''};`;

const projection = variants((...choice: Choice) =>
  kernelSource(
    'rmsNorm.projection',
    {
      input: 'Input',
      weight: choice[0] && 'Input',
      gate: choice[1] === 'none' ? false : 'Input',
      cotangent: 'Input',
      slice: 'Integer',
    },
    `const row = this.thread.y;
    const start = this.thread.x * slice;
    let sum = 0;
    for (let i = 0; i < slice; i++) {
      ${readValue(choice, 'start + i')}
      ${readPulled(choice, 'start + i')}
      sum += pulled * value;
    }
    return sum;`,
  ),
);

const ofInput = variants((wanted: 'input' | 'gate', ...choice: Choice) => {
  const [weight, gate, normBeforeGate] = choice;
  // d act / d gate: sigmoid' = s (1 - s), silu' = s (1 + g (1 - s))
  const slope = gate === 'silu' ? 'opened * (1 + raw * (1 - opened))' : 'opened * (1 - opened)';
  const results = {
    input: `ofValue${gate !== 'none' && !normBeforeGate ? ' * factor' : ''}`,
    gate: normBeforeGate
      ? `cotangent[0][row][column] * value * scale${weight ? ' * weight[0][0][column]' : ''} * (${slope})`
      : `ofValue * input[0][row][column] * (${slope})`,
  };
  return kernelSource(
    'rmsNorm.ofInput',
    {
      input: 'Input',
      weight: weight && 'Input',
      gate: gate === 'none' ? false : 'Input',
      cotangent: 'Input',
      inverse: 'Input',
      projected: 'Input',
      slice: 'Integer',
    },
    `const row = this.thread.y;
    const column = this.thread.x;
    const group = Math.floor((column + 0.5) / slice);
    ${readValue(choice, 'column')}
    ${readPulled(choice, 'column')}
    const scale = inverse[0][row][group];
    const ofValue = scale * pulled - value * scale * scale * scale * projected[0][row][group] / slice;
    return ${results[wanted]};`,
  );
});

const ofWeight = variants((...choice: Choice) =>
  kernelSource(
    'rmsNorm.ofWeight',
    {
      input: 'Input',
      gate: choice[1] === 'none' ? false : 'Input',
      cotangent: 'Input',
      inverse: 'Input',
      slice: 'Integer',
      rows: 'Integer',
    },
    `const column = this.thread.x;
    const group = Math.floor((column + 0.5) / slice);
    let sum = 0;
    for (let row = 0; row < rows; row++) {
      ${readValue(choice, 'column')}
      sum += cotangent[0][row][column] * value * inverse[0][row][group]${choice[2] ? ' * factor' : ''};
    }
    return sum;`,
  ),
);

function choose({ weight, gate }: Values, { activation, normBeforeGate }: Settings): Choice {
  return [weight !== undefined, gate === undefined ? 'none' : activation, normBeforeGate];
}

function* scales(inputs: Values, settings: Settings): Steps<Value> {
  const { width, rows, epsilon, groups } = settings;
  const kernel = inverseScale(...choose(inputs, settings));
  return yield* step(kernel, [groups, rows, 1], [inputs.input, inputs.gate, width / groups, epsilon]);
}

const forward: Program<Settings> = function* (inputs, settings) {
  const { width, rows, groups } = settings;
  const inverse = yield* scales(inputs, settings);
  const values = [inputs.input, inputs.weight, inputs.gate, inverse, width / groups];
  return { output: yield* step(apply(...choose(inputs, settings)), [width, rows, 1], values) };
};

const backward: Program<Settings> = function* (inputs, settings) {
  const { input, weight, gate, cotangent } = inputs;
  const { width, rows, groups } = settings;
  const slice = width / groups;
  const choice = choose(inputs, settings);
  const inverse = yield* scales(inputs, settings);
  const projected = yield* step(projection(...choice), [groups, rows, 1], [input, weight, gate, cotangent, slice]);
  const values = [input, weight, gate, cotangent, inverse, projected, slice];
  const gradients: Record<string, Value> = { input: yield* step(ofInput('input', ...choice), [width, rows, 1], values) };
  if (gate) gradients.gate = yield* step(ofInput('gate', ...choice), [width, rows, 1], values);
  if (weight) gradients.weight = yield* step(ofWeight(...choice), [width, 1, 1], [input, gate, cotangent, inverse, slice, rows]);
  return gradients;
};

function arrange(inputs: RmsNormInputs, options: RmsNormOptions): { views: Record<string, View | undefined>; settings: Settings } {
  const { input, weight, gate } = inputs;
  const { epsilon = 1e-5, gateActivation = 'silu', normBeforeGate = true, groups = 1 } = options;
  checkArray(
    'rmsNorm',
    'input',
    input,
    input.shape.map(() => null),
  );
  const width = input.shape.at(-1)!;
  const rows = sizeOf(input.shape) / width;
  if (weight) checkArray('rmsNorm', 'weight', weight, [width]);
  if (gate) checkArray('rmsNorm', 'gate', gate, input.shape);
  checkDivides('rmsNorm', 'groups', groups, width);
  return {
    views: { input: view(input, width, rows), weight: weight && view(weight, width), gate: gate && view(gate, width, rows) },
    settings: { width, rows, epsilon, activation: gateActivation, normBeforeGate, groups },
  };
}

/**
 * Root-mean-square normalisation: rms(x) w act(g), or rms(x act(g)) w, with rms(x) = x / sqrt(mean(x^2) + epsilon) per group of channels.
 *
 * Two passes: the inverse scale per row and group, then one thread per number.
 *
 * @returns output in the shape of the input
 * @throws SeqLoomError when the shapes do not fit
 */
export async function rmsNorm(gpujs: Gpujs, inputs: RmsNormInputs, options: RmsNormOptions = {}): Promise<{ output: GpujsArray }> {
  const { views, settings } = arrange(inputs, options);
  const { output } = await gpujs.run({ kernel: 'rmsNorm', inputs: views, settings, program: forward }, options);
  return { output: { shape: inputs.input.shape, data: output! } };
}

/**
 * Gradients of `rmsNorm`.
 *
 * @param cotangent gradient of the output
 * @returns input, and weight and gate where they were given
 */
export async function rmsNormGradient(
  gpujs: Gpujs,
  inputs: RmsNormInputs & { readonly cotangent: GpujsArray },
  options: RmsNormOptions = {},
): Promise<{ input: GpujsArray; weight?: GpujsArray; gate?: GpujsArray }> {
  const { views, settings } = arrange(inputs, options);
  const { input, weight, gate, cotangent } = inputs;
  checkArray('rmsNormGradient', 'cotangent', cotangent, input.shape);
  const all = { ...views, cotangent: view(cotangent, settings.width, settings.rows) };
  const gradients = await gpujs.run({ kernel: 'rmsNormGradient', inputs: all, settings, program: backward }, options);
  return {
    input: { shape: input.shape, data: gradients.input! },
    ...(weight && { weight: { shape: weight.shape, data: gradients.weight! } }),
    ...(gate && { gate: { shape: gate.shape, data: gradients.gate! } }),
  };
}
