import type { Suite } from '../measure/suite.ts';
import { conv } from './conv.ts';
import { crossover } from './crossover.ts';
import { decode } from './decode.ts';
import { decodeModels } from './decode-models.ts';
import { gpu } from './gpu.ts';
import { linearAttention } from './linear-attention.ts';
import { matmul } from './matmul.ts';
import { mechanisms } from './mechanisms.ts';
import { memory } from './memory.ts';
import { moe } from './moe.ts';
import { neighborhoodRouting } from './neighborhood-routing.ts';
import { scan } from './scan.ts';
import { softmaxAttention } from './softmax-attention.ts';
import { sparseAttention } from './sparse-attention.ts';
import { ssm } from './ssm.ts';
import { trainStep } from './train-step.ts';

/** Every suite, in the order in which `all` runs them. */
export const suites: readonly Suite[] = [
  matmul,
  linearAttention,
  softmaxAttention,
  sparseAttention,
  neighborhoodRouting,
  scan,
  ssm,
  conv,
  trainStep,
  decode,
  decodeModels,
  crossover,
  memory,
  moe,
  mechanisms,
  gpu,
];
