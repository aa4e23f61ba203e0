import { fail } from '@seqloom/core';
import type { GpuState } from './device.ts';
import type { WgslCall, WgslOutput } from './run.ts';

/** A compiled shader. */
export interface Pipeline {
  readonly name: string;
  readonly source: string;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** How a call's tensors appear in the shader: one line per binding. */
interface Binding {
  readonly name: string;
  readonly type: string;
  readonly present: boolean;
  readonly writable: boolean;
}

function bindingsOf(call: WgslCall<string>): Binding[] {
  const type = (name: string, dtype: string): string => {
    const element = dtype === 'float32' ? 'f32' : 'i32';
    return call.vec4?.includes(name) ? `vec4<${element}>` : element;
  };
  return [
    ...Object.entries(call.inputs).map(([name, tensor]) => ({
      name,
      type: type(name, tensor?.dtype ?? 'float32'),
      present: tensor !== undefined,
      writable: false,
    })),
    ...Object.entries(call.updates ?? {}).map(([name, tensor]) => ({
      name,
      type: type(name, tensor.dtype),
      present: true,
      writable: true,
    })),
    ...Object.entries<WgslOutput | undefined>(call.outputs).map(([name, output]) => ({
      name,
      type: type(name, output?.dtype ?? 'float32'),
      present: output !== undefined,
      writable: true,
    })),
  ];
}

/**
 * The pipeline of a call, from the cache if any call with the same constants, types and present tensors came before.
 *
 * Around the call's source stand: one binding per input and output, `const has_<name>`, the constants, `uniforms` with every integer (u32) and
 * float (f32) and with `infinity` and `nan`, which WGSL cannot write as literals.
 *
 * @throws SeqLoomError when the call has more tensors than the device can bind
 */
export function compile(state: GpuState, call: WgslCall<string>): Pipeline {
  const { name, source, constants = {}, workgroupSize } = call;
  const bindings = bindingsOf(call);
  let key = `${name} ${workgroupSize.join('x')}${call.subgroups ? ' subgroups' : ''}${call.f16 ? ' f16' : ''}`;
  for (const binding of bindings) key += ` ${binding.present ? binding.type : '-'}`;
  for (const constant in constants) key += ` ${constants[constant]}`;
  const known = state.pipelines.get(key);
  if (known) {
    if (known.source !== source) throw new Error(`kernels-gpu: two shaders are called ${name}`);
    return known;
  }
  const { device } = state;
  const limit = device.limits.maxStorageBuffersPerShaderStage;
  if (bindings.length > limit) {
    fail({
      mechanism: `kernels-gpu (${name})`,
      argument: 'tensors',
      wanted: `at most ${limit}, which is what this GPU device can bind at once`,
      given: String(bindings.length),
      remedy: "Leave the kernels out with setupBackend('webgpu', { kernels: [] }).",
    });
  }
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: shaderText(call, bindings), label: name });
  const layout = device.createBindGroupLayout({
    label: name,
    entries: [
      ...bindings.map(({ writable }, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: writable ? ('storage' as const) : ('read-only-storage' as const) },
      })),
      { binding: bindings.length, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform' as const } },
    ],
  });
  const pipeline = device.createComputePipeline({
    label: name,
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module, entryPoint: 'start' },
  });
  // the device answers later: the next kernel call reports what it said
  void device.popErrorScope().then((error) => {
    if (error) state.refused = `${name}: ${error.message}`;
  });
  const made = { name, source, pipeline, layout };
  state.pipelines.set(key, made);
  return made;
}

function shaderText(
  { source, constants = {}, integers = {}, floats = {}, workgroupSize, subgroups, f16 }: WgslCall<string>,
  bindings: readonly Binding[],
): string {
  const literal = (value: number | boolean): string => (typeof value === 'number' && Number.isInteger(value) ? `${value}u` : String(value));
  return `${f16 ? 'enable f16;' : ''}${subgroups ? 'enable subgroups;\nvar<private> subgroupSize: u32;' : ''}
struct Uniforms {
  groupsX: u32, groupsY: u32, groupsZ: u32,
  ${Object.keys(integers)
    .map((name) => `${name}: u32,`)
    .join(' ')}
  infinity: f32, nan: f32,
  ${Object.keys(floats)
    .map((name) => `${name}: f32,`)
    .join(' ')}
}
${bindings
  .map(
    ({ name, type, present, writable }, binding) =>
      `@group(0) @binding(${binding}) var<storage, ${writable ? 'read_write' : 'read'}> ${name}: array<${type}>;\nconst has_${name} = ${present};`,
  )
  .join('\n')}
@group(0) @binding(${bindings.length}) var<uniform> uniforms: Uniforms;
${Object.entries(constants)
  .map(([name, value]) => `const ${name} = ${literal(value)};`)
  .join('\n')}
${source}
@compute @workgroup_size(${workgroupSize.join(', ')})
fn start(
  @builtin(workgroup_id) folded: vec3<u32>,
  @builtin(num_workgroups) folds: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,${subgroups ? '\n  @builtin(subgroup_size) sizeOfSubgroup: u32,' : ''}
) {${subgroups ? '\n  subgroupSize = sizeOfSubgroup;' : ''}
  let place = (folded.z * folds.y + folded.y) * folds.x + folded.x;
  let plane = uniforms.groupsX * uniforms.groupsY;
  if (place >= plane * uniforms.groupsZ) { return; }
  let inPlane = place % plane;
  kernel(vec3<u32>(inPlane % uniforms.groupsX, inPlane / uniforms.groupsX, place / plane), local, lane);
}
`;
}
