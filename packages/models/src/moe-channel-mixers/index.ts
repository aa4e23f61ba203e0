export type { BalanceCoefficients } from './balance.ts';
export type { ExpertActivation, Experts } from './gathered.ts';
export { MixtureOfExperts } from './layer.ts';
export type { MixtureOfExpertsConfig } from './layer.ts';
export { mixtureOfExperts, routeToExperts } from './moe-channel-mixers.ts';
export type { MixtureInputs, MixtureOptions, MixtureResult, RouteInputs } from './moe-channel-mixers.ts';
export type { Routing, RoutingOptions } from './route.ts';
export { SelectionBias } from './selection-bias.ts';
