import { assertEquals } from "@std/assert";
import { Keeper } from "./keeper.ts";
import type { KeeperList, KeptDescriptor, ReplicatorDescriptors } from "./types.ts";
import type { Held, KeeperWorld } from "./world.ts";

const REPLICATOR = 70;

/** A keeper that was started while the replicator of module `m` lives, and hands over when the test says so. */
class Restarted {
  /** The keeper's own descriptors, by what they are copies of. */
  readonly #open = new Map<number, number>();
  #next = 1000;
  /** Descriptors that the replicator has closed. */
  readonly closedThere = new Set<number>();
  asked = 0;
  #answer: (answer: ReplicatorDescriptors) => void = () => {};
  readonly #keeper: Keeper;

  constructor() {
    const held: Held = { pid: REPLICATOR, start: "1", ended: new Promise(() => {}), signal: () => {} };
    const world: Pick<KeeperWorld, "pid" | "time" | "descriptors" | "log"> & {
      readonly processes: Pick<KeeperWorld["processes"], "adopt" | "descriptors">;
      readonly memory: Pick<KeeperWorld["memory"], "modules" | "recall" | "remember">;
    } = {
      pid: 1,
      time: { bootMs: () => 0, delay: () => Promise.resolve() },
      descriptors: {
        copy: (pid, fd) => {
          if (pid === REPLICATOR && this.closedThere.has(fd)) throw new Error("Bad file descriptor");
          this.#open.set(++this.#next, fd);
          return this.#next;
        },
        close: (fd) => void this.#open.delete(fd),
      },
      processes: {
        adopt: () => held,
        descriptors: () => {
          this.asked++;
          return new Promise((resolve) => this.#answer = resolve);
        },
      },
      memory: {
        modules: () => ["m"],
        recall: () => ({ paths: [], replicator: { pid: REPLICATOR, start: "1" }, guard: null }),
        remember: () => {},
      },
      log: () => {},
    };
    this.#keeper = new Keeper(world as unknown as KeeperWorld, () => {}, [], false);
    this.#keeper.start();
  }

  call(method: string, params: Record<string, unknown>): unknown {
    return this.#keeper.handlers[method]?.({ module: "m", ...params });
  }

  keep(key: string, fd: number): void {
    this.call("keep", { key, pid: REPLICATOR, fd });
  }

  async handOver(kept: readonly KeptDescriptor[]): Promise<void> {
    this.#answer({ pid: REPLICATOR, mounts: [], kept });
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  }

  /** What is kept, by the replicator's own descriptors, and that nothing else is open. */
  get kept(): readonly KeptDescriptor[] {
    const { kept } = this.call("list", {}) as KeeperList;
    assertEquals([...this.#open.keys()].sort(), kept.map(({ fd }) => fd).sort());
    return kept.map(({ key, fd }) => ({ key, fd: this.#open.get(fd) ?? -1 }));
  }
}

Deno.test("Keeper takes over what a replicator kept, and holds once what it was asked to keep meanwhile", async () => {
  const keeper = new Restarted();
  keeper.keep("b", 6);
  await keeper.handOver([{ key: "a", fd: 5 }, { key: "b", fd: 6 }]);
  assertEquals(keeper.kept, [{ key: "b", fd: 6 }, { key: "a", fd: 5 }]);
});

Deno.test("Keeper does not bring back what was dropped while the replicator's answer was on its way", async () => {
  const keeper = new Restarted();
  keeper.call("drop", { key: "a" });
  // Closed there by now, its number perhaps given to something else.
  keeper.closedThere.add(5);
  await keeper.handOver([{ key: "a", fd: 5 }, { key: "b", fd: 6 }]);
  assertEquals([keeper.kept, keeper.asked], [[{ key: "b", fd: 6 }], 1]);
});

Deno.test("Keeper does not bring back what was dropped by its prefix meanwhile", async () => {
  const keeper = new Restarted();
  keeper.call("drop", { prefix: "orphan-" });
  await keeper.handOver([{ key: "orphan-5", fd: 5 }, { key: "other-6", fd: 6 }]);
  assertEquals(keeper.kept, [{ key: "other-6", fd: 6 }]);
});

Deno.test("Keeper keeps what was kept anew after it was dropped, whatever the answer on its way says", async () => {
  const keeper = new Restarted();
  keeper.call("drop", { key: "a" });
  keeper.keep("a", 9);
  await keeper.handOver([{ key: "a", fd: 5 }]);
  assertEquals(keeper.kept, [{ key: "a", fd: 9 }]);
});

Deno.test("Keeper forgets what was dropped before it asked again: the next answer knows", async () => {
  const keeper = new Restarted();
  keeper.call("drop", { key: "a" });
  keeper.closedThere.add(6);
  await keeper.handOver([{ key: "b", fd: 6 }]);
  assertEquals(keeper.asked, 2, "a copy could not be made");
  await keeper.handOver([{ key: "a", fd: 7 }]);
  assertEquals(keeper.kept, [{ key: "a", fd: 7 }]);
});

Deno.test("Keeper drops what it has taken over", async () => {
  const keeper = new Restarted();
  await keeper.handOver([{ key: "a", fd: 5 }]);
  keeper.call("drop", { key: "a" });
  assertEquals(keeper.kept, []);
});
