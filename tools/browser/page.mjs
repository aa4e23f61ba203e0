import { trainOneLayer } from '../consumer/one-layer.mjs';

// the test asks from outside
Object.assign(globalThis, { trainOneLayer });
document.title = 'ready';
