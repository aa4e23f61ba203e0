/** What `trainOneLayer` of one-layer.mjs reports. */
export interface Outcome {
  /** the backend that ran */
  backend: string;
  /** loss before each of the ten steps */
  losses: number[];
  /** tensors more after the last step than after the first */
  leaked: number;
  /** learned tensors of the layer */
  parameters: number;
  /** kernels of the core that ran */
  kernels: string[];
}
