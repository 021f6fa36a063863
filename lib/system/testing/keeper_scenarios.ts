/**
 * What a keeper must do, tried on a real one. Runs as the first process of its namespaces: argument is the scenario.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import type { KeeperList, KeeperStatus } from "../../keeper/types.ts";
import { libc } from "../libc.ts";
import { readMounts } from "../mount.ts";
import { startTime } from "../process.ts";
import { RpcClient, RpcError } from "../rpc.ts";
import { bootNanoseconds } from "../worker_io.ts";

const ROOT = Deno.makeTempDirSync({ prefix: "binome-keeper-" });
const [STATE, RUN, DATA] = [`${ROOT}/state`, `${ROOT}/run`, `${ROOT}/data`] as const;
for (const path of [STATE, RUN, DATA]) Deno.mkdirSync(path);
Deno.writeTextFileSync(`${DATA}/file`, "content");

/** Shell words by which a holder says that it holds. */
const READY = `touch ${ROOT}/ready`;

/** A keeper process of ours, and a connection to it. */
class Keeper {
  private constructor(
    readonly child: Deno.ChildProcess,
    readonly client: RpcClient,
    readonly events: string[],
  ) {}

  static async start(): Promise<Keeper> {
    const script = new URL("keeper_process.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--allow-all", script, STATE, RUN],
    }).spawn();
    const events: string[] = [];
    const client = await eventually(() => RpcClient.connect(`${RUN}/keeper.sock`));
    client.events = (event, params) => events.push(`${event} ${JSON.stringify(params)}`);
    return new Keeper(child, client, events);
  }

  call(method: string, params: Record<string, unknown> = {}): Promise<unknown> {
    return this.client.call(method, { module: "m", path: DATA, ...params });
  }

  async list(): Promise<KeeperList> {
    return await this.call("list") as KeeperList;
  }

  async replicatorPid(): Promise<number> {
    const status = await this.call("status") as KeeperStatus;
    const pid = status.modules.find(({ module }) => module === "m")?.replicator?.pid;
    if (typeof pid !== "number") throw new Error("no replicator runs");
    return pid;
  }

  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.status;
    await this.client.closed;
  }
}

/** Tries until it succeeds, for ten seconds. */
async function eventually<T>(attempt: () => T | Promise<T>): Promise<T> {
  const until = performance.now() + 10_000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

function types(): string[] {
  return readMounts().filter(({ point }) => point === DATA).map(({ type, readOnly }) =>
    readOnly ? "cover" : type
  );
}

/** Runs a shell command; killed after five seconds. */
async function shell(command: string): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command("timeout", {
    args: ["-s", "KILL", "5", "sh", "-c", command],
    cwd: "/",
  }).output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

/** Whether a directory behind a descriptor of another process is writable, tried by its path in `/proc`. */
function writeBeneath(list: KeeperList): void {
  const backing = list.mounts[0]?.backing ?? -1;
  Deno.writeTextFileSync(`/proc/${list.pid}/fd/${backing}/beneath`, "written");
}

async function replicatorCall(method: string): Promise<unknown> {
  const client = await eventually(() => RpcClient.connect(`${RUN}/m.sock`));
  try {
    return await client.call(method);
  } finally {
    client.close();
    await client.closed;
  }
}

async function refusal(call: Promise<unknown>): Promise<RpcError> {
  return await assertRejects(() => call, RpcError);
}

const SCENARIOS: Readonly<Record<string, () => Promise<void>>> = {
  async life() {
    const keeper = await Keeper.start();
    await keeper.call("cover");
    await keeper.call("cover");
    assertEquals(types(), ["cover"]);
    assertMatch((await shell(`echo x > ${DATA}/file`)).text, /Read-only file system/);
    writeBeneath(await keeper.list());
    assertEquals(Deno.readTextFileSync(`${DATA}/beneath`), "written");

    await keeper.call("mount");
    await keeper.call("mount");
    assertEquals(types(), ["cover", "fuse.binome"]);
    const [mount] = (await keeper.list()).mounts;
    assert(mount !== undefined && mount.fuse !== null);

    // Nobody serves: a reader waits, until the connection is ended.
    const waiting = shell(`cat ${DATA}/file`);
    await new Promise((resolve) => setTimeout(resolve, 200));
    await keeper.call("unmount");
    assertMatch((await waiting).text, /Software caused connection abort|not connected/);
    assertEquals(types(), ["cover"]);
    assertEquals(Deno.readTextFileSync(`${DATA}/file`), "content");
    assertEquals((await keeper.list()).mounts.map(({ fuse }) => fuse), [null]);

    await keeper.call("uncover");
    assertEquals(types(), []);
    assertEquals((await shell(`echo y > ${DATA}/file`)).code, 0);
    assertEquals((await keeper.list()).mounts, []);
    await keeper.kill();
  },

  async refusals() {
    const keeper = await Keeper.start();
    assertMatch(
      (await refusal(keeper.call("cover", { path: `${ROOT}/none` }))).message,
      /does not exist; create it/,
    );
    assertMatch((await refusal(keeper.call("cover", { path: `${DATA}/file` }))).message, /not a directory/);
    Deno.symlinkSync(DATA, `${ROOT}/link`);
    assertMatch((await refusal(keeper.call("cover", { path: `${ROOT}/link` }))).message, /symbolic link/);
    assertEquals((await refusal(keeper.call("cover", { path: "relative" }))).code, "bad-request");
    assertEquals((await refusal(keeper.call("cover", { path: `${DATA}/../data` }))).code, "bad-request");
    assertEquals((await refusal(keeper.call("cover", { module: "../m" }))).code, "bad-request");
    assertEquals((await refusal(keeper.call("unmount"))).code, "unknown-path");

    Deno.mkdirSync(`${DATA}/sub`);
    await shell(`mount -t tmpfs none ${DATA}/sub`);
    assertMatch(
      (await refusal(keeper.call("mount"))).message,
      /data\/sub" is a mount of its own beneath it \(tmpfs\)/,
    );
    await shell(`umount ${DATA}/sub`);

    await keeper.call("cover");
    assertMatch(
      (await refusal(keeper.call("cover", { path: `${DATA}/sub`, module: "n" }))).message,
      /lies within/,
    );
    assertMatch((await refusal(keeper.call("cover", { module: "n" }))).message, /module m has it/);
    await keeper.kill();
  },

  async openFiles() {
    const keeper = await Keeper.start();
    const holders: Readonly<Record<string, string>> = {
      "file": `exec >> ${DATA}/file; ${READY}; exec sleep 30`,
      "current directory": `cd ${DATA} && ${READY} && exec sleep 30`,
      "mapped file": `exec python3 -c "
import ctypes, time
f = open('${DATA}/file', 'r+b')
m = ctypes.CDLL(None).mmap; m.restype = ctypes.c_void_p
m(None, 4096, 3, 1, f.fileno(), 0); f.close()
open('${ROOT}/ready', 'w'); time.sleep(30)"`,
      "current directory ":
        `mkdir -p ${ROOT}/other && exec unshare --mount --propagation private sh -c 'mount --bind ${ROOT}/data ${ROOT}/other && cd ${ROOT}/other && ${READY} && exec sleep 30'`,
    };
    for (const [kind, command] of Object.entries(holders)) {
      const child = new Deno.Command("sh", { args: ["-c", command], stderr: "null" }).spawn();
      await eventually(() => Deno.remove(`${ROOT}/ready`));
      const error = await refusal(keeper.call("mount"));
      assertEquals(error.code, "open-files");
      assertMatch(error.message, new RegExp(`\\(pid ${child.pid}\\) has ${kind.trim()} ".*" open`));
      assertEquals(types(), []);
      child.kill("SIGKILL");
      await child.status;
    }
    // A reader through the cover cannot write: it does not stop a takeover.
    await keeper.call("cover");
    const reader = new Deno.Command("sh", { args: ["-c", `cd ${DATA} && exec sleep 30 < file`] }).spawn();
    await eventually(() => assertEquals(Deno.readLinkSync(`/proc/${reader.pid}/cwd`), DATA));
    await keeper.call("mount");
    assertEquals(types(), ["cover", "fuse.binome"]);
    reader.kill("SIGKILL");
    await reader.status;
    await keeper.kill();
  },

  async keepsAndDrops() {
    const keeper = await Keeper.start();
    const file = Deno.makeTempFileSync({ dir: ROOT });
    const fd = libc.open(new TextEncoder().encode(`${file}\0`), 2, 0);
    Deno.writeTextFileSync(file, "orphan");
    Deno.removeSync(file);
    await keeper.call("keep", { key: "7", pid: Deno.pid, fd });
    await keeper.call("keep", { key: "7", pid: Deno.pid, fd });
    await keeper.call("keep", { key: "8", pid: Deno.pid, fd });
    libc.close(fd);
    const { pid, kept } = await keeper.list();
    assertEquals(kept.map(({ key }) => key), ["7", "8"]);
    assertEquals(Deno.readTextFileSync(`/proc/${pid}/fd/${kept[0]?.fd}`), "orphan");
    await keeper.call("drop", { key: "7" });
    assertEquals((await keeper.list()).kept.map(({ key }) => key), ["8"]);
    await keeper.call("drop", { prefix: "" }).catch((error) => assertEquals(error.code, "bad-request"));
    await keeper.call("drop", { prefix: "8" });
    assertEquals((await keeper.list()).kept, []);
    assertMatch(
      (await refusal(keeper.call("keep", { key: "9", pid: 4_000_000, fd }))).message,
      /No such process/,
    );
    await keeper.kill();
  },

  async replicatorDies() {
    const keeper = await Keeper.start();
    await keeper.call("replicator.start");
    const first = await keeper.replicatorPid();
    await keeper.call("mount");
    Deno.kill(first, "SIGKILL");
    const second = await eventually(async () => {
      const pid = await keeper.replicatorPid();
      assert(pid !== first);
      return pid;
    });
    assert(keeper.events.some((event) => event.startsWith(`replicator-died {"module":"m","pid":${first}`)));
    assertEquals(types(), ["cover", "fuse.binome"]);
    assert(((await keeper.list()).mounts[0]?.fuse ?? -1) >= 0);
    // Told to retire, it stays away.
    await replicatorCall("retire");
    await eventually(async () => {
      const { modules } = await keeper.call("status") as KeeperStatus;
      assertEquals(modules[0]?.replicator, null);
    });
    await assertRejects(() => Deno.stat(`/proc/${second}/exe`));
    await keeper.call("replicator.start");
    await keeper.call("replicator.stop");
    await keeper.kill();
  },

  async keeperDies() {
    let keeper = await Keeper.start();
    await keeper.call("replicator.start");
    const pid = await keeper.replicatorPid();
    await keeper.call("mount");
    const orphan = Deno.openSync(`${ROOT}/orphan`, { create: true, write: true });
    const fd = [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => Number(name))
      .find((fd) => linkOf(fd) === `${ROOT}/orphan`) ?? -1;
    await keeper.call("keep", { key: "1", pid: Deno.pid, fd });
    orphan.close();
    await replicatorCall("fetch");
    await keeper.kill();
    assertEquals(types(), ["cover", "fuse.binome"]);

    keeper = await Keeper.start();
    const list = await eventually(() => keeper.list());
    assertEquals(await keeper.replicatorPid(), pid);
    assertEquals(list.kept.map(({ key }) => key), ["1"]);
    assertEquals(Deno.readLinkSync(`/proc/${list.pid}/fd/${list.mounts[0]?.fuse}`), "/dev/fuse");
    writeBeneath(list);

    // The mount is really held by the new keeper: without the replicator a reader still waits for an answer.
    Deno.kill(pid, "SIGKILL");
    await eventually(async () => assert(await keeper.replicatorPid() !== pid));
    const waiting = shell(`cat ${DATA}/file`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await keeper.call("unmount");
    assertMatch((await waiting).text, /connection abort|not connected/);
    assertEquals(types(), ["cover"]);
    assertEquals(Deno.readTextFileSync(`${DATA}/beneath`), "written");
    await keeper.call("replicator.stop");
    await keeper.kill();
  },

  /** The replicator wants something of the next keeper before it can tell it what it holds. */
  async keeperDiesAsked() {
    let keeper = await Keeper.start();
    await keeper.call("replicator.start");
    await keeper.call("mount");
    await replicatorCall("fetch");
    await replicatorCall("ask");
    await keeper.kill();

    keeper = await Keeper.start();
    const { pid, kept } = await eventually(() => keeper.list());
    assertEquals(kept.map(({ key }) => key), ["asked"]);
    // The copy that came by both ways is held once.
    const copies = [...Deno.readDirSync(`/proc/${pid}/fd`)]
      .filter(({ name }) => Deno.readLinkSync(`/proc/${pid}/fd/${name}`) === DATA);
    assertEquals(copies.length, 2);
    await keeper.call("unmount");
    await keeper.call("replicator.stop");
    await keeper.kill();
  },

  /** Killed before it could write down that another replicator had taken the place of the one it knew. */
  async keeperDiesBehind() {
    let keeper = await Keeper.start();
    await keeper.call("replicator.start");
    const pid = await keeper.replicatorPid();
    await keeper.call("mount");
    await replicatorCall("fetch");
    await keeper.kill();
    const known = JSON.parse(Deno.readTextFileSync(`${RUN}/m.keeper`));
    known.replicator = { pid: Deno.pid, start: "0" };
    Deno.writeTextFileSync(`${RUN}/m.keeper`, JSON.stringify(known));
    Deno.writeTextFileSync(`${RUN}/m.turn`, `${pid} ${startTime(pid)}\n`);

    keeper = await Keeper.start();
    const list = await eventually(() => keeper.list());
    assertEquals(await keeper.replicatorPid(), pid);
    assertEquals(types(), ["cover", "fuse.binome"]);
    assertEquals(Deno.readLinkSync(`/proc/${list.pid}/fd/${list.mounts[0]?.fuse}`), "/dev/fuse");
    await keeper.call("unmount");
    await keeper.call("replicator.stop");
    await keeper.kill();
  },

  async bothDie() {
    let keeper = await Keeper.start();
    await keeper.call("replicator.start");
    const pid = await keeper.replicatorPid();
    await keeper.call("mount");
    await keeper.kill();
    Deno.kill(pid, "SIGKILL");
    keeper = await Keeper.start();
    assertEquals((await keeper.list()).mounts.map(({ fuse }) => fuse), [null]);
    assertEquals(types(), ["cover"]);
    writeBeneath(await keeper.list());
    assert(await keeper.replicatorPid() !== pid);
    await keeper.call("replicator.stop");
    await keeper.kill();
  },

  async deadMan() {
    await shell(
      "ip link add dummy0 type dummy && ip link set dummy0 up && ip addr add 10.9.0.1/24 dev dummy0",
    );
    await shell("ip addr add 10.9.0.100/24 dev dummy0");
    const cgroup = await makeCgroup();
    const service = new Deno.Command("sh", {
      args: ["-c", `echo $$ > ${cgroup}/cgroup.procs; exec sleep 60`],
    }).spawn();
    const keeper = await Keeper.start();
    await keeper.call("mount");
    const vips = [{ address: "10.9.0.100", prefix: 24, interface: "dummy0" }];
    await keeper.call("guard", { vips, cgroups: [cgroup], graceMs: 300 });
    // A deadline from before the mount means nothing.
    writeAuthority(1);
    await new Promise((resolve) => setTimeout(resolve, 700));
    assertEquals(keeper.events, []);
    const deadline = bootNanoseconds() / 1e6 + 500;
    writeAuthority(deadline);
    const reader = shell(`cat ${DATA}/file`);
    await eventually(() => assertEquals(keeper.events.length, 1));
    const late = bootNanoseconds() / 1e6 - deadline;
    assert(late >= 300 && late < 1500, `fenced ${late} ms after the deadline`);
    assertMatch(keeper.events[0] ?? "", /^fenced .*"failures":\[\]/);
    assertMatch((await reader).text, /connection abort|not connected/);
    assert(!(await shell("ip addr show dummy0")).text.includes("10.9.0.100"));
    assertEquals((await service.status).signal, "SIGKILL");
    // Down, not gone: what stands there answers errors, and never the directory beneath.
    assertEquals(types(), ["cover", "fuse.binome"]);
    await keeper.call("unmount");
    assertEquals(types(), ["cover"]);
    await keeper.call("mount");
    assertEquals((await keeper.call("status") as KeeperStatus).modules[0]?.fenced, false);
    await keeper.kill();
    Deno.removeSync(cgroup);
  },
};

async function makeCgroup(): Promise<string> {
  // The namespace's own view: /sys of the host is still there.
  const { text } = await shell("awk '$3 == \"cgroup2\" { print $2; exit }' /proc/mounts");
  const path = `${text.trim()}/binome-test-${Deno.pid}-${Math.floor(performance.timeOrigin)}`;
  await Deno.mkdir(path);
  return path;
}

function writeAuthority(deadlineMs: number): void {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(Math.round(deadlineMs * 1e6)), true);
  Deno.writeFileSync(`${RUN}/m.authority`, new Uint8Array(view.buffer));
}

function linkOf(fd: number): string {
  try {
    return Deno.readLinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ""; // the descriptor of the listing itself
  }
}

const scenario = SCENARIOS[Deno.args[0] ?? ""];
if (scenario === undefined) throw new Error(`no scenario ${Deno.args[0]}`);
try {
  await scenario();
} catch (error) {
  for (const { name } of Deno.readDirSync(`${STATE}/log`)) {
    Deno.stderr.writeSync(Deno.readFileSync(`${STATE}/log/${name}`));
  }
  throw error;
} finally {
  await shell(`umount -l ${DATA}; umount -l ${DATA}; umount -l ${RUN}/fusectl; rm -rf ${ROOT}`);
}
// Whatever still runs ends with this process: it is the first one of its namespace.
Deno.exit(0);
