import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { runAgent } from "../agent.ts";
import { CLUSTER, MODULE } from "../agent/testing.ts";
import type { ClusterConfig, ModuleConfig } from "../config/types.ts";
import { newRecord } from "../failover/mod.ts";
import type { RunningAgent } from "./agent_role.ts";
import { AuthorityFile } from "./authority_file.ts";
import { boottimeMs } from "./clock.ts";
import { type RpcServer, serveRpc } from "./rpc.ts";
import { StoreFullError } from "../agent/seams.ts";
import { SqliteStore } from "./sqlite_store.ts";
import { UdpNetworks } from "./udp.ts";

const cluster: ClusterConfig = {
  ...CLUSTER,
  nodes: [
    { name: "n1", addresses: { lan: "127.77.0.1" } },
    { name: "n2", addresses: { lan: "127.77.0.2" } },
  ],
  networks: ["lan"],
  arbiter: { kind: "none" },
  timings: { heartbeatMs: 50, deadMs: 1000, witnessMs: 1000, watchdogMs: 1000, peerMs: 3000 },
  ports: { api: 19010, heartbeat: 19011 },
};
const module: ModuleConfig = {
  ...MODULE,
  kind: "directory",
  network: "lan",
  virtualIps: [],
  service: null,
};

/** A keeper and a replicator that only speak: what they are told is what they say. */
class Host implements AsyncDisposable {
  readonly dir = Deno.makeTempDirSync();
  mounted = false;
  role = "idle";
  epoch = 0;
  #servers: RpcServer[] = [];
  agent: RunningAgent | null = null;

  constructor(readonly name: string) {}

  async serve(other: () => Host): Promise<void> {
    const nothing = (): unknown => ({});
    this.#servers.push(
      await serveRpc(`${this.dir}/keeper.sock`, {
        "replicator.start": nothing,
        "replicator.stop": nothing,
        cover: nothing,
        guard: nothing,
        status: nothing,
        mount: () => (this.mounted = true, {}),
        unmount: () => (this.mounted = false, {}),
        list: () => ({
          pid: 1,
          mounts: [{ path: "/srv/m", backing: 3, fuse: this.mounted ? 4 : null }],
          kept: [],
        }),
      }),
      await serveRpc(`${this.dir}/m.sock`, {
        status: () => {
          const connected = [this.role, other().role].sort().join() === "primary,secondary";
          return {
            role: this.role,
            epoch: this.epoch,
            connected,
            caughtUp: connected,
            sequence: "5",
            history: [],
          };
        },
        serve: (params) => this.#become("primary", params),
        follow: (params) => this.#become("secondary", params),
        solo: (params) => this.#become(this.role, params),
        pair: (params) => this.#become(this.role, params),
        close: (params) => this.#become("idle", params),
        demote: () => this.#become("idle", {}),
        retire: () => this.#become("idle", {}),
      }),
    );
  }

  async start(): Promise<void> {
    this.agent = await runAgent({
      node: this.name,
      cluster,
      clusterKey: new Uint8Array(32).fill(9),
      modules: [{ config: module, generation: 1 }],
      state: this.dir,
      run: this.dir,
    });
  }

  shows(): string {
    const own = this.agent?.control.status().modules[0]?.nodes[0];
    return `${own?.state} ${own?.readiness}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent?.close();
    await Promise.all(this.#servers.map((server) => server.close()));
    Deno.removeSync(this.dir, { recursive: true });
  }

  #become(role: string, params: unknown): unknown {
    this.role = role;
    const { epoch } = params as { epoch?: number };
    this.epoch = epoch ?? this.epoch;
    return { sequence: "5" };
  }
}

/** An agent that does not know yet what runs says that it is busy. */
async function accepted(host: Host, verb: "start" | "start-primary"): Promise<void> {
  await until(`${host.name} accepts ${verb}`, async () => {
    const code = (await host.agent?.control.command("m", verb, { by: "test" }))?.code;
    if (code !== "busy") assertEquals(code, "accepted");
    return code === "accepted";
  });
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const limit = Date.now() + 10_000;
  while (!await holds()) {
    if (Date.now() > limit) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

Deno.test("runAgent() makes a pair over real sockets and SQLite, and resumes after its own restart", async () => {
  await using n1 = new Host("n1");
  await using n2 = new Host("n2");
  await n1.serve(() => n2);
  await n2.serve(() => n1);
  await n1.start();
  await n2.start();
  await until("n1 waits for orders", () => n1.shows() === "stopped not-ready");
  await until("it knows what runs", () => n1.agent?.control.status().peers[0]?.heard === true);
  await accepted(n1, "start-primary");
  await accepted(n2, "start");
  const paired = (): boolean => n1.shows() === "primary ready" && n2.shows() === "secondary ready";
  await until("a pair", paired);
  const authority = new DataView((await Deno.readFile(`${n1.dir}/m.authority`)).buffer);
  assert(Number(authority.getBigUint64(0, true) / 1_000_000n) > boottimeMs());
  const epoch = n1.agent?.control.status().modules[0]?.nodes[0]?.epoch;
  assertEquals(Number(authority.getBigUint64(8, true)) <= (epoch ?? 0), true);

  await n1.agent?.close();
  await n1.start();
  await until("a pair again", paired);
  assertEquals(n1.agent?.control.status().modules[0]?.nodes[0]?.epoch, epoch);
  assertEquals(n1.mounted, true);
});

Deno.test("SqliteStore keeps records and the latest events in order", async () => {
  const dir = await Deno.makeTempDir();
  const log: string[] = [];
  const open = (): SqliteStore => new SqliteStore(`${dir}/agent.db`, (line) => void log.push(line));
  const store = open();
  assertEquals(store.load("m"), null);
  const record = { ...newRecord("boot"), epoch: 7, members: ["a"] };
  store.save("m", { ...record, epoch: 6 });
  store.save("m", record);
  const event = { time: "t", node: "n", module: "m", epoch: 7, level: "warning", why: "w" } as const;
  for (let i = 1; i <= 5; i++) store.append({ ...event, what: `event ${i}` });
  await store.close();
  const again = open();
  assertEquals(again.load("m"), record);
  assertEquals(again.events(0, 2).map((row) => row.what), ["event 4", "event 5"]);
  assertEquals(again.events(1, 2).map((row) => row.what), ["event 2", "event 3"]);
  again.forget("m");
  assertEquals(again.load("m"), null);
  await again.close();
  assertEquals(log, []);
  await Deno.remove(dir, { recursive: true });
});

async function onTmpfs(size: string, work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "binome-full-" });
  const run = async (command: string, ...args: string[]): Promise<boolean> =>
    (await new Deno.Command(command, { args, stderr: "null" }).output()).success;
  if (!await run("mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", dir)) {
    await Deno.remove(dir);
    throw new Error("Cannot test a full disk: mounting a tmpfs needs root");
  }
  try {
    await work(dir);
  } finally {
    await run("umount", "-l", dir);
    await Deno.remove(dir);
  }
}

function smallStore(dir: string): SqliteStore {
  const log = (line: string): never => {
    throw new Error(line);
  };
  return new SqliteStore(`${dir}/agent.db`, log, 512 << 10);
}

/** Takes every block there is. */
function fill(path: string): void {
  using file = Deno.openSync(path, { write: true, create: true, append: true });
  for (const size of [65536, 4096]) {
    try {
      for (;;) file.writeSync(new Uint8Array(size));
    } catch (error) {
      if (!String(error).includes("No space left")) throw error;
    }
  }
}

Deno.test("SqliteStore saves records on a full disk, keeps events readable, and writes both down once there is room", async () => {
  await onTmpfs("4m", async (dir) => {
    const store = smallStore(dir);
    const record = newRecord("boot");
    const event = {
      time: "t",
      node: "n",
      module: "m",
      epoch: 7,
      level: "error",
      why: "w".repeat(2000),
    } as const;
    store.save("m", record);
    store.append({ ...event, what: "before" });
    fill(`${dir}/filler`);
    for (let i = 0; i < 100; i++) store.append({ ...event, what: `event ${i}` });
    assertEquals(store.events(0, 2).map(({ what }) => what), ["event 98", "event 99"]);
    assertEquals(store.events(99, 1).map(({ id, what }) => [id, what]), [[100, "event 98"]]);
    for (let epoch = 1; epoch <= 20; epoch++) store.save("m", { ...record, epoch });
    // Others take what was set aside too: from here on it is said, and nothing changes.
    let refused = false;
    for (let epoch = 21; epoch < 1000 && !refused; epoch++) {
      fill(`${dir}/filler`);
      try {
        store.save("m", { ...record, epoch });
      } catch (error) {
        if (!(error instanceof StoreFullError)) throw error;
        refused = true;
        assertEquals(store.load("m")?.epoch, epoch - 1);
      }
    }
    assertEquals(refused, true);
    await Deno.remove(`${dir}/filler`);
    store.append({ ...event, what: "after" });
    store.save("m", { ...record, epoch: 2000 });
    await store.close();
    const again = smallStore(dir);
    assertEquals(again.events(0, 200).map(({ id }) => id), Array.from({ length: 102 }, (_, i) => i + 1));
    assertEquals(again.load("m")?.epoch, 2000);
    await again.close();
  });
});

Deno.test("SqliteStore opens on a full disk in the room it set aside", async () => {
  await onTmpfs("4m", async (dir) => {
    const store = smallStore(dir);
    store.save("m", newRecord("boot"));
    await store.close();
    fill(`${dir}/filler`);
    const again = smallStore(dir);
    again.save("m", { ...newRecord("boot"), epoch: 3 });
    assertEquals(again.load("m")?.epoch, 3);
    await again.close();
  });
});

Deno.test("AuthorityFile writes in place and keeps what a killed agent had granted", () => {
  const path = Deno.makeTempFileSync();
  const first = new AuthorityFile(path);
  first.write(1234, 5);
  first.close();
  const inode = Deno.statSync(path).ino;
  const second = new AuthorityFile(path);
  const view = new DataView(Deno.readFileSync(path).buffer);
  assertEquals([view.getBigUint64(0, true), view.getBigUint64(8, true)], [1_234_000_000n, 5n]);
  second.write(0, 6);
  assertEquals([...Deno.readFileSync(path)], [0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(Deno.statSync(path).ino, inode);
  second.close();
  Deno.removeSync(path);
});

Deno.test("UdpNetworks refuses a taken port with what to do, and goes on without a missing address", async () => {
  const lines: string[] = [];
  const options = { port: 19012, onDatagram: () => {}, log: (line: string) => void lines.push(line) };
  const first = new UdpNetworks({ ...options, addresses: { lan: "127.77.0.3", gone: "192.0.2.77" } });
  assertStringIncludes(lines.join(), "no 192.0.2.77 on network gone yet");
  const error = assertThrows(() =>
    new UdpNetworks({ ...options, addresses: { lan: "127.77.0.3" } })
  ) as Error;
  assertStringIncludes(error.message, "the port is taken; stop the other program");
  await first.close();
});

Deno.test("UdpNetworks delivers between two addresses", async () => {
  const got = Promise.withResolvers<string>();
  const options = { port: 19013, log: () => {} };
  const a = new UdpNetworks({ ...options, addresses: { lan: "127.77.0.4" }, onDatagram: () => {} });
  const b = new UdpNetworks({
    ...options,
    addresses: { lan: "127.77.0.5" },
    onDatagram: (network, bytes, from) =>
      got.resolve(`${network} ${new TextDecoder().decode(bytes)} ${from}`),
  });
  a.send("lan", "127.77.0.5", new TextEncoder().encode("hello"));
  assertEquals(await got.promise, "lan hello 127.77.0.4");
  await a.close();
  await b.close();
});
