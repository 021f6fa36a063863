/**
 * Virtual addresses, probes and services on a real kernel: two hosts joined by a wire. Runs as the first process of its
 * namespaces, which are the first host; argument is the scenario.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import type { ServiceConfig } from "../../config/types.ts";
import { EffectError, type ServiceSpec } from "../../effects/types.ts";
import { openProbes, openServices, openVips } from "../effects.ts";

const ROOT = Deno.makeTempDirSync({ prefix: "binome-effects-" });

/** Runs a shell command; killed after five seconds. */
async function shell(command: string): Promise<string> {
  const { stdout, stderr, success } = await new Deno.Command("timeout", {
    args: ["-s", "KILL", "5", "sh", "-c", command],
  }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  if (!success) throw new Error(`${command}: ${text}`);
  return text;
}

/** e0 (10.8.0.1) here, joined to e0 (10.8.0.2) of a second host, whose processes are reached through `peer`. */
async function wire(): Promise<string> {
  const other = new Deno.Command("unshare", { args: ["--net", "sleep", "60"] }).spawn();
  const peer = `nsenter --net=/proc/${other.pid}/ns/net`;
  await until(async () =>
    assert(await Deno.readLink(`/proc/${other.pid}/ns/net`) !== await Deno.readLink("/proc/self/ns/net"))
  );
  await shell(`ip link add e0 type veth peer name e0 netns /proc/${other.pid}/ns/net`);
  await shell("ip link set lo up; ip addr add 10.8.0.1/24 dev e0; ip link set e0 up");
  await shell(`${peer} ip link set lo up; ${peer} ip addr add 10.8.0.2/24 dev e0; ${peer} ip link set e0 up`);
  await shell("ping -c 1 -w 4 10.8.0.2");
  return peer;
}

async function until<T>(attempt: () => T | Promise<T>): Promise<T> {
  const end = performance.now() + 5_000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

const CONFIG: ServiceConfig = {
  start: null,
  stop: null,
  unit: null,
  user: null,
  startTimeoutMs: 3_000,
  stopTimeoutMs: 2_000,
  environment: { COLOUR: "blue" },
};

function spec(config: Partial<ServiceConfig>): ServiceSpec {
  const module = `test-${Math.floor(performance.timeOrigin)}`;
  return { module, config: { ...CONFIG, ...config }, node: "node1", role: "primary", vips: ["10.8.0.100"] };
}

const SCENARIOS: Readonly<Record<string, () => Promise<void>>> = {
  async vip() {
    const peer = await wire();
    const vips = openVips((line) => Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`)));
    const vip = { address: "10.8.0.100", prefix: 24, interface: null };
    // The peer knows the address under another's hardware address: the announcement must correct it.
    await shell(`${peer} ip neigh replace 10.8.0.100 lladdr 02:00:00:00:00:99 dev e0 nud stale`);
    assertEquals((await vips.add(vip)).interface, "e0");
    assert(vips.has(vip));
    const mac =
      (await Deno.readTextFile("/sys/class/net/e0/address").catch(() => shell("ip -o link show e0"))).match(
        /(?:link\/ether )?((?:[0-9a-f]{2}:){5}[0-9a-f]{2})/,
      )?.[1];
    await until(async () =>
      assertMatch(await shell(`${peer} ip neigh show 10.8.0.100`), new RegExp(`${mac}`))
    );
    await shell(`${peer} ping -c 1 -w 2 10.8.0.100`);
    await vips.add(vip);
    assertEquals((await shell("ip -o addr show e0")).split("10.8.0.100/").length, 2);
    await vips.remove(vip);
    await vips.remove(vip);
    assert(!vips.has(vip));
    assert((await shell("ip -o addr show e0")).includes("10.8.0.1/24"));
    vips.close();
  },

  async probes() {
    const peer = await wire();
    const probes = openProbes();
    const limits = { deadlineMs: 500 };
    assertEquals(await probes.ping("10.8.0.2", limits), true);
    assertEquals(await probes.ping("10.8.0.77", limits), false);
    assertMatch(await probes.arp("10.8.0.2", null, limits) ?? "", /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
    assertEquals(await probes.arp("10.8.0.77", "e0", limits), null);
    assertEquals(await probes.arp("10.8.0.1", "e0", limits), null);
    assertEquals(await probes.tcp("10.8.0.2", 9, limits), "refused");
    assertEquals(await probes.tcp("10.8.0.77", 9, limits), "silent");
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    assertEquals(await probes.tcp("127.0.0.1", port, limits), "accepted");
    listener.close();
    await assertRejects(() => probes.arp("10.8.0.2", "none", limits), EffectError, "there is no none");
    // A host whose wire is cut answers nothing.
    await shell(`${peer} ip link set e0 down`);
    assertEquals(await probes.ping("10.8.0.2", limits), false);
    const abort = new AbortController();
    const asked = probes.ping("10.8.0.2", { deadlineMs: 10_000, signal: abort.signal });
    abort.abort(new Error("enough"));
    await assertRejects(() => asked, Error, "enough");
  },

  async service() {
    // The agent's unit has -1000, which not every container allows to set. Whatever it is, services do not inherit it.
    await Deno.writeTextFile("/proc/self/oom_score_adj", "300");
    const services = openServices(ROOT);
    const script = `${ROOT}/service`;
    await Deno.writeTextFile(
      script,
      `#!/bin/sh
echo "oom $(cat /proc/self/oom_score_adj)"
echo "$1 $BINOME_MODULE $BINOME_NODE $BINOME_ROLE $BINOME_VIP $COLOUR"
case $1 in
start) setsid sleep 100 & setsid sh -c 'trap "" TERM; while :; do sleep 1; done' & ;;
fail) sleep 100 & echo broken >&2; exit 3;;
hang) sleep 100;;
esac
`,
      { mode: 0o755 },
    );
    const good = spec({ start: [script, "start"], stop: [script, "stop"] });
    assertEquals(await services.running(good), false);
    await services.start(good);
    assertEquals(await services.running(good), true);
    const log = await Deno.readTextFile(`${ROOT}/log/service-${good.module}.log`);
    assertMatch(log, /^start test-\d+ node1 primary 10\.8\.0\.100 blue$/m);
    assertMatch(log, /^oom 0$/m);
    // One of its processes ignores SIGTERM, both left their session: the group is killed all the same.
    await services.stop(good);
    assertEquals(await services.running(good), false);
    await services.stop(good);

    const failing = spec({ start: [script, "fail"] });
    const failure = await assertRejects(() => services.start(failing), EffectError);
    assertMatch(failure.message, /fail" ended with 3; it said: .*broken/);
    assertEquals(await services.running(failing), false);

    const slow = spec({ start: [script, "hang"], startTimeoutMs: 300 });
    await assertRejects(() => services.start(slow), EffectError, "did not return within 300 ms");
    assertEquals(await services.running(slow), false);

    const missing = spec({ start: ["/no/such/program"] });
    await assertRejects(() => services.start(missing), EffectError, "/no/such/program");
    await assertRejects(
      () => services.start(spec({ unit: "x.service" })),
      EffectError,
      "systemd does not run here",
    );
    const group = services.cgroup(good.module);
    if (group !== null) await Deno.remove(group);
  },
};

const scenario = SCENARIOS[Deno.args[0] ?? ""];
if (scenario === undefined) throw new Error(`no scenario ${Deno.args[0]}`);
try {
  await scenario();
} finally {
  await shell(`rm -rf ${ROOT}`);
}
// Whatever still runs ends with this process: it is the first one of its namespace.
Deno.exit(0);
