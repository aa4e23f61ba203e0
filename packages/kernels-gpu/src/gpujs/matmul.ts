import { fail } from '@seqloom/core/error';
import { checkArray, sizeOf, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `matmul`. */
export interface MatmulInputs {
  /** [..., M, K], or [..., K, M] with transposeLeft */
  readonly left: GpujsArray;
  /** [..., K, N] with the batch axes of `left`, or [K, N] for all of them; [N, K] with transposeRight */
  readonly right: GpujsArray;
}

/** Options of `matmul`. */
export interface MatmulOptions extends Placement {
  readonly transposeLeft?: boolean;
  readonly transposeRight?: boolean;
}

interface Shape {
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
}

const product = variants((transposeLeft: boolean, transposeRight: boolean) =>
  kernelSource(
    'matmul',
    { left: 'Input', right: 'Input', inner: 'Integer' },
    `const column = this.thread.x;
    const row = this.thread.y;
    const batch = this.thread.z;
    let sum = 0;
    for (let i = 0; i < inner; i++) {
      sum += ${transposeLeft ? 'left[batch][i][row]' : 'left[batch][row][i]'} * ${transposeRight ? 'right[batch][column][i]' : 'right[batch][i][column]'};
    }
    return sum;`,
  ),
);

interface Flags {
  readonly transposeLeft: boolean;
  readonly transposeRight: boolean;
}

const program: Program<Flags & Shape> = function* ({ left, right }, { transposeLeft, transposeRight, batch, rows, columns, inner }) {
  return { output: yield* step(product(transposeLeft, transposeRight), [columns, rows, batch], [left, right, inner]) };
};

/**
 * Matrix products over batch axes: output[..., m, n] = sum_k left[..., m, k] right[..., k, n].
 *
 * One thread per number of the output, K products each, no tiles: gpu.js has no memory that threads share.
 *
 * @returns output [..., M, N]
 * @throws SeqLoomError when the shapes do not fit
 */
export async function matmul(gpujs: Gpujs, inputs: MatmulInputs, options: MatmulOptions = {}): Promise<{ output: GpujsArray }> {
  const { transposeLeft = false, transposeRight = false, ...placement } = options;
  const { left, right } = inputs;
  const { views, shape, outputShape } = arrange(left, right, transposeLeft, transposeRight);
  const { output } = await gpujs.run(
    { kernel: 'matmul', inputs: views, settings: { ...shape, transposeLeft, transposeRight }, program },
    placement,
  );
  return { output: { shape: outputShape, data: output! } };
}

/**
 * Gradients of `matmul`: two more products, e.g. dLeft = cotangent right^T and dRight = left^T cotangent.
 *
 * @param cotangent gradient of the output [..., M, N]
 * @returns left and right, gradients in the shapes of the inputs
 */
export async function matmulGradient(
  gpujs: Gpujs,
  inputs: MatmulInputs & { readonly cotangent: GpujsArray },
  options: MatmulOptions = {},
): Promise<{ left: GpujsArray; right: GpujsArray }> {
  const { transposeLeft = false, transposeRight = false, ...placement } = options;
  const { outputShape } = arrange(inputs.left, inputs.right, transposeLeft, transposeRight);
  checkArray('matmulGradient', 'cotangent', inputs.cotangent, outputShape);
  // a right factor for all batches: their rows are rows of one product
  const folded = inputs.right.shape.length === 2 && inputs.left.shape.length > 2;
  const fold = (array: GpujsArray): GpujsArray =>
    folded ? { ...array, shape: [sizeOf(array.shape.slice(0, -1)), array.shape.at(-1)!] } : array;
  const [left, cotangent] = [fold(inputs.left), fold(inputs.cotangent)];
  const { right } = inputs;
  const times = async (a: GpujsArray, b: GpujsArray, flipA: boolean, flipB: boolean): Promise<GpujsArray> =>
    (await matmul(gpujs, { left: a, right: b }, { transposeLeft: flipA, transposeRight: flipB, ...placement })).output;
  const ofLeft = transposeLeft
    ? await times(right, cotangent, transposeRight, true)
    : await times(cotangent, right, false, !transposeRight);
  const ofRight = transposeRight ? await times(cotangent, left, true, transposeLeft) : await times(left, cotangent, !transposeLeft, false);
  return { left: { ...ofLeft, shape: inputs.left.shape }, right: { ...ofRight, shape: right.shape } };
}

function arrange(
  left: GpujsArray,
  right: GpujsArray,
  transposeLeft: boolean,
  transposeRight: boolean,
): { views: Record<'left' | 'right', View>; shape: Shape; outputShape: number[] } {
  const axes = left.shape.length;
  const refuse = (argument: string, wanted: string, given: GpujsArray, remedy: string): never =>
    fail({ mechanism: 'matmul', argument, wanted, given: `[${given.shape.join(', ')}]`, remedy });
  if (axes < 2) refuse('left', 'of at least two axes', left, 'Add an axis of extent 1.');
  checkArray(
    'matmul',
    'left',
    left,
    left.shape.map(() => null),
  );
  checkArray(
    'matmul',
    'right',
    right,
    right.shape.map(() => null),
  );
  const [rows, inner] = transposeLeft ? [left.shape[axes - 1]!, left.shape[axes - 2]!] : [left.shape[axes - 2]!, left.shape[axes - 1]!];
  const batchShape = left.shape.slice(0, -2);
  const same = right.shape.length === axes && batchShape.every((extent, axis) => extent === right.shape[axis]);
  const one = right.shape.length === 2 && !transposeLeft;
  if (!same && !one) refuse('right', 'with the batch axes of left, or a matrix', right, 'Repeat right, or leave transposeLeft out.');
  const [innerRight, columns] = transposeRight ? [right.shape.at(-1)!, right.shape.at(-2)!] : [right.shape.at(-2)!, right.shape.at(-1)!];
  if (innerRight !== inner) refuse('right', `with ${inner} numbers along the axis that is summed`, right, 'Transpose one of the two.');
  const batch = sizeOf(batchShape);
  const outputShape = [...batchShape, rows, columns];
  if (!same) {
    const shape = { batch: 1, rows: batch * rows, columns, inner };
    return { views: { left: view(left, inner, batch * rows), right: matrix(right, 1) }, shape, outputShape };
  }
  return { views: { left: matrix(left, batch), right: matrix(right, batch) }, shape: { batch, rows, columns, inner }, outputShape };
}

function matrix(array: GpujsArray, batch: number): View {
  return view(array, array.shape.at(-1)!, array.shape.at(-2)!, batch);
}
