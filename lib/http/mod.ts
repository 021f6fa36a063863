/**
 * The control plane: `/healthz` and `/api/v1` on every node.
 *
 * @module
 */
export { createApp } from "./app.ts";
export { type ApplyResult, catchUp } from "./apply.ts";
export type { Variables } from "./auth.ts";
export { type ControlPlane, type ControlPlaneWorld, serveControlPlane } from "./serve.ts";
export {
  type AppOptions,
  type HostChecks,
  type PeerAnswer,
  type PeerClient,
  type PeerRequest,
  PeerUnreachable,
} from "./control_types.ts";
export { type ErrorBody } from "./errors.ts";
