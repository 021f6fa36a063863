/**
 * Puts the installed program in the place of what runs, one process after the other, while applications go on.
 *
 * The order: the keeper first, because it starts replicators; then each replicator, whose spare of the new program goes
 * on in its place; the agent last, in the same way. Every step is what follows a death, which is tried more than
 * anything else; whoever starts processes again (systemd, by `Restart=always`) starts the new program.
 *
 * What has been done is seen by what runs, so an upgrade that was cut off is finished by another.
 *
 * @module
 */

/** The processes of this node. */
export interface Processes {
  /** Null: it does not answer. */
  keeper(): Promise<KeeperView | null>;
  /** The replicator that serves a module, as it says; null when it does not answer. */
  replicator(module: string): Promise<{ readonly pid: number; readonly connected: boolean } | null>;
  /** The process that waits, loaded, to be a module's replicator. */
  nextReplicator(module: string): number | null;
  /** Processes of the agent: the one that serves, the one that waits, the one that the supervisor has started. */
  agent(): {
    readonly serves: number | null;
    readonly waits: number | null;
    readonly supervised: number | null;
  };
  agentAnswers(): Promise<boolean>;
  /** Whether a process runs the installed program. */
  runsInstalled(pid: number): boolean;
  /** Nothing, when it has ended already. */
  signal(pid: number, kind: "terminate" | "kill"): void;
}

/** The keeper and what it holds. */
export interface KeeperView {
  readonly pid: number;
  /** `taken`: it has the module's descriptors. */
  readonly modules: readonly {
    readonly module: string;
    readonly replicator: number | null;
    readonly taken: boolean;
  }[];
}

/** What a restart needs besides. */
export interface RestartWorld {
  readonly processes: Processes;
  now(): number;
  sleep(ms: number): Promise<void>;
  /** One line for the person who waits. */
  say(line: string): void;
}

/** A process that should be there is not. The message is the whole sentence. */
export class RestartError extends Error {
  override readonly name = "RestartError";
  constructor(readonly role: "keeper" | "replicator" | "agent", message: string) {
    super(message);
  }
}

/** A program of this size needs seconds to load on a busy machine. */
const WAIT_MS = 120_000;
const LOOK_MS = 50;
/** A process that waits has its code but for the last threads; when this has passed it has them too. */
const SETTLE_MS = 2000;

/** Restarts whatever on this node does not run the installed program. */
export async function restartNode(world: RestartWorld): Promise<void> {
  const keeper = await world.processes.keeper();
  if (keeper !== null) await restartKeeper(world, keeper);
  const after = await world.processes.keeper();
  for (const { module } of after?.modules ?? []) await restartReplicator(world, module);
  await restartAgent(world);
}

async function restartKeeper(world: RestartWorld, before: KeeperView): Promise<void> {
  const { processes, say } = world;
  if (processes.runsInstalled(before.pid)) return;
  processes.signal(before.pid, "terminate");
  const after = await until(world, () => processes.keeper(), (now) => now !== null && now.pid !== before.pid);
  if (after === null) {
    throw new RestartError(
      "keeper",
      `Cannot go on: ${WAIT_MS / 1000} s after the keeper ended nobody has started another; ` +
        "start it (systemctl start binome-keeper), then run this command again",
    );
  }
  mustRun(world, "keeper", after.pid);
  const names = before.modules.map(({ module }) => module);
  const has = (now: KeeperView | null, name: string): boolean =>
    now?.modules.some(({ module, taken }) => module === name && taken) ?? false;
  const whole = await until(world, () => processes.keeper(), (now) => names.every((name) => has(now, name)));
  if (whole === null) {
    throw new RestartError(
      "keeper",
      `Cannot go on: the new keeper has not taken over ${
        names.join(", ")
      }; see its log, then run this command again`,
    );
  }
  say(`keeper: process ${after.pid} took over from ${before.pid}`);
}

async function restartReplicator(world: RestartWorld, module: string): Promise<void> {
  const { processes, say } = world;
  const before = await processes.replicator(module);
  if (before === null || processes.runsInstalled(before.pid)) return;
  const waits = () => Promise.resolve(processes.nextReplicator(module));
  const next = await until(world, waits, (pid) => pid !== null && processes.runsInstalled(pid));
  if (next === null) {
    throw new RestartError(
      "replicator",
      `Cannot go on: no replicator of ${module} waits to take its turn; see its log, then run this command again`,
    );
  }
  await world.sleep(SETTLE_MS);
  processes.signal(before.pid, "kill");
  const after = await until(
    world,
    () => processes.replicator(module),
    (now) => now !== null && now.pid !== before.pid && (now.connected || !before.connected),
  );
  if (after === null) {
    throw new RestartError(
      "replicator",
      `Cannot go on: the new replicator of ${module} has not come as far as the old one; see "binome status ${module}"`,
    );
  }
  say(`${module}: replicator ${after.pid} took over from ${before.pid}`);
}

/**
 * The supervisor's own process is the only one it starts from the installed file. It is made the one that waits, then
 * the one that serves.
 */
async function restartAgent(world: RestartWorld): Promise<void> {
  const { processes, say } = world;
  const first = processes.agent();
  if (first.serves === null || processes.runsInstalled(first.serves)) return;
  const agents = () => Promise.resolve(processes.agent());
  if (first.supervised === first.serves) {
    // Its death must be a short pause: the spare goes on, and what the supervisor then starts waits.
    const spare = await until(world, agents, ({ waits }) => waits !== null);
    if (spare === null) {
      throw new RestartError("agent", "Cannot go on: no spare agent waits; see the agent's log");
    }
    processes.signal(first.serves, "kill");
  } else if (first.supervised !== null && !processes.runsInstalled(first.supervised)) {
    processes.signal(first.supervised, "kill");
  }
  const ready = await until(
    world,
    agents,
    ({ serves, waits, supervised }) =>
      serves !== null && processes.runsInstalled(serves) ||
      serves !== null && waits !== null && waits === supervised && processes.runsInstalled(waits),
  );
  if (ready === null) {
    throw new RestartError(
      "agent",
      "Cannot go on: nobody has started an agent of the new program; the old one serves. " +
        "Start it (systemctl start binome-agent), then run this command again",
    );
  }
  if (ready.serves !== null && !processes.runsInstalled(ready.serves)) {
    await world.sleep(SETTLE_MS);
    processes.signal(ready.serves, "terminate");
  }
  const served = await until(
    world,
    async () => ({ pid: processes.agent().serves, answers: await processes.agentAnswers() }),
    ({ pid, answers }) => answers && pid !== null && processes.runsInstalled(pid),
  );
  if (served === null) {
    throw new RestartError(
      "agent",
      "Cannot go on: the new agent does not answer; see its log (journalctl -u binome-agent)",
    );
  }
  say(`agent: process ${served.pid} took over from ${first.serves}`);
}

function mustRun(world: RestartWorld, role: RestartError["role"], pid: number): void {
  if (world.processes.runsInstalled(pid)) return;
  throw new RestartError(
    role,
    `Cannot go on: the ${role} was started from another file than the one installed; ` +
      "see ExecStart of its unit, or name that file with --program",
  );
}

/** Looks until what is seen is as wanted; null when the time is over. */
async function until<T>(
  world: RestartWorld,
  look: () => Promise<T>,
  wanted: (seen: T) => boolean,
): Promise<NonNullable<T> | null> {
  const end = world.now() + WAIT_MS;
  for (;;) {
    const seen = await look();
    if (wanted(seen)) return seen ?? null;
    if (world.now() >= end) return null;
    await world.sleep(LOOK_MS);
  }
}
