/**
 * Configuration: what a person writes in YAML, checked whole before anything acts on it.
 *
 * @module
 */
export type {
  ArbiterConfig,
  ClusterConfig,
  FailoverConfig,
  ModuleConfig,
  NodeConfig,
  PortsConfig,
  ReplicateConfig,
  ServiceConfig,
  TimingsConfig,
  VirtualIpConfig,
} from "./config/types.ts";
