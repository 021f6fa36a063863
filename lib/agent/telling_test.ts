import { assertEquals } from "@std/assert";
import { tellFailure, tellResync, tellTask } from "./telling.ts";
import { parseCluster } from "../config/cluster.ts";
import { parseModule } from "../config/module.ts";

const cluster = parseCluster(
  "cluster: c\nnodes:\n  - { name: a, addresses: { lan: 10.0.0.1 } }\n  - { name: b, addresses: { lan: 10.0.0.2 } }\n",
);
const module = (more: string) =>
  parseModule(`module: m\nreplicate: [{ path: /srv/m }]\n${more}`, { file: "m.yaml", cluster });

Deno.test("tellTask() names address and script, and how long it took", () => {
  const config = module(
    "kind: service\nvirtual_ips: [{ address: 10.0.0.9, prefix: 24 }]\nservice: { start: [/bin/up, now] }",
  );
  assertEquals(tellTask(config, "vip-add", 3), { what: "Has the virtual address", why: "10.0.0.9/24" });
  assertEquals(tellTask(config, "vip-remove", 3), {
    what: "Gave the virtual address up",
    why: "10.0.0.9/24",
  });
  assertEquals(tellTask(config, "service-start", 12), {
    what: "Service started",
    why: "/bin/up now took 12 ms",
  });
  assertEquals(tellTask(config, "service-stop", 7), {
    what: "Service stopped",
    why: "signals took 7 ms",
  });
  assertEquals(tellTask(config, "mount", 1), null);
});

Deno.test("tellTask() says nothing of what a module does not have", () => {
  const config = module("kind: directory");
  for (const task of ["vip-add", "vip-remove", "service-start", "service-stop"] as const) {
    assertEquals(tellTask(config, task, 1), null);
  }
});

Deno.test("tellResync() tells size, time, rate and number", () => {
  const resync = { phase: "reconcile", files: 3, bytes: 100 * 1024 * 1024, why: "" };
  assertEquals(tellResync({ sequence: 9, resync }, "b", 2000), {
    what: "Has copied what b was missing",
    why: "100 MiB in 2.0 s (50 MiB/s), 3 objects compared",
  });
});

Deno.test("tellResync() tells what was compared and needed no sending", () => {
  const resync = { phase: "reconcile", files: 1, bytes: 0, compared: 1024 ** 3, why: "" };
  assertEquals(
    tellResync({ resync }, "b", 2000)?.why,
    "0 B in 2.0 s (0 B/s), 1 object compared, 1 GiB of content by hashes",
  );
});

Deno.test("tellResync() tells what was saved by compressing", () => {
  const resync = { phase: "reconcile", files: 2, bytes: 4 * 1024 ** 2, sent: 1024 ** 2, why: "" };
  assertEquals(
    tellResync({ resync }, "b", 2000)?.why,
    "4 MiB, moved as 1 MiB, in 2.0 s (2 MiB/s), 2 objects compared",
  );
});

Deno.test("tellResync() says nothing where nothing was missing", () => {
  assertEquals(tellResync({ sequence: 9 }, "b", 2000), null);
  assertEquals(tellResync({ resync: { phase: "replay", files: 0, bytes: 0 } }, "b", 5), null);
});

Deno.test("tellFailure() says what to do where that is known", () => {
  assertEquals(
    tellFailure("Cannot apply record 7: errno 28", { errno: 28 }),
    "Cannot apply record 7: errno 28; no space left on device (ENOSPC): make room",
  );
  assertEquals(tellFailure("Cannot apply record 7", {}), "Cannot apply record 7");
});
