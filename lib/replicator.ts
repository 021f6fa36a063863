/**
 * `binome replicator MODULE`: the data road of one module on this node.
 *
 * This file is the main thread: it answers the agent, lets the peer in or goes to it, and hands descriptors and
 * connections to the threads that do the work (`lib/replication`). It never touches a replicated directory.
 *
 * The keeper runs two of them. One has its turn; the other waits, loaded. A process that is killed leaves its role in
 * `RUN/MODULE.role.json`, and the one that waited goes on serving on the same descriptors before anybody has noticed.
 *
 * @module
 */

import { messageOf } from "./message.ts";
import { type ClusterConfig, type ModuleConfig, parseCluster, parseModule } from "./config.ts";
import { INIT } from "./fuse/opcode.ts";
import { markOf } from "./replication/border.ts";
import type { KeptGrant, KeptOrphan, Mount } from "./replication/mounts.ts";
import { INFLIGHT, takeOver } from "./replication/inflight.ts";
import { WORD } from "./replication/shared.ts";
import { epochOf, isForced, type Peer, readAddresses, readFollow, readServe } from "./replicator/commands.ts";
import { takeDescriptors } from "./replicator/descriptors.ts";
import { excludesOf, withExcludes } from "./replicator/excludes.ts";
import { Link } from "./replicator/link.ts";
import { News } from "./replicator/news.ts";
import { type Role, RoleFile } from "./replicator/role_file.ts";
import { Threads } from "./replicator/threads.ts";
import { bootId } from "./system/boot_id.ts";
import { boottimeMs } from "./system/clock.ts";
import { backing } from "./system/backing.ts";
import { type InflightMemory, mapInflight } from "./system/inflight_file.ts";
import { forgetPages } from "./system/kernel_pages.ts";
import { openNetwork, type RealNetwork } from "./system/network.ts";
import {
  delay,
  environment,
  exit,
  flushMount,
  logLine,
  pid,
  readBytes,
  readText,
} from "./system/replicator_host.ts";
import { RpcError, type RpcServer, serveRpc } from "./system/rpc.ts";
import { harden } from "./system/process.ts";
import { SEALED_BY } from "./system/sealed_stream.ts";
import { KEEPER_PID, takeTurn } from "./system/turn.ts";
import { wake } from "./system/worker_io.ts";

/** How a replicator is started. */
export interface ReplicatorOptions {
  readonly module: string;
  readonly state: string;
  readonly run: string;
}

/** What is not written out yet is before a planned hand-over, within this: 256 MiB take 23 s on 100 Mbit/s. */
const FLUSH_MS = 45_000;
/** Replies are forgotten between two waits of the acknowledging thread. */
const FORGET_MS = 10_000;
/** Going back to what was before a resync takes its time: asked after so often. */
const RESTORING_MS = 50;
/** A drain is given up when the peer has not acknowledged by then. */
const DRAIN_MS = 10_000;
/** How long a process that goes on waits for a keeper that is being restarted too. */
const RESUME_MS = 5000;

/** Of this file: `.js` where the program was bundled. */
const EXTENSION = import.meta.url.slice(import.meta.url.lastIndexOf("."));

/** Runs until told to retire. Returns the exit code. */
export async function runReplicator(options: ReplicatorOptions): Promise<number> {
  const replicator = new Replicator(options);
  return await replicator.run();
}

class Replicator {
  readonly #options: ReplicatorOptions;
  /** What the configuration was read from. */
  #text = "";
  #cluster!: ClusterConfig;
  #config!: ModuleConfig;
  #node = "";
  readonly #inflight: InflightMemory;
  readonly #threads: Threads;
  readonly #roleFile: RoleFile;
  readonly #link: Link;
  readonly #news: News;
  #server: RpcServer | null = null;
  #network: RealNetwork | null = null;
  #commands: Promise<unknown> = Promise.resolve();
  #mounts: Mount[] = [];
  readonly #ended = Promise.withResolvers<number>();
  /** A role left by a former process is taken up, or there was none. */
  readonly #settled = Promise.withResolvers<void>();

  constructor(options: ReplicatorOptions) {
    this.#options = options;
    const { module } = options;
    this.#configure();
    this.#roleFile = new RoleFile(`${options.run}/${module}.role.json`);
    this.#inflight = mapInflight(`${options.run}/${module}.inflight`, INFLIGHT.bytes);
    this.#threads = new Threads({
      locate: (name) => new URL(`./replication/${name}_worker${EXTENSION}`, import.meta.url),
      inflight: this.#inflight,
      onRoad: (message) => this.#news.fromRoad(message),
      onAcker: (message) => this.#news.fromAcker(message),
      onDisk: (message) => this.#news.fromDisk(message),
      die: (reason) => this.#die(reason),
    });
    this.#link = new Link({
      threads: this.#threads,
      network: () => this.#openNetwork(),
      self: () => ({ cluster: this.#cluster.cluster, module, node: this.#node }),
      peerTimeoutMs: () => this.#config.peerTimeoutMs,
      settled: this.#settled.promise,
      broadcast: (event, body) => this.#server?.broadcast(event, body),
    });
    this.#news = new News({
      threads: this.#threads,
      link: this.#link,
      broadcast: (event, body) => this.#server?.broadcast(event, body),
      onGranted: (root, grant) => this.#granted(root, grant),
      forgetPages,
      die: (reason) => this.#die(reason),
      log: logLine,
    });
  }

  get #role(): Role | null {
    return this.#roleFile.role;
  }

  async run(): Promise<number> {
    const warnings = harden();
    // Certificates and libraries are read while there is time.
    this.#openNetwork();
    const keeper = environment(KEEPER_PID);
    await takeTurn(
      `${this.#options.run}/${this.#options.module}.turn`,
      keeper === undefined ? undefined : Number(keeper),
    );
    for (const warning of warnings) logLine(warning);
    this.#configure();
    const former = this.#roleFile.former();
    if (former?.excludes !== undefined) this.#config = withExcludes(this.#config, former.excludes);
    this.#takeOver(former);
    // The peer shakes hands while the log is being opened: applications wait for both.
    if (former?.role === "primary" && former.peer !== null) this.#link.openDoor(former.peer, former.port);
    await this.#startThreads();
    this.#server = await this.#listen();
    if (former !== null) await this.#resume(former);
    this.#settled.resolve();
    const code = await this.#ended.promise;
    await this.#server.close();
    return code;
  }

  /** What a killed primary had in flight counts where the kernel will not say it again. */
  #takeOver(former: Role | null): void {
    const served = former?.role === "primary";
    const resent = served &&
      former.grants.some((grant) => grant !== null && (BigInt(grant.flags) & INIT.HAS_RESEND) !== 0n);
    const kept = takeOver(this.#inflight.bytes, served && !resent);
    if (served && !resent && !kept) {
      logLine(
        "this kernel does not send requests again, and what a former process had in flight is not known",
      );
    }
  }

  /** Reads the configuration, again when it has changed. */
  #configure(): void {
    const { state, module } = this.#options;
    const cluster = required(`${state}/cluster.yaml`);
    const text = required(`${state}/modules/${module}.yaml`);
    if (this.#text === `${cluster}\0${text}`) return;
    this.#cluster = parseCluster(cluster);
    this.#config = parseModule(text, { file: `${module}.yaml`, cluster: this.#cluster, others: [] });
    this.#node = required(`${state}/node`).trim();
    this.#text = `${cluster}\0${text}`;
  }

  async #startThreads(): Promise<void> {
    const { state, run, module } = this.#options;
    const { logBudgetBytes, replicate, scrubMs, resyncBandwidth, wayBackBytes } = this.#config;
    await this.#threads.start({
      state,
      run,
      cluster: this.#cluster.cluster,
      module,
      node: this.#node,
      bootId: bootId(run),
      pid,
      logBudgetBytes,
      excluded: markOf(replicate.map(({ exclude }) => exclude)),
      scrubMs,
      resyncBandwidth,
      wayBackBytes,
      resend: environment("BINOME_RESEND") !== "off",
    }, `${run}/${module}.authority`);
  }

  #listen(): Promise<RpcServer> {
    const { run, module } = this.#options;
    return serveRpc(`${run}/${module}.sock`, {
      status: () => this.#status(),
      serve: (params) => this.#exclusive(() => this.#serve(readServe(params))),
      follow: (params) => this.#exclusive(() => this.#follow(readFollow(params))),
      close: (params) => this.#exclusive(() => this.#close(epochOf(params), isForced(params))),
      solo: (params) => this.#exclusive(() => this.#solo(epochOf(params))),
      paths: (params) => this.#exclusive(() => this.#usePaths(readAddresses(params))),
      pair: (params) => this.#exclusive(() => this.#pair(epochOf(params))),
      verify: () => this.#exclusive(() => this.#threads.ask({ kind: "verify" })),
      demote: () => this.#exclusive(() => this.#demote()),
      retire: () => this.#exclusive(() => this.#retire()),
      descriptors: () => this.#descriptors(),
    }, { log: logLine });
  }

  /** Commands change roles; they are done one after the other. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#commands.then(work);
    this.#commands = done.catch(() => {});
    return done;
  }

  /** A former process was killed in this role: go on with it. */
  async #resume(role: Role): Promise<void> {
    logLine(`going on as ${role.role} of epoch ${role.epoch}, where a former process ended`);
    await this.#exclusive(async () => {
      try {
        const epoch = Math.max(role.epoch, await this.#accepted());
        // A primary accepts a later epoch than it remembers where it is being paired: the other counts as a member from then on.
        if (role.role === "primary") {
          await this.#beginServing(epoch > role.epoch ? { ...role, epoch, members: 2 } : role, true);
        } else await this.#beginFollowing({ ...role, epoch });
      } catch (error) {
        // On a mount that was served before, nobody may begin anew: the kernel's requests in flight are this role's.
        if (error instanceof RpcError) this.#die(`the keeper does not answer: ${error.message}`);
        // The agent sees an idle replicator and decides what to do.
        logLine(`Cannot go on as ${role.role}: ${messageOf(error)}`);
        await this.#link.closeDoor();
        this.#roleFile.forget();
        await this.#forgetReplies();
      }
    });
  }

  /** The epoch this copy accepted: records of a newer membership raise it before the agent does. */
  async #accepted(): Promise<number> {
    const { accepted } = await this.#threads.ask({ kind: "status" }) as { readonly accepted: number };
    return accepted;
  }

  async #status(): Promise<unknown> {
    const road = await this.#threads.ask({ kind: "status" }) as Record<string, unknown>;
    return {
      ...road,
      pid,
      peer: this.#role?.peer?.name ?? null,
      ...this.#link.status(),
      encryption: this.#config.encryption,
      cipher: this.#config.encryption ? SEALED_BY : null,
    };
  }

  async #serve(
    command: { epoch: number; members: 1 | 2; peer: Peer | null; port: number },
  ): Promise<unknown> {
    if (this.#role?.role === "primary" && this.#role.epoch === command.epoch) {
      return await this.#threads.ask({ kind: "status" });
    }
    await this.#leave();
    return await this.#beginServing({ role: "primary", overwrite: false, grants: [], ...command }, false);
  }

  async #beginServing(role: Role, resumed: boolean): Promise<unknown> {
    const kept = await this.#takeDescriptors(resumed ? RESUME_MS : 0);
    const grants = this.#mounts.map((_, index) => resumed ? role.grants[index] ?? null : null);
    this.#remember({ ...role, grants });
    const { epoch, members } = role;
    const serving = this.#threads.ask({
      kind: "serve",
      epoch,
      members,
      mounts: this.#mounts,
      kept,
      grants,
      inherits: resumed,
    });
    const result = resumed ? await serving : await serving.catch((error) => this.#notServing(error));
    if (role.peer !== null) this.#link.openDoor(role.peer, role.port);
    return result;
  }

  /** Refused: nobody serves the new mount. A demotion would wait for it, and a later process would go on as primary. */
  async #notServing(error: unknown): Promise<never> {
    const { role } = await this.#threads.ask({ kind: "status" }) as { readonly role: string };
    if (role !== "primary") this.#roleFile.forget();
    throw error;
  }

  async #follow(
    command: { epoch: number; primary: Peer; port: number; overwrite: boolean },
  ): Promise<unknown> {
    const role = this.#role;
    const same = role?.role === "secondary" && role.peer?.name === command.primary.name &&
      role.overwrite === command.overwrite && role.epoch <= command.epoch;
    if (role !== null && same) {
      // A newer membership with the same primary ends no session.
      await this.#threads.ask({ kind: "accept", epoch: command.epoch });
      this.#remember({ ...role, epoch: command.epoch });
      return await this.#threads.ask({ kind: "status" });
    }
    await this.#leave();
    return await this.#beginFollowing({
      role: "secondary",
      epoch: command.epoch,
      members: 2,
      peer: command.primary,
      port: command.port,
      overwrite: command.overwrite,
      grants: [],
    });
  }

  async #beginFollowing(role: Role): Promise<unknown> {
    const kept = await this.#takeDescriptors();
    this.#remember(role);
    const result = await this.#threads.ask({
      kind: "follow",
      epoch: role.epoch,
      mounts: this.#mounts,
      kept,
      overwrite: role.overwrite,
    });
    if (role.peer !== null) this.#link.follow(role.peer, role.port);
    return result;
  }

  async #usePaths(addresses: readonly string[]): Promise<unknown> {
    const role = this.#role;
    // A primary listens on all of them.
    if (role?.role !== "secondary" || role.peer === null) return {};
    const peer = { ...role.peer, addresses };
    this.#remember({ ...role, peer });
    await this.#link.usePaths(peer);
    return {};
  }

  /** I2: nothing of an older epoch is taken any more. */
  async #close(epoch: number, force: boolean): Promise<unknown> {
    await this.#link.stopFollowing();
    await this.#link.end();
    // One that was not demoted in order: what it acknowledged is in its log, the mount is taken away by the agent.
    if (this.#role?.role === "primary") await this.#leave();
    this.#roleFile.forget();
    const roots = force ? await this.#rootsBeneath() : [];
    for (;;) {
      const answer = await this.#threads.ask({ kind: "close", epoch, force, roots }) as {
        restoring: boolean;
      };
      if (!answer.restoring) return answer;
      await delay(RESTORING_MS);
    }
  }

  /** To go back to what was before a resync; none when the keeper does not hold them. */
  async #rootsBeneath(): Promise<readonly number[]> {
    try {
      if (this.#mounts.length === 0) {
        for (const { fd } of await this.#takeDescriptors()) backing.close(fd);
      }
      return this.#mounts.map((mount) => mount.backing);
    } catch (error) {
      logLine(`Cannot reach the directories beneath: ${messageOf(error)}`);
      return [];
    }
  }

  /** The file first: a process killed between the two must not wait for a peer that is no member, nor the reverse. */
  async #solo(epoch: number): Promise<unknown> {
    const role = this.#primaryRole();
    this.#remember({ ...role, epoch: Math.max(epoch, role.epoch), members: 1 });
    await this.#threads.ask({ kind: "solo", epoch });
    return {};
  }

  async #pair(epoch: number): Promise<unknown> {
    const role = this.#primaryRole();
    const result = await this.#threads.ask({ kind: "pair", epoch });
    this.#remember({ ...role, epoch: Math.max(epoch, role.epoch), members: 2 });
    return result;
  }

  #primaryRole(): Role {
    if (this.#role?.role === "primary") return this.#role;
    throw new Error("Cannot change the members: this replicator is not primary");
  }

  /** The service is down: what was written through maps is flushed, all of it goes to the peer, the mount is let go. */
  async #demote(): Promise<unknown> {
    if (this.#role?.role !== "primary") return await this.#threads.ask({ kind: "status" });
    await Promise.all(this.#mounts.map(async ({ path }) => {
      if (!await flushMount(path, FLUSH_MS)) logLine(`Cannot flush ${path} within ${FLUSH_MS} ms`);
    }));
    const until = boottimeMs() + DRAIN_MS;
    let drained = false;
    while (!drained && boottimeMs() < until) {
      drained = (await this.#threads.ask({ kind: "drain" }) as { drained: boolean }).drained;
      if (!drained) await delay(2);
    }
    if (!drained) {
      logLine("the peer did not acknowledge everything before the hand-over; it will be compared");
    }
    const result = await this.#threads.ask({ kind: "release" });
    this.#roleFile.forget();
    await this.#leave();
    return result;
  }

  async #retire(): Promise<unknown> {
    if (this.#role?.role === "primary") await this.#demote();
    await this.#leave();
    const result = await this.#threads.ask({ kind: "retire", roots: await this.#rootsToSync() });
    this.#threads.stop();
    setTimeoutExit(() => this.#ended.resolve(0));
    return result;
  }

  /** The directories beneath; none when the keeper does not hold them: the copy is not marked clean then. */
  async #rootsToSync(): Promise<readonly number[]> {
    try {
      await this.#takeDescriptors();
      return this.#mounts.map((mount) => mount.backing);
    } catch (error) {
      logLine(`Cannot bring the directories to disk: ${messageOf(error)}; the copy is not marked clean`);
      return [];
    }
  }

  /** For a keeper that was restarted and holds nothing: numbers of this process. */
  async #descriptors(): Promise<unknown> {
    return { pid, mounts: this.#mounts, kept: await this.#threads.ask({ kind: "orphans" }) };
  }

  /** Leaves whatever role there is; the data road lets go of descriptors by itself when it takes another. */
  async #leave(): Promise<void> {
    await this.#link.stopFollowing();
    await this.#link.end();
    await this.#link.closeDoor();
    if (this.#role?.role === "primary") {
      try {
        await this.#threads.ask({ kind: "release" });
      } catch (error) {
        logLine(`leaving the role of primary: ${messageOf(error)}`);
      }
    }
    this.#roleFile.forget();
    await this.#forgetReplies();
    for (const mount of this.#mounts) {
      backing.close(mount.backing);
      if (mount.fuse !== null) backing.close(mount.fuse);
    }
    this.#mounts = [];
  }

  /** A reply left over would later be written to whatever has its descriptor's number by then. */
  async #forgetReplies(): Promise<void> {
    if (this.#threads.shared.repliesWaiting === 0 && this.#threads.shared.fsyncsWaiting === 0) return;
    const until = boottimeMs() + FORGET_MS;
    this.#threads.shared.set(WORD.forget, 1);
    wake(this.#threads.memory.wake.acker);
    while (this.#threads.shared.get(WORD.forget) === 1) {
      if (boottimeMs() > until) return this.#die("the acknowledging thread does not forget replies");
      await delay(1);
    }
  }

  #remember(role: Role): void {
    this.#roleFile.remember({ ...role, excludes: excludesOf(this.#config) });
  }

  /** Takes copies of the module's descriptors; answers those of orphans. */
  async #takeDescriptors(patienceMs = 0): Promise<KeptOrphan[]> {
    const { run, module } = this.#options;
    const { replicate } = this.#config;
    const { mounts, kept } = await takeDescriptors({ run, module, replicate }, patienceMs);
    this.#mounts = mounts;
    return kept;
  }

  #openNetwork(): RealNetwork {
    const { state } = this.#options;
    this.#network ??= openNetwork(
      this.#config.encryption
        ? {
          encryption: "on",
          files: { ca: `${state}/ca.crt`, certificate: `${state}/node.crt`, key: `${state}/node.key` },
        }
        : { encryption: "off", clusterKey: readBytes(`${state}/cluster.key`) },
    );
    return this.#network;
  }

  /** What INIT granted must outlive this process: the kernel says it once. */
  #granted(root: number, grant: KeptGrant): void {
    const role = this.#role;
    if (role === null) return;
    const grants = [...role.grants];
    grants[root] = grant;
    this.#remember({ ...role, grants });
  }

  #die(reason: string): void {
    logLine(`ending: ${reason}`);
    exit(70);
  }
}

function setTimeoutExit(work: () => void): void {
  // The reply to the caller goes out first.
  void delay(20).then(work);
}

function required(path: string): string {
  const text = readText(path);
  if (text === null) {
    throw new Error(
      `Cannot start the replicator: ${path} is missing; run \`binome init\` and \`binome apply\` first`,
    );
  }
  return text;
}
