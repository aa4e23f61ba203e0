import type { Candidate } from '../measure/candidate.ts';
import type { HostArray } from '../measure/tfjs.ts';

type Result = ArrayLike<number> | readonly Result[];
type Kernel = ((...inputs: unknown[]) => Result) & { readonly kernel?: { readonly fallbackReason?: string }; destroy(): void };

interface GpuJsModule {
  readonly GPU: new (settings: { mode: string }) => {
    createKernel(source: string, settings: Readonly<Record<string, unknown>>): Kernel;
    destroy(): unknown;
  };
  readonly input: (values: Float32Array, size: readonly number[]) => unknown;
}

/** gpu.js on its WebAssembly mode, synchronous and so on one thread. */
export interface GpuJs {
  /**
   * A candidate from one kernel.
   *
   * @param source function text in gpu.js's language; arrays are indexed outermost first
   * @param settings output size, innermost first, and constants
   * @param output name of the result
   */
  candidate(
    inputs: readonly HostArray[],
    source: string,
    settings: { readonly output: readonly number[]; readonly constants: Readonly<Record<string, number>> },
    output: string,
  ): Candidate;
}

/** Starts gpu.js. */
export async function startGpuJs(load: () => Promise<unknown>): Promise<GpuJs> {
  const loaded = (await load()) as { default?: GpuJsModule } & GpuJsModule;
  const { GPU, input } = loaded.GPU ? loaded : loaded.default!;
  const gpu = new GPU({ mode: 'webasm' });
  return {
    candidate(inputs, source, settings, output) {
      const given = inputs.map(({ shape, data }) => input(data, shape.toReversed()));
      const kernel = gpu.createKernel(source, { ...settings, precision: 'single' });
      return {
        name: 'gpu.js',
        implementation: 'webasm',
        run: () => void kernel(...given),
        outputs: () => {
          const values = flatten(kernel(...given));
          const reason = kernel.kernel?.fallbackReason;
          if (reason) throw new Error(`fell back to plain JavaScript: ${reason}`);
          return { [output]: values };
        },
        dispose: () => kernel.destroy(),
      };
    },
  };
}

function flatten(result: Result): Float32Array {
  const rows: ArrayLike<number>[] = [];
  const walk = (part: Result): void => {
    if (ArrayBuffer.isView(part)) rows.push(part as unknown as Float32Array);
    else for (const inner of part as readonly Result[]) walk(inner);
  };
  walk(result);
  const flat = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  let place = 0;
  for (const row of rows) {
    flat.set(row, place);
    place += row.length;
  }
  return flat;
}
