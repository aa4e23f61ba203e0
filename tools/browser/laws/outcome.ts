/** A test that a law file declares in the page. */
export interface PageTest {
  readonly id: string;
  /** titles of its suites and its own, joined by ` > ` */
  readonly title: string;
}

/** What became of a test in the page. */
export interface Outcome {
  readonly id: string;
  readonly state: 'passed' | 'failed' | 'skipped';
  /** the errors, or why it was skipped */
  readonly messages: readonly string[];
}

/** What a page did beside its tests. */
export interface PageRun {
  readonly backend: string;
  /** names the adapter */
  readonly reason: string;
  readonly kernelPackages: readonly string[];
  /** kernels that ran on WebGPU, each with its implementation */
  readonly kernels: readonly string[];
  /** command buffers given to the GPU's queue */
  readonly submits: number;
  /** what the tests printed */
  readonly lines: readonly string[];
}

/** What the page offers to the test that opened it. */
export interface LawPage {
  /** loads a law file and gives its tests; errors of the file reject */
  declare(path: string, environment: Readonly<Record<string, string>>): Promise<PageTest[]>;
  /** runs them; every outcome goes to `report`, a function that the test exposes */
  run(): Promise<PageRun>;
}
