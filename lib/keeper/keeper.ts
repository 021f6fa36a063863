/**
 * The keeper: holds what must not die with the processes that use it, and takes down what has lost its authority.
 *
 * All rules are here and in this folder; the world comes in by {@link KeeperWorld}.
 *
 * @module
 */

import { RpcError } from "../system/rpc_error.ts";
import { Directories } from "./directories.ts";
import { judge, newWatch, takeDown, type Watch } from "./guard.ts";
import { Params } from "./params.ts";
import { Replicators } from "./replicators.ts";
import type { KeeperEvent, KeeperList, KeeperStatus, ReplicatorDescriptors } from "./types.ts";
import type { Held, KeeperWorld, Remembered } from "./world.ts";

/** Orphans a module may have; each costs a descriptor. */
const KEPT_MAX = 16_384;
/** Requests that may wait for one module. */
const QUEUE_MAX = 64;
/** How often authorities are looked at. */
const TICK_MS = 100;
/** Pause between two attempts to take a module down. */
const RETRY_MS = 1_000;
/** Pause between two attempts to reach a replicator that lives but does not answer. */
const ADOPT_RETRY_MS = 200;

interface Module {
  readonly kept: Map<string, number>;
  watch: Watch | null;
  guard: Remembered["guard"];
  /** The end of the queue: requests of a module are done one after the other. */
  last: Promise<unknown>;
  waiting: number;
  /** Its replicator holds the descriptors and has not handed them over yet. */
  adopting: boolean;
  /** What was dropped since its replicator was asked for its copies: the answer on its way may still name it. */
  dropped: Dropped;
}

interface Dropped {
  readonly keys: Set<string>;
  readonly prefixes: Set<string>;
}

/** One keeper. Composed by `lib/keeper.ts`. */
export class Keeper {
  readonly #modules = new Map<string, Module>();
  readonly #directories: Directories;
  readonly #replicators: Replicators;
  #stopped = false;
  /** The watchdog is patted only while every module that had to be taken down is down. */
  #stuck = false;

  constructor(
    readonly world: KeeperWorld,
    readonly emit: (event: KeeperEvent, params: Readonly<Record<string, unknown>>) => void,
    readonly warnings: readonly string[],
    spares = true,
  ) {
    this.#directories = new Directories(world);
    this.#replicators = new Replicators(world, {
      started: (module, { pid }) => {
        this.#remember(module);
        this.#say("replicator-started", { module, pid });
      },
      died: (module, pid, deaths, restartsInMs) => {
        this.#say("replicator-died", { module, pid, deaths, restartsInMs });
      },
      retired: (module) => this.#remember(module),
    }, spares);
  }

  /** The methods, for `serveRpc`. */
  readonly handlers: Readonly<Record<string, (params: unknown) => unknown>> = {
    status: () => this.status(),
    list: (raw) => this.#list(new Params("list", raw).module()),
    cover: (raw) => this.#onPath("cover", raw, (m, path) => this.#directories.cover(m, path, this.#ours(m))),
    mount: (raw) => this.#onPath("mount", raw, (module, path) => this.#mount(module, path)),
    unmount: (raw) => this.#onPath("unmount", raw, (module, path) => this.#directories.unmount(module, path)),
    uncover: (raw) => this.#onPath("uncover", raw, (module, path) => this.#directories.uncover(module, path)),
    keep: (raw) => this.#keep(new Params("keep", raw)),
    drop: (raw) => this.#drop(new Params("drop", raw)),
    guard: (raw) => this.#guard(new Params("guard", raw)),
    "replicator.start": (raw) => {
      const module = new Params("replicator.start", raw).module();
      return this.#queued(module, () => ({ pid: this.#replicators.start(module) }));
    },
    "replicator.stop": (raw) => {
      const module = new Params("replicator.stop", raw).module();
      return this.#queued(module, async () => {
        await this.#replicators.stop(module);
        this.#remember(module);
      });
    },
  };

  /** Takes over what an earlier keeper left. Call before {@link run}; it does not wait for a silent replicator. */
  start(): void {
    for (const name of this.world.memory.modules()) {
      const known = this.world.memory.recall(name);
      if (known !== null) this.#recover(name, known);
    }
  }

  /** The dead man's switch. Resolves after {@link stop}. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      await this.#tick();
      if (!this.#stuck) this.world.fence.pat();
      await this.world.time.delay(TICK_MS);
    }
  }

  /** Ends {@link run}. Mounts and replicators stay: the next keeper takes them over. */
  stop(): void {
    this.#stopped = true;
  }

  /** `status`. */
  status(): KeeperStatus {
    return {
      pid: this.world.pid,
      warnings: this.warnings,
      modules: [...this.#modules].map(([module, { watch }]) => ({
        module,
        replicator: this.#replicators.state(module),
        paths: this.#directories.list(module).map(({ path, fuse }) => ({ path, mounted: fuse !== null })),
        fenced: watch?.fenced ?? false,
      })),
    };
  }

  #module(name: string): Module {
    const known = this.#modules.get(name);
    if (known !== undefined) return known;
    const fresh: Module = {
      kept: new Map(),
      watch: null,
      guard: null,
      last: Promise.resolve(),
      waiting: 0,
      adopting: false,
      dropped: nothingDropped(),
    };
    this.#modules.set(name, fresh);
    return fresh;
  }

  /** Does one thing after the other for each module. */
  #queued<T>(name: string, action: () => T | Promise<T>): Promise<T> {
    const module = this.#module(name);
    if (module.adopting) throw this.#notYet(name);
    if (module.waiting >= QUEUE_MAX) {
      throw new RpcError("busy", `Cannot take more requests for module ${name}: ${QUEUE_MAX} wait already`);
    }
    module.waiting++;
    const done = module.last.then(action).finally(() => module.waiting--);
    module.last = done.catch(() => {}); // reported to whoever asked; the queue goes on
    return done;
  }

  #onPath(method: string, raw: unknown, action: (module: string, path: string) => void | Promise<void>) {
    const params = new Params(method, raw);
    const [module, path] = [params.module(), params.path()];
    return this.#queued(module, async () => {
      await action(module, path);
      this.#remember(module);
    });
  }

  async #mount(name: string, path: string): Promise<void> {
    const module = this.#module(name);
    const before = this.#directories.serving(name);
    await this.#directories.mount(name, path, this.#ours(name));
    if (!before) module.watch = newWatch(this.world.time.bootMs(), module.guard);
  }

  #list(name: string): KeeperList {
    const module = this.#module(name);
    if (module.adopting) throw this.#notYet(name);
    return {
      pid: this.world.pid,
      mounts: this.#directories.list(name),
      kept: [...module.kept].map(([key, fd]) => ({ key, fd })),
    };
  }

  #keep(params: Params): void {
    const name = params.module();
    // Also while its replicator has not handed over yet: it may be this answer that it waits for before it does.
    const { kept } = this.#module(name);
    const key = params.text("key");
    if (kept.has(key)) return; // asked again by a replicator that did not hear our answer
    if (kept.size >= KEPT_MAX) {
      throw new RpcError(
        "full",
        `Cannot keep more open files of module ${name}: ${KEPT_MAX} are kept already`,
      );
    }
    kept.set(key, this.world.descriptors.copy(params.number("pid"), params.number("fd")));
  }

  #drop(params: Params): void {
    const { kept, adopting, dropped } = this.#module(params.module());
    const prefix = params.has("prefix") ? params.text("prefix") : null;
    const gone = prefix === null
      ? [params.text("key")]
      : [...kept.keys()].filter((name) => name.startsWith(prefix));
    if (adopting) {
      if (prefix === null) gone.forEach((key) => dropped.keys.add(key));
      else dropped.prefixes.add(prefix);
    }
    for (const name of gone) {
      const fd = kept.get(name);
      if (fd === undefined) continue;
      kept.delete(name);
      this.world.descriptors.close(fd);
    }
  }

  #guard(params: Params): void {
    const { module: name, ...guard } = params.guard();
    const module = this.#module(name);
    module.guard = guard;
    if (module.watch !== null) module.watch.guard = guard;
    this.#remember(name);
  }

  #ours(module: string): number[] {
    return [this.world.pid, ...this.#replicators.pids(module)];
  }

  /** Modules beside each other: one that cannot be taken down must not keep another one up. */
  async #tick(): Promise<void> {
    const all = await Promise.all([...this.#modules].map(([name, { watch }]) => this.#look(name, watch)));
    this.#stuck = all.includes(false);
    if (this.#stuck) await this.world.time.delay(RETRY_MS);
  }

  /** False: the module should be down and is not. */
  async #look(name: string, watch: Watch | null): Promise<boolean> {
    if (watch === null || !this.#directories.serving(name) && !watch.failing) return true;
    const verdict = judge(watch, this.world.fence.authorityMs(name), this.world.time.bootMs());
    if (!verdict.act) {
      // Renewed meanwhile: whoever decides is back, and knows by the event what it finds.
      watch.failing = false;
      return true;
    }
    const reason = `the authority to serve lapsed ${Math.round(verdict.lateMs)} ms ago and nobody renewed it`;
    const failures = await takeDown(this.world, watch, () => this.#directories.abort(name));
    watch.fenced = failures.length === 0;
    watch.failing = !watch.fenced;
    this.#say("fenced", { module: name, reason, failures });
    return watch.fenced;
  }

  #remember(name: string): void {
    const { guard } = this.#module(name);
    const held = this.#replicators.process(name);
    const paths = this.#directories.paths(name);
    if (held === null && paths.length === 0) return this.world.memory.forget(name);
    const replicator = held === null ? null : { pid: held.pid, start: held.start };
    this.world.memory.remember(name, { paths, replicator, guard });
  }

  #recover(name: string, known: Remembered): void {
    const module = this.#module(name);
    module.guard = known.guard;
    const { replicator } = known;
    const { processes } = this.world;
    // One that took the place of another in our predecessor's last moments is not in its memory.
    const held = replicator === null
      ? null
      : processes.adopt(replicator.pid, replicator.start) ?? processes.adoptAtWork(name);
    if (held !== null) {
      module.adopting = true;
      void this.#adopt(name, module, held, known);
      return;
    }
    // It was wanted, and died together with the keeper. What it asks us is answered after this turn.
    if (replicator !== null) this.#restart(name);
    this.#restore(name, known.paths);
  }

  /** Copies descriptors from a replicator that outlived the keeper. It may need a while to notice us. */
  async #adopt(name: string, module: Module, held: Held, known: Remembered): Promise<void> {
    const ended = held.ended.then(() => null);
    for (;;) {
      // What was dropped before is not in the next answer: an object leaves the replicator's table first.
      module.dropped = nothingDropped();
      const answer = await Promise.race([ended, this.#ask(name)]);
      if (answer === null) {
        module.adopting = false;
        this.#restart(name);
        return this.#restore(name, known.paths);
      }
      if (answer !== "silent" && this.#copy(name, module, held.pid, answer)) break;
      await this.world.time.delay(ADOPT_RETRY_MS);
    }
    module.adopting = false;
    this.#replicators.adopt(name, held);
    const adopted = new Set(this.#directories.paths(name));
    this.#restore(name, known.paths.filter((path) => !adopted.has(path)));
    if (this.#directories.serving(name)) module.watch = newWatch(0, module.guard);
    this.world.log(`${name}: took over from replicator ${held.pid}`);
  }

  async #ask(name: string): Promise<ReplicatorDescriptors | "silent"> {
    try {
      return await this.world.processes.descriptors(name);
    } catch (error) {
      this.world.log(`${name}: ${error instanceof Error ? error.message : error}`);
      return "silent";
    }
  }

  /** All or nothing: a replicator that dies half way leaves what it held to {@link #restore}. */
  #copy(name: string, module: Module, pid: number, theirs: ReplicatorDescriptors): boolean {
    const copies: number[] = [];
    const copy = (fd: number) => {
      const mine = this.world.descriptors.copy(pid, fd);
      copies.push(mine);
      return mine;
    };
    try {
      const mounts = theirs.mounts.map(({ path, backing, fuse }) => ({
        path,
        backing: copy(backing),
        fuse: fuse === null ? null : copy(fuse),
      }));
      // Nor copied: the replicator has closed it, and its number may be another file's by now.
      const kept = theirs.kept.filter(({ key }) => !isDropped(module.dropped, key))
        .map(({ key, fd }) => [key, copy(fd)] as const);
      this.#directories.adopt(name, mounts);
      for (const [key, fd] of kept) {
        // Asked for meanwhile.
        if (module.kept.has(key)) this.world.descriptors.close(fd);
        else module.kept.set(key, fd);
      }
      return true;
    } catch (error) {
      for (const fd of copies) this.world.descriptors.close(fd);
      this.world.log(`${name}: ${error instanceof Error ? error.message : error}`);
      return false;
    }
  }

  #restore(name: string, paths: readonly string[]): void {
    for (const path of paths) {
      try {
        if (this.#directories.restore(name, path)) this.#say("mount-lost", { module: name, path });
      } catch (error) {
        this.world.log(`${name}: ${error instanceof Error ? error.message : error}`);
      }
    }
    this.#remember(name);
  }

  #restart(name: string): void {
    try {
      this.#replicators.start(name);
    } catch (error) {
      this.world.log(`${name}: ${error instanceof Error ? error.message : error}`);
    }
  }

  #notYet(name: string): RpcError {
    return new RpcError(
      "adopting",
      `Cannot answer for module ${name} yet: its replicator has not handed over its descriptors; try again in a second`,
    );
  }

  #say(event: KeeperEvent, params: Readonly<Record<string, unknown>>): void {
    this.world.log(`${event} ${JSON.stringify(params)}`);
    this.emit(event, params);
  }
}

function nothingDropped(): Dropped {
  return { keys: new Set(), prefixes: new Set() };
}

function isDropped({ keys, prefixes }: Dropped, key: string): boolean {
  return keys.has(key) || [...prefixes].some((prefix) => key.startsWith(prefix));
}
