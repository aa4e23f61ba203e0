import { adamWStepKernel } from '@seqloom/core';
import { runWgsl } from './run.ts';

const source = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * 256u + lane;
  if (place >= uniforms.size) { return; }
  let g = gradient[place] * uniforms.gradientScale;
  let m = oldFirst[place] + (g - oldFirst[place]) * uniforms.share1;
  let v = oldSecond[place] + (g * g - oldSecond[place]) * uniforms.share2;
  firstMoment[place] = m;
  secondMoment[place] = v;
  parameter[place] = oldParameter[place] * uniforms.kept - uniforms.rate * m / (sqrt(v) + uniforms.epsilon);
}
`;

/**
 * Installs the fused `AdamWStep`; returns the way back.
 *
 * One dispatch, one invocation per number: 4 loads, 3 stores, about 12 operations, no workgroup memory.
 */
export function implementAdamWStep(label: string): () => void {
  return adamWStepKernel.implement({
    backend: 'webgpu',
    label,
    forward({ inputs, attributes, backend }) {
      const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = attributes;
      const { shape, size } = inputs.parameter;
      // both bias corrections folded into two numbers: (m / c1) / (sqrt(v / c2) + e) = sqrt(c2) / c1 * m / (sqrt(v) + e sqrt(c2))
      const root = Math.sqrt(1 - beta2 ** step);
      return runWgsl(backend, {
        name: 'AdamWStep',
        source,
        workgroupSize: [256],
        workgroups: [Math.ceil(size / 256)],
        inputs: {
          oldParameter: inputs.parameter,
          gradient: inputs.gradient,
          oldFirst: inputs.firstMoment,
          oldSecond: inputs.secondMoment,
        },
        outputs: { parameter: { shape }, firstMoment: { shape }, secondMoment: { shape } },
        integers: { size },
        floats: {
          gradientScale,
          share1: 1 - beta1,
          share2: 1 - beta2,
          rate: (learningRate * root) / (1 - beta1 ** step),
          epsilon: epsilon * root,
          kept: 1 - learningRate * weightDecay,
        },
      });
    },
  });
}
