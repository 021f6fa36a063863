/**
 * The systems that `scripts/bench` measures, all on one store of node1, a loop-mounted ext4: what disturbs the machine
 * disturbs all of them.
 *
 * @module
 */
import { glusterWhole, startGluster } from "./bench_gluster.ts";
import { type System, SYSTEMS } from "./bench_report.ts";
import { Cluster, DATA, MODULE, NODES } from "./cluster.ts";
import { until } from "./lab.ts";

/** Where each lies on node1. */
export const FOLDER: Readonly<Record<System, string>> = {
  native: "/srv/native",
  bindfs: "/srv/bindfs",
  gluster: "/srv/gluster",
  binome: DATA,
  "binome-plain": "/srv/plain",
  "binome-fsync": "/srv/fsync",
};
const BINDFS_BENEATH = "/srv/bindfs-beneath";

/** Beside the module of the lab: name → what its file says. */
const MODULES: Readonly<
  Record<string, { readonly folder: string; readonly port: number; readonly how: string }>
> = {
  plain: { folder: "/srv/plain", port: 9021, how: "encryption: off\n" },
  fsync: { folder: "/srv/fsync", port: 9022, how: "" },
};
const SECONDARY_MS = 30_000;
/** Sparse: it grows by what is written. */
const STORE_MIB = 12_288;

/** Two running nodes with every system on them. */
export class Systems implements AsyncDisposable {
  readonly cluster: Cluster;
  /** What is there to be measured, in the order of the table. */
  readonly present: readonly System[];
  /** Of each module, once its secondary was there: a secondary that was dropped and came back has raised it. */
  readonly #epochs = new Map<string, number>();

  private constructor(cluster: Cluster, present: readonly System[]) {
    this.cluster = cluster;
    this.present = present;
  }

  /** The modules with a live secondary each, bindfs and, where it is wanted, GlusterFS mounted. */
  static async up(how: { readonly binary: string; readonly gluster: boolean }): Promise<Systems> {
    const { binary, gluster } = how;
    const cluster = await Cluster.up({ prefix: "bench", lab: { storeMiB: STORE_MIB, binary } });
    try {
      const systems = new Systems(cluster, SYSTEMS.filter((system) => gluster || system !== "gluster"));
      await systems.#prepare();
      return systems;
    } catch (error) {
      await cluster.lab.down();
      throw error;
    }
  }

  /** Takes the lab away, and everything with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]();
  }

  /** What the run before left to be written back must not slow the next one. */
  async settle(): Promise<void> {
    const { lab } = this.cluster;
    await Promise.all(NODES.map((node) => lab.sh(node, "sync -f /srv", { timeoutMs: 120_000 })));
  }

  /**
   * Waits until all secondaries are there and have everything. Answers what was without its second copy since the last
   * call: what was measured meanwhile is not of a pair.
   */
  async waitForPairs(): Promise<string[]> {
    const away: string[] = [];
    for (const module of [MODULE, ...Object.keys(MODULES)]) {
      let epoch = 0;
      await until(`the secondary of module ${module}`, async () => {
        const text = await this.cluster.must("node2", ["status", module, "--json"]);
        const own = JSON.parse(text).nodes[0];
        epoch = own.epoch;
        return own.state === "secondary" && own.readiness === "ready";
      }, { timeoutMs: SECONDARY_MS, everyMs: 200 });
      if ((this.#epochs.get(module) ?? epoch) !== epoch) away.push(`module ${module}`);
      this.#epochs.set(module, epoch);
    }
    if (this.present.includes("gluster") && !await glusterWhole(this.cluster.lab)) away.push("GlusterFS");
    return away;
  }

  async #prepare(): Promise<void> {
    const { cluster } = this;
    await cluster.startBoth();
    for (const [name, { folder, port, how }] of Object.entries(MODULES)) {
      const durability = name === "fsync" ? "fsync" : "each-write";
      for (const node of NODES) await cluster.lab.sh(node, `mkdir -p ${folder}`);
      await cluster.apply(
        `module: ${name}\nkind: directory\nport: ${port}\n${how}` +
          `replicate:\n  - path: ${folder}\n    durability: ${durability}\n`,
      );
      await cluster.must("node1", ["start", name, "--as", "primary"], 60_000);
      await cluster.must("node2", ["start", name], 60_000);
    }
    await cluster.lab.sh("node1", `mkdir -p ${FOLDER.native} ${FOLDER.bindfs} ${BINDFS_BENEATH}`);
    await cluster.lab.sh("node1", `bindfs ${BINDFS_BENEATH} ${FOLDER.bindfs}`);
    if (this.present.includes("gluster")) await startGluster(cluster.lab, FOLDER.gluster);
    await this.waitForPairs();
  }
}
