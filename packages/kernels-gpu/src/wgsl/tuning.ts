import { fail } from '@seqloom/core';

/** What a workgroup of a matrix product computes: `rows` x `columns` outputs, in slices of `inner` along the inner axis. */
export interface MatMulTile {
  /** a multiple of `rowsEach` */
  readonly rows: number;
  /** a multiple of `columnsEach` */
  readonly columns: number;
  /** 8, 16 or 32 */
  readonly inner: number;
  /** rows of an invocation, 4 or 8 */
  readonly rowsEach: number;
  /** columns of an invocation, 4 or 8 */
  readonly columnsEach: number;
}

/** What a workgroup of softmax attention compares at once: its own rows with a tile of the others. */
export interface AttentionTile {
  /** query rows, or keys in the passes that own keys: 8, 16 or 32 */
  readonly own: number;
  /** keys, or query rows in the passes that own keys: 16, 32 or 64 */
  readonly other: number;
}

/** How shaders are written for an adapter. One tuning gives the same bits at every call on one device. */
export interface GpuTuning {
  /** tile of matrix products, and of `ExpertMatMul` where experts have twice as many rows on average */
  readonly matMul: MatMulTile;
  /** tile of matrix products that would make fewer than 64 workgroups with the other one, and of experts with few rows */
  readonly smallMatMul: MatMulTile;
  /** tile of `SoftmaxAttention` and `BlockAttention` */
  readonly attention: AttentionTile;
  /** sums and maxima over rows (`RmsNorm`, `SoftmaxCrossEntropy`) by subgroup operations, where the device has them */
  readonly subgroups: boolean;
  /**
   * both tiles of a matrix product, and keys and values of softmax attention, wait in workgroup memory as 16-bit floats; sums are 32 bits wide.
   * It changes numbers (about 3 digits are left), those beyond 65504 overflow, and those below 6e-8 vanish, which gradients often are.
   */
  readonly halfTiles: boolean;
}

/** How numbers of tiles lie in workgroup memory: as 32-bit floats, as WGSL's 16-bit floats, or two of those in a whole number. */
export type TileNumbers = 'f32' | 'f16' | 'packed';

/** Kinds of adapters that share a row of the table. */
export type AdapterClass = 'nvidia' | 'amd' | 'apple' | 'intel' | 'mobile' | 'software' | 'other';

/** Bytes of workgroup memory and invocations of a workgroup that every WebGPU device has. */
const [MEMORY, INVOCATIONS] = [16384, 256];

const tile = (rows: number, columns: number, inner: number, rowsEach: number, columnsEach = rowsEach): MatMulTile => ({
  rows,
  columns,
  inner,
  rowsEach,
  columnsEach,
});
const plain: GpuTuning = {
  matMul: tile(64, 64, 16, 4),
  smallMatMul: tile(32, 32, 16, 4),
  attention: { own: 32, other: 32 },
  subgroups: true,
  halfTiles: false,
};

/** The tuning of each class until `tuneGpuKernels` has measured a better one: what loads, registers and workgroup memory make likely. */
export const tunings: Readonly<Record<AdapterClass, GpuTuning>> = {
  // many registers: 128 operations per number loaded rather than 64
  nvidia: { ...plain, matMul: tile(128, 128, 8, 8), smallMatMul: tile(64, 64, 16, 4) },
  amd: { ...plain, matMul: tile(128, 128, 8, 8), smallMatMul: tile(64, 64, 16, 4) },
  apple: plain,
  intel: plain,
  // few registers and little workgroup memory
  mobile: { ...plain, matMul: tile(32, 32, 16, 4), attention: { own: 16, other: 32 } },
  // the only row that was measured so far: by tuneGpuKernels, on SwiftShader
  software: { ...plain, matMul: tile(128, 128, 8, 8), smallMatMul: tile(64, 64, 16, 4) },
  other: plain,
};

/** Tiles that `tuneGpuKernels` tries. */
export const candidates: { readonly matMul: readonly MatMulTile[]; readonly attention: readonly AttentionTile[] } = {
  matMul: [tile(32, 32, 16, 4), tile(64, 64, 16, 4), tile(64, 64, 8, 8), tile(128, 64, 16, 8, 4), tile(128, 128, 8, 8)],
  attention: [
    { own: 32, other: 32 },
    { own: 16, other: 32 },
    { own: 32, other: 16 },
    { own: 16, other: 64 },
  ],
};

/** A few letters that name a tile, for shaders and reports: `128x64x16/8x4`, `32x32`. */
export function tileName(given: MatMulTile | AttentionTile): string {
  if ('own' in given) return `${given.own}x${given.other}`;
  return `${given.rows}x${given.columns}x${given.inner}/${given.rowsEach}x${given.columnsEach}`;
}

/** Invocations of a workgroup for a tile of a matrix product. */
export const invocationsOf = ({ rows, columns, rowsEach, columnsEach }: MatMulTile): number => (rows / rowsEach) * (columns / columnsEach);

/** Which row of the table an adapter takes. */
export function adapterClassOf({ vendor, architecture, description, isFallbackAdapter }: Partial<GPUAdapterInfo>): AdapterClass {
  const name = `${vendor} ${architecture} ${description}`.toLowerCase();
  if (isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|basic render/.test(name)) return 'software';
  if (/^(arm|qualcomm|img-tec|samsung)\b/.test(name)) return 'mobile';
  return (['nvidia', 'amd', 'apple', 'intel'] as const).find((known) => name.startsWith(known)) ?? 'other';
}

function wrong(argument: string, wanted: string, given: unknown): never {
  fail({
    mechanism: 'useGpuKernels',
    argument: `tuning${argument}`,
    wanted,
    given: typeof given === 'string' ? given : (JSON.stringify(given) ?? 'undefined'),
    remedy: 'Leave it out for the table of the adapter, or take what tuneGpuKernels() returns.',
  });
}

function checkKeys(argument: string, given: unknown, keys: readonly string[], all: boolean): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) wrong(argument, `an object with ${keys.join(', ')}`, given);
  const own = Object.keys(given);
  if (own.some((key) => !keys.includes(key)) || (all && own.length < keys.length))
    wrong(argument, `an object with ${keys.join(', ')}`, given);
}

function checkMatMulTile(argument: string, given: MatMulTile, half: boolean): void {
  checkKeys(argument, given, ['rows', 'columns', 'inner', 'rowsEach', 'columnsEach'], true);
  const { rows, columns, inner, rowsEach, columnsEach } = given;
  if (![8, 16, 32].includes(inner)) wrong(`${argument}.inner`, '8, 16 or 32', inner);
  for (const [name, extent, each] of [['rows', rows, rowsEach] as const, ['columns', columns, columnsEach] as const]) {
    if (each !== 4 && each !== 8) wrong(`${argument}.${name}Each`, '4 or 8', each);
    if (!Number.isInteger(extent) || extent <= 0 || extent % each !== 0) wrong(`${argument}.${name}`, `a multiple of ${each}`, extent);
  }
  const invocations = invocationsOf(given);
  if (invocations > INVOCATIONS) wrong(argument, `a tile of at most ${INVOCATIONS} invocations`, `${invocations} (${tileName(given)})`);
  const bytes = inner * (rows / 4 + columns / 4 + 2) * (half ? 8 : 16);
  if (bytes > MEMORY) wrong(argument, `a tile of at most ${MEMORY} bytes of workgroup memory`, `${bytes} bytes (${tileName(given)})`);
  for (const [name, extent] of [['rows', rows] as const, ['columns', columns] as const]) {
    if (((inner * extent) / 4) % invocations !== 0)
      wrong(`${argument}.${name}`, `so many that ${invocations} invocations load equal shares of a slice of ${inner}`, extent);
  }
}

function checkAttentionTile(argument: string, given: AttentionTile): void {
  checkKeys(argument, given, ['own', 'other'], true);
  const { own, other } = given;
  if (![8, 16, 32].includes(own)) wrong(`${argument}.own`, '8, 16 or 32', own);
  if (![16, 32, 64].includes(other)) wrong(`${argument}.other`, '16, 32 or 64', other);
  // two tiles of 32 channels, the scores, and the state of 64 invocations and the own rows
  const bytes = 144 * (own + other) + 4 * own * (other + 1) + 12 * own + 512;
  if (bytes > MEMORY) wrong(argument, `a tile of at most ${MEMORY} bytes of workgroup memory`, `${bytes} bytes (${tileName(given)})`);
}

/**
 * Checks settings of a user, or of a stored result.
 *
 * @throws SeqLoomError that names the setting at fault
 */
export function checkTuning(given: Partial<GpuTuning>): void {
  checkKeys('', given, ['matMul', 'smallMatMul', 'attention', 'subgroups', 'halfTiles'], false);
  for (const name of ['subgroups', 'halfTiles'] as const)
    if (given[name] !== undefined && typeof given[name] !== 'boolean') wrong(`.${name}`, 'true or false', given[name]);
  for (const name of ['matMul', 'smallMatMul'] as const)
    if (given[name] !== undefined) checkMatMulTile(`.${name}`, given[name], given.halfTiles === true);
  if (given.attention !== undefined) checkAttentionTile('.attention', given.attention);
}

/** The tuning that kernels of a device are written with, and where it comes from. */
export interface GpuTuningInUse {
  /** vendor, architecture and description of the adapter */
  readonly adapter: string;
  readonly adapterClass: AdapterClass;
  /** `given` to `useGpuKernels`, `measured` by `tuneGpuKernels` before, or the `table` of the adapter's class */
  readonly origin: 'given' | 'measured' | 'table';
  readonly tuning: GpuTuning;
  /** how `halfTiles` is written: `f16` where the device has the feature `shader-f16`, otherwise `packed`; `f32` without it */
  readonly tileNumbers: TileNumbers;
}

/** What `useGpuKernels` was told: settings, and how to find what was measured on a device. */
interface TuningRequest {
  readonly given?: Partial<GpuTuning> | undefined;
  readonly measured?: ((device: GPUDevice) => Partial<GpuTuning> | undefined) | undefined;
}

/** A request, and what it led to on each device so far. */
interface Requested extends TuningRequest {
  readonly found: WeakMap<GPUDevice, GpuTuningInUse>;
}

const table: Requested = { found: new WeakMap() };
const requests: Requested[] = [];

/** Makes a request the one that counts; returns how to take it back. */
export function requestTuning(request: TuningRequest): () => void {
  const requested = { ...request, found: new WeakMap<GPUDevice, GpuTuningInUse>() };
  requests.push(requested);
  return () => {
    const index = requests.indexOf(requested);
    if (index >= 0) requests.splice(index, 1);
  };
}

/** Whether `useGpuKernels` was called and not undone. */
export const kernelsAreInUse = (): boolean => requests.length > 0;

/** Vendor, architecture and description. */
const adapterName = ({ vendor, architecture, description }: Partial<GPUAdapterInfo>): string =>
  [vendor, architecture, description].filter(Boolean).join(' ');

/** The tuning of a device: what was given, then what was measured, then the table. */
export function tuningOf(device: GPUDevice): GpuTuningInUse {
  const requested = requests.at(-1) ?? table;
  let inUse = requested.found.get(device);
  if (inUse) return inUse;
  // older browsers do not tell
  const info: Partial<GPUAdapterInfo> = (device.adapterInfo as GPUAdapterInfo | undefined) ?? {};
  const adapterClass = adapterClassOf(info);
  const { given, measured } = requested;
  const stored = measured?.(device);
  const tuning: GpuTuning = { ...tunings[adapterClass], ...stored, ...given };
  const origin = given && Object.keys(given).length > 0 ? 'given' : stored ? 'measured' : 'table';
  const subgroups = tuning.subgroups && device.features.has('subgroups');
  const half = device.features.has('shader-f16') ? 'f16' : 'packed';
  const tileNumbers = tuning.halfTiles ? half : 'f32';
  inUse = { adapter: adapterName(info), adapterClass, origin, tuning: { ...tuning, subgroups }, tileNumbers };
  requested.found.set(device, inUse);
  return inUse;
}
