// the same parity on the device of a WebGPU adapter: the tier's environment chooses the mode
import './attention-parity.test.ts';
