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

import { z } from "zod";
import { clusterSchema } from "./config/cluster.ts";
import { moduleSchema } from "./config/module.ts";

export { NODES_MAX, parseCluster } from "./config/cluster.ts";
export { overlaps, parseModule } from "./config/module.ts";
export { ConfigError, type ConfigIssue, formatIssue } from "./config/yaml.ts";
export { formatDuration, formatSize, parseDuration, parseSize } from "./config/units.ts";

/** JSON Schema of a configuration file, for editors (`binome schema module`). */
export function jsonSchema(of: "cluster" | "module"): Record<string, unknown> {
  const schema = of === "cluster" ? clusterSchema : moduleSchema;
  const written = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return { ...written, title: of === "cluster" ? "Binome cluster" : "Binome module" };
}
