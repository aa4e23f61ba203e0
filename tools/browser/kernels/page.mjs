import { runKernels } from './run-kernels.mjs';

// the test asks from outside
Object.assign(globalThis, { runKernels });
document.title = 'ready';
