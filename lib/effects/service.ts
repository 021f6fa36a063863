/**
 * Starting and stopping the service of a module.
 *
 * All its processes are in one control group, so that "stopped" is a fact that can be read, not a hope: stop ends with
 * the kill of the group, and with the proof that it is empty. Where the host has no cgroup v2 they are found by a
 * mark in their environment, which a process may overwrite; that is said.
 *
 * @module
 */

import { EffectError, type ServiceEffects, type ServiceSpec } from "./types.ts";

/** What is left after the stop command gets so long to end by itself. */
export const TERM_MS = 3_000;
/** How long killed processes may take to disappear. */
export const KILL_MS = 5_000;
/** Lines of a failing command's output that the error repeats. */
const TAIL_LINES = 5;

/** A command that runs. */
export interface RunningCommand {
  /** How it ended: exit code, or null when a signal ended it. */
  readonly ended: Promise<number | null>;
  /** Kills it alone, without what it started. */
  kill(): void;
}

/** A command to run. */
export interface Command {
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Whose log takes the output. */
  readonly module: string;
  /** Whether its processes belong to the service: they join its group. A stop command does not. */
  readonly member: boolean;
}

/** The processes of services, however the host can tell them. */
export interface ServiceGroups {
  /** The group's path; null when there are no cgroups. */
  path(module: string): string | null;
  populated(module: string): boolean;
  terminate(module: string): void;
  kill(module: string): void;
  /** What lives in it, for an error. */
  pids(module: string): readonly number[];
}

/** What this needs of the host. */
export interface ServiceWorld {
  readonly groups: ServiceGroups;
  readonly warnings: readonly string[];
  /** Whether systemd runs here. */
  systemd(): boolean;
  run(command: Command): RunningCommand;
  /** The last lines of the service's log. */
  tail(module: string, lines: number): string;
  /** Writes one line of ours into the service's log. */
  note(module: string, line: string): void;
  delay(ms: number): Promise<void>;
  nowMs(): number;
}

/** How often emptiness is looked for. */
const LOOK_MS = 10;

/** The real {@link ServiceEffects}, over a world. */
export class Services implements ServiceEffects {
  readonly warnings: readonly string[];

  constructor(readonly world: ServiceWorld) {
    this.warnings = world.warnings;
  }

  async start(spec: ServiceSpec): Promise<void> {
    const { module, config } = spec;
    if (config.unit !== null) return await this.#unit(spec, "start", config.unit, config.startTimeoutMs);
    if (config.start === null) return;
    // Left from a start that was cut short: two of them on the same data would destroy it.
    if (this.world.groups.populated(module)) await this.stop(spec);
    try {
      await this.#command(spec, "start", config.start, { limitMs: config.startTimeoutMs, member: true });
    } catch (error) {
      await this.#clear(module, 0);
      throw error;
    }
  }

  async stop(spec: ServiceSpec): Promise<void> {
    const { module, config } = spec;
    if (config.unit !== null) return await this.#unit(spec, "stop", config.unit, config.stopTimeoutMs);
    if (config.stop !== null && this.world.groups.populated(module)) {
      try {
        await this.#command(spec, "stop", config.stop, { limitMs: config.stopTimeoutMs, member: false });
      } catch (error) {
        // Not fatal: what the stop command could not end is killed.
        this.world.note(module, error instanceof Error ? error.message : String(error));
      }
    }
    await this.#clear(module, TERM_MS);
  }

  async running(spec: ServiceSpec): Promise<boolean> {
    const { module, config } = spec;
    if (config.unit === null) return this.world.groups.populated(module);
    const argv = ["systemctl", "is-active", "--quiet", config.unit];
    return await this.#ends(this.#run(spec, argv, false), config.startTimeoutMs) === 0;
  }

  cgroup(module: string): string | null {
    return this.world.groups.path(module);
  }

  async #unit(spec: ServiceSpec, verb: "start" | "stop", unit: string, limitMs: number): Promise<void> {
    if (!this.world.systemd()) {
      throw new EffectError(
        `Cannot ${verb} unit ${unit} of module ${spec.module}: systemd does not run here; give "start" and "stop" commands instead`,
      );
    }
    try {
      await this.#command(spec, verb, ["systemctl", verb, unit], { limitMs, member: false });
    } catch (error) {
      // systemd knows the unit's processes: the same ladder, by its own means.
      const kill = ["systemctl", "kill", "--signal=SIGKILL", unit];
      await this.#ends(this.#run(spec, kill, false), KILL_MS);
      if (verb === "start" || await this.running(spec)) throw error;
      this.world.note(spec.module, error instanceof Error ? error.message : String(error));
    }
  }

  async #command(
    spec: ServiceSpec,
    verb: "start" | "stop",
    argv: readonly string[],
    { limitMs, member }: { readonly limitMs: number; readonly member: boolean },
  ): Promise<void> {
    const { module } = spec;
    const command = this.#run(spec, argv, member);
    const code = await this.#ends(command, limitMs);
    if (code === 0) return;
    const how = code === "late"
      ? `"${argv.join(" ")}" did not return within ${limitMs} ms`
      : code === null
      ? `"${argv.join(" ")}" was killed`
      : `"${argv.join(" ")}" ended with ${code}`;
    const tail = this.world.tail(module, TAIL_LINES);
    throw new EffectError(
      `Cannot ${verb} service of module ${module}: ${how}${tail === "" ? "" : `; it said: ${tail}`}`,
    );
  }

  #run(spec: ServiceSpec, argv: readonly string[], member: boolean): RunningCommand {
    const { module, config } = spec;
    const as = config.user === null || config.unit !== null ? [] : ["runuser", "-u", config.user, "--"];
    try {
      return this.world.run({
        argv: [...as, ...argv],
        environment: {
          ...config.environment,
          BINOME_MODULE: module,
          BINOME_NODE: spec.node,
          BINOME_ROLE: spec.role,
          BINOME_VIP: spec.vips.join(" "),
        },
        module,
        member,
      });
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new EffectError(`Cannot run "${argv.join(" ")}" for module ${module}: ${why}`, { cause });
    }
  }

  /** Its exit code; `late` when it had to be killed. */
  async #ends(command: RunningCommand, limitMs: number): Promise<number | null | "late"> {
    const code = await Promise.race([command.ended, this.world.delay(limitMs).then(() => "late" as const)]);
    if (code === "late") command.kill();
    return code;
  }

  /** Ends whatever is left of a service: asked first, then killed. */
  async #clear(module: string, termMs: number): Promise<void> {
    const { groups } = this.world;
    if (termMs > 0 && groups.populated(module)) {
      groups.terminate(module);
      if (await this.#empty(module, termMs)) return;
    }
    if (!groups.populated(module)) return;
    groups.kill(module);
    if (await this.#empty(module, KILL_MS)) return;
    const pids = groups.pids(module).join(", ");
    throw new EffectError(
      `Cannot stop service of module ${module}: processes ${pids} do not end even by SIGKILL; they wait for a disk or a mount that does not answer`,
    );
  }

  async #empty(module: string, limitMs: number): Promise<boolean> {
    const until = this.world.nowMs() + limitMs;
    while (this.world.groups.populated(module)) {
      if (this.world.nowMs() >= until) return false;
      await this.world.delay(LOOK_MS);
    }
    return true;
  }
}
