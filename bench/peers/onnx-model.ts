/** Element types of ONNX tensors. */
export const ONNX_FLOAT = 1;
export const ONNX_INT32 = 6;

/** An operator's attribute: whole numbers become INT, others FLOAT unless wrapped. */
export type OnnxAttribute = { readonly int: number } | { readonly float: number } | { readonly string: string };

/** A tensor that goes into or out of a model. */
export interface OnnxValue {
  readonly name: string;
  readonly type: number;
  /** null: of any shape */
  readonly shape: readonly number[] | null;
}

/** A model of one operator. */
export interface OnnxModel {
  readonly operator: string;
  /** `''` for ONNX itself, `com.microsoft` for the runtime's own */
  readonly domain: string;
  /** version of ONNX's operator set */
  readonly opset: number;
  /** null leaves an optional input out */
  readonly inputs: readonly (OnnxValue | null)[];
  readonly outputs: readonly OnnxValue[];
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
}

type Bytes = readonly number[];

function varint(value: number): Bytes {
  const bytes: number[] = [];
  for (let rest = BigInt(value); ;) {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    if (rest === 0n) return [...bytes, low];
    bytes.push(low | 0x80);
  }
}

// protocol buffers: a key of field number and wire type, then the value
const number = (field: number, value: number): Bytes => [...varint(field * 8), ...varint(value)];
const float = (field: number, value: number): Bytes => [...varint(field * 8 + 5), ...new Uint8Array(Float32Array.of(value).buffer)];
const nested = (field: number, ...parts: readonly Bytes[]): Bytes => {
  const body = parts.flat();
  return [...varint(field * 8 + 2), ...varint(body.length), ...body];
};
const text = (field: number, value: string): Bytes => nested(field, [...new TextEncoder().encode(value)]);

function attribute(name: string, value: OnnxAttribute): Bytes {
  if ('int' in value) return nested(5, text(1, name), number(3, value.int), number(20, 2));
  if ('float' in value) return nested(5, text(1, name), float(2, value.float), number(20, 1));
  return nested(5, text(1, name), text(4, value.string), number(20, 3));
}

function valueInfo(field: number, { name, type, shape }: OnnxValue): Bytes {
  const dimensions = shape ? [nested(2, ...shape.map((extent) => nested(1, number(1, extent))))] : [];
  return nested(field, text(1, name), nested(2, nested(1, number(1, type), ...dimensions)));
}

/**
 * Bytes of an ONNX model with one node, in protocol buffers.
 *
 * Field numbers are those of onnx.proto: ModelProto ir_version 1, graph 7, opset_import 8; GraphProto node 1, name 2, input 11, output 12;
 * NodeProto input 1, output 2, op_type 4, attribute 5, domain 7.
 */
export function onnxModelBytes(model: OnnxModel): Uint8Array {
  const { operator, domain, opset, inputs, outputs, attributes = {} } = model;
  const node = nested(
    1,
    ...inputs.map((input) => text(1, input?.name ?? '')),
    ...outputs.map(({ name }) => text(2, name)),
    text(4, operator),
    ...Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    text(7, domain),
  );
  const present = inputs.filter((input) => input !== null);
  const graph = nested(
    7,
    node,
    text(2, operator),
    ...present.map((input) => valueInfo(11, input)),
    ...outputs.map((output) => valueInfo(12, output)),
  );
  const operators = nested(8, text(1, ''), number(2, opset));
  const own = domain === '' ? [] : nested(8, text(1, domain), number(2, 1));
  return Uint8Array.from([...number(1, 10), ...graph, ...operators, ...own]);
}
