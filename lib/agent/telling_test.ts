import { assertEquals } from "@std/assert";
import { tellDifference, tellFailure, tellResync, tellRotten, tellTask, tellVerified } from "./telling.ts";
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

Deno.test("tellRotten() tells which disk has lost what, and what a person does where it was not repaired", () => {
  const range = { path: "/srv/m/f", offset: 131072, length: 131072, why: "it could not be written, errno 5" };
  assertEquals(tellRotten({ ...range, outcome: "repaired", why: "" }, "b"), {
    what: "The disk here has lost content that nobody changed: it was repaired from the copy on b; see dmesg",
    why: "/srv/m/f: content, bytes 131072 to 262143",
  });
  assertEquals(tellRotten({ ...range, outcome: "left" }, "b"), {
    what: "The disk here has lost content that nobody changed; the copy on b has it and was left as it is: " +
      "switch over to b, then verify",
    why: "/srv/m/f: content, bytes 131072 to 262143: it could not be written, errno 5",
  });
});

Deno.test("tellDifference() tells what a disk has lost from what somebody has changed", () => {
  const difference = {
    path: "/srv/m/f",
    what: "content",
    offset: 0,
    length: 9,
    primary: "aa",
    secondary: "bb",
  };
  const why = "/srv/m/f: content, bytes 0 to 8: sha256 aa here, sha256 bb on b";
  assertEquals(tellDifference({ ...difference, rotten: false }, "b"), {
    what: "The copy on b differs, and is repaired from this one",
    why,
  });
  assertEquals(tellDifference({ ...difference, rotten: true }, "b"), {
    what:
      "The disk of b has lost content that nobody changed: it is repaired from this copy; see dmesg there",
    why,
  });
});

Deno.test("tellVerified() calls copies identical only where nothing that was lost is left", () => {
  const event = { objects: 2, bytes: 1024, differences: 0, tookMs: 1000, complete: true };
  const read = "2 objects, 1 KiB of content in 1.0 s (1 KiB/s), 0 differences";
  assertEquals(tellVerified({ ...event, rotten: 0, mended: 0 }), {
    what: "The copies are identical",
    why: read,
  });
  assertEquals(tellVerified({ ...event, rotten: 0, mended: 2 }), {
    what: "The copies are identical again",
    why: `${read}, 2 lost by the disk here and repaired`,
  });
  assertEquals(tellVerified({ ...event, rotten: 1, mended: 0 }), {
    what: "The copies differ where the disk here has lost content",
    why: `${read}, 1 lost by the disk here and left as they are`,
  });
});
