/** What the page's ten steps and its text came to. */
export interface TrainingOutcome {
  readonly backend: string;
  /** names the adapter */
  readonly reason: string;
  readonly kernelPackages: readonly string[];
  /** kernels that ran; label is null for a composed one */
  readonly kernels: readonly { readonly kernel: string; readonly label: string | null }[];
  /** bits per byte of each step */
  readonly losses: readonly number[];
  /** tensors alive after each step */
  readonly tensors: readonly number[];
  readonly text: string;
  /** tensors alive after everything was disposed, more than before */
  readonly leaked: number;
}
