import { describe, expect, it } from 'vitest';
import { ONNX_FLOAT, onnxModelBytes } from './onnx-model.ts';

describe('ONNX model bytes', () => {
  it('writes protocol buffers field by field', () => {
    const value = (name: string) => ({ name, type: ONNX_FLOAT, shape: [300] });
    const bytes = onnxModelBytes({
      operator: 'Op',
      domain: '',
      opset: 21,
      inputs: [value('x'), null],
      outputs: [{ ...value('y'), shape: null }],
      attributes: { k: { int: 2 } },
    });
    // prettier-ignore
    const wanted = [
      8, 10, // ir_version 10
      58, 59, // graph
      10, 24, 10, 1, 120, 10, 0, 18, 1, 121, 34, 2, 79, 112, // node: inputs x and none, output y, op_type Op
      42, 8, 10, 1, 107, 24, 2, 160, 1, 2, // its attribute k = 2, an INT
      58, 0, // its domain
      18, 2, 79, 112, // the graph's name
      90, 16, 10, 1, 120, 18, 11, 10, 9, 8, 1, 18, 5, 10, 3, 8, 172, 2, // input x, 300 FLOAT
      98, 9, 10, 1, 121, 18, 4, 10, 2, 8, 1, // output y, FLOAT of any shape
      66, 4, 10, 0, 16, 21, // operator set 21
    ];
    expect([...bytes]).toEqual(wanted);
  });
});
