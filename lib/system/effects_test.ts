import { namespaceTest } from "./testing/namespace.ts";

const script = new URL("testing/effects_scenarios.ts", import.meta.url).pathname;

namespaceTest("openVips() sets, announces and removes an address", script, "vip");
namespaceTest("openProbes() tells hosts that answer from those that do not", script, "probes");
namespaceTest("openServices() starts a service and leaves nothing of it after stop", script, "service");
