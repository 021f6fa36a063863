import { assert, assertEquals } from "@std/assert";
import type { ModuleConfig } from "../config/types.ts";
import { openHostChecks } from "./host_checks.ts";

const MODULE: ModuleConfig = {
  name: "bms",
  kind: "directory",
  nodes: ["node1", "node2"],
  network: "lan",
  port: 9020,
  replicate: [],
  virtualIps: [],
  service: null,
  failover: { automatic: true, prefer: null },
  networkReturnMs: 30_000,
  peerTimeoutMs: 3000,
  logBudgetBytes: 1,
  resyncBandwidth: null,
  wayBackBytes: null,
  scrubMs: null,
  encryption: true,
  onDivergence: "wait",
};
const replicate = (path: string) => [{ path, durability: "each-write" as const, require: null, exclude: [] }];

async function faultsOf(
  config: Partial<ModuleConfig>,
  folders: readonly string[] = [],
): Promise<readonly string[]> {
  return await openHostChecks(folders).check({ ...MODULE, ...config });
}

Deno.test("openHostChecks() accepts an existing directory", async () => {
  const path = await Deno.realPath(await Deno.makeTempDir());
  assertEquals(await faultsOf({ replicate: replicate(path) }), []);
  await Deno.remove(path);
});

Deno.test("openHostChecks() says how to make a missing directory", async () => {
  const [fault] = await faultsOf({ replicate: replicate("/srv/certainly/missing") });
  assert(fault?.includes("mkdir -p /srv/certainly/missing"));
});

Deno.test("openHostChecks() refuses a symbolic link, a file, and a way through a link", async () => {
  const folder = await Deno.realPath(await Deno.makeTempDir());
  await Deno.mkdir(`${folder}/real/inner`, { recursive: true });
  await Deno.symlink(`${folder}/real`, `${folder}/link`);
  await Deno.writeTextFile(`${folder}/file`, "");
  assert((await faultsOf({ replicate: replicate(`${folder}/link`) }))[0]?.includes("is a symbolic link"));
  assert((await faultsOf({ replicate: replicate(`${folder}/file`) }))[0]?.includes("is not a directory"));
  assert(
    (await faultsOf({ replicate: replicate(`${folder}/link/inner`) }))[0]?.endsWith(`${folder}/real/inner`),
  );
  await Deno.remove(folder, { recursive: true });
});

Deno.test("openHostChecks() names what is mounted inside", async () => {
  assert((await faultsOf({ replicate: replicate("/dev") }))[0]?.includes("is mounted inside /dev"));
});

Deno.test("openHostChecks() keeps Binome's own state out", async () => {
  const path = await Deno.realPath(await Deno.makeTempDir());
  assert((await faultsOf({ replicate: replicate(path) }, [`${path}/binome`]))[0]?.includes("own directory"));
  await Deno.remove(path);
});

Deno.test("openHostChecks() wants scripts that exist and can be executed, and users that exist", async () => {
  const path = await Deno.makeTempFile();
  const service = {
    start: [path],
    stop: ["/missing/stop"],
    unit: null,
    user: "nobody-at-all",
    startTimeoutMs: 1,
    stopTimeoutMs: 1,
    environment: {},
  };
  const faults = await faultsOf({ kind: "service", service });
  assertEquals(faults.map((fault) => fault.split(":")[0]), [
    `${path} is not executable`,
    "/missing/stop does not exist",
    "user nobody-at-all does not exist in /etc/passwd",
  ]);
  await Deno.remove(path);
});
