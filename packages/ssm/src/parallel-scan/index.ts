export { card as parallelScanCard } from './card.ts';
export { GatedImpulseRecurrence } from './layer.ts';
export type { GatedImpulseRecurrenceConfig } from './layer.ts';
export { naiveParallelScan } from './naive.ts';
export type { NaiveScanInputs } from './naive.ts';
export { parallelScan } from './parallel-scan.ts';
export type { ScanResult, ScanSettings, ScanState, ScanTensors } from './parallel-scan.ts';
