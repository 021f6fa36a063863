/**
 * The lab: two nodes, a witness and a client on one bridge, each a set of namespaces on this machine.
 *
 * A host has its own network, PIDs, mounts, host name and IPC. A node keeps `/srv`, `/var/lib/binome`, `/var/log` and
 * what it changes in `/etc` and `/var/lib` on a loop-mounted file system of its own, so that a power cut loses exactly
 * what was not synced. `/run` and `/tmp` are new at each boot. Inside every host `/run/lab/tests` is this folder,
 * `/run/lab/shared` one folder common to all, and on a node `/run/lab/disk` its whole store.
 *
 * Everything belongs to one control group per lab: with its processes go namespaces, mounts and wires. A warden process
 * holds a pipe from the owner and sweeps when the owner ends, however it ends.
 *
 * @module
 */
import { emptied, hierarchy, killAll, populated, removeTree, setFrozen } from "./cgroup.ts";
import { arpTable, type Cut, Network, type NetworkName } from "./network.ts";
import { CommandError, type ExecResult, must, run, until } from "./process.ts";
import { HostProcess } from "./host_process.ts";
import { compileDisk, cutStore, makeStore, type StoreKind } from "./store.ts";

export { CommandError, type ExecResult, HostProcess, must, type NetworkName, run, type StoreKind, until };

/** The hosts of a lab; the number is the last byte of the address and of the MAC. */
export const HOSTS = { node1: 1, node2: 2, witness: 3, client: 4 } as const;
/** A host of the lab. */
export type HostName = keyof typeof HOSTS;
/** A host with a store, that can run Binome. */
export type NodeName = "node1" | "node2";

/** How a lab is made. */
export interface LabOptions {
  /** Name of this lab; labs with different names run side by side. Letters, digits, `-`. */
  readonly prefix: string;
  /** The program to test, `/usr/local/bin/binome` in the hosts. Default `dist/binome` where it exists. */
  readonly binary?: string;
  readonly filesystem?: "ext4" | "xfs";
  /** Size of a node's store; the image is sparse. */
  readonly storeMiB?: number;
  /** What the nodes' stores lie on. Default `image`. */
  readonly store?: StoreKind;
  /** A second network, between the nodes alone: 10.78.0.0/24 on `e1`. */
  readonly repl?: boolean;
  /** Whether the lab outlives this process; then someone must call {@link Lab.sweep}. */
  readonly detached?: boolean;
}

/** How a command is run inside a host. */
export interface ExecOptions {
  readonly timeoutMs?: number;
  readonly stdin?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Run as this user, with that user's groups. Default root. */
  readonly user?: string;
}

const HERE = new URL(".", import.meta.url).pathname.replace(/\/$/, "");
const BINARY = new URL("../../dist/binome", import.meta.url).pathname;
const BOOT_TIMEOUT_MS = 60_000;

/** Where the labs of this machine keep their folders; must be a real file system, not an overlay's upper half. */
function labFolder(): string {
  return Deno.env.get("BINOME_LAB_DIR") ?? "/var/tmp/binome-lab";
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Waits for all of them, then throws the first failure: what still boots must not race with what takes it away. */
async function all(works: readonly Promise<void | string>[]): Promise<void> {
  for (const result of await Promise.allSettled(works)) if (result.status === "rejected") throw result.reason;
}

/** A running lab. */
export class Lab {
  readonly prefix: string;
  /** Folder of the lab: images, consoles, and `shared`. */
  readonly folder: string;
  readonly options: LabOptions;
  readonly #group: string;
  readonly #network: Network;
  #warden: Deno.ChildProcess | undefined;
  #execs = 0;

  private constructor(options: LabOptions) {
    if (!/^[a-zA-Z0-9-]{1,40}$/.test(options.prefix)) {
      throw new Error(`Cannot name a lab ${JSON.stringify(options.prefix)}: use letters, digits and -`);
    }
    this.prefix = options.prefix;
    this.options = options;
    this.folder = `${labFolder()}/${options.prefix}`;
    this.#group = `${hierarchy()}/binome-lab/${options.prefix}`;
    this.#network = new Network(() => this.#pid("switch"));
  }

  /** Takes away what a lab of this name left, then boots the network, the witness, the client and both nodes. */
  static async up(options: LabOptions): Promise<Lab> {
    const lab = new Lab(options);
    if (options.binary !== undefined && !exists(options.binary)) {
      throw new Error(
        `Cannot bring the lab ${options.prefix} up: ${options.binary} is missing; run scripts/compile`,
      );
    }
    if (options.detached === true) await Lab.sweep(options.prefix);
    else await lab.#startWarden();
    try {
      await lab.#boot();
      return lab;
    } catch (error) {
      await lab.down();
      throw error;
    }
  }

  /** Finds a lab that another process has brought up. */
  static open(prefix: string): Lab {
    const file = `${labFolder()}/${prefix}/lab.json`;
    if (!exists(file)) throw new Error(`Cannot find a lab named ${prefix}: bring it up first`);
    return new Lab(JSON.parse(Deno.readTextFileSync(file)) as LabOptions);
  }

  /** Takes a lab away, from outside. Fails while a process that owns it lives. */
  static async sweep(prefix: string): Promise<void> {
    const lab = new Lab({ prefix });
    await must(["sh", `${HERE}/warden.sh`, "once", lab.#group, lab.folder], { timeoutMs: 60_000 });
  }

  /** Takes the lab away: no process, mount, loop device or file of it is left. */
  async down(): Promise<void> {
    const warden = this.#warden;
    if (warden === undefined) return await Lab.sweep(this.prefix);
    this.#warden = undefined;
    await warden.stdin.close();
    const { code } = await warden.status;
    if (code !== 0) throw new Error(`Cannot take the lab ${this.prefix} away: the warden's words are above`);
  }

  /** {@link down}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }

  /** The address of a host. */
  address(host: HostName, network: NetworkName = "lan"): string {
    return `${network === "lan" ? "10.77.0" : "10.78.0"}.${HOSTS[host]}`;
  }

  /** The MAC address of a host's `e0`. */
  mac(host: HostName): string {
    return `02:00:00:77:00:0${HOSTS[host]}`;
  }

  /** Whether a host is powered on. */
  isOn(host: HostName): boolean {
    return populated(this.#hostGroup(host));
  }

  /** Number of a host's PID 1 as this machine counts: for `/proc/N/root` and nsenter. */
  init(host: HostName): number {
    return this.#pid(host);
  }

  /**
   * Runs a command inside a host and waits for it. It dies and freezes with the host. When the limit passes (default
   * 60 s) it is killed with all it started.
   */
  async exec(host: HostName, argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const group = this.#execGroup(host);
    const result = await run(this.#enter(host, group, argv, options), {
      timeoutMs: options.timeoutMs ?? 60_000,
      ...(options.stdin === undefined ? {} : { stdin: options.stdin }),
      onTimeout: () => killAll(group),
    });
    // A daemon that the command left behind keeps the group; it goes with the host.
    if (!populated(group)) removeTree(group);
    return result;
  }

  /** Runs a shell script inside a host that must succeed; answers what it printed. */
  async sh(host: HostName, script: string, options: ExecOptions = {}): Promise<string> {
    const result = await this.exec(host, ["sh", "-euc", script], options);
    if (result.code !== 0 || result.timedOut) throw new CommandError(`${host}: ${script}`, result);
    return result.stdout;
  }

  /** Starts a command inside a host without waiting: its lines can be read while it runs, and it can be stopped. */
  spawn(host: HostName, argv: readonly string[], options: Omit<ExecOptions, "timeoutMs"> = {}): HostProcess {
    const group = this.#execGroup(host);
    return new HostProcess(this.#enter(host, group, argv, options), group, options.stdin);
  }

  /** The command line that runs `argv` inside a host, for a caller that hands its own terminal over. */
  commandLine(host: HostName, argv: readonly string[]): string[] {
    return this.#enter(host, this.#execGroup(host), argv, {});
  }

  /** Writes a file inside a host. */
  async write(host: HostName, path: string, text: string, mode = "644"): Promise<void> {
    const script = `mkdir -p "$(dirname "$1")" && cat > "$1" && chmod ${mode} "$1"`;
    const result = await this.exec(host, ["sh", "-euc", script, "sh", path], { stdin: text });
    if (result.code !== 0) throw new CommandError(`${host}: write ${path}`, result);
  }

  /**
   * A power cut, of several nodes at once where several are named: the wire, then the file system (nothing unsynced
   * reaches the disk from here on; of several nodes at the same time), then every process, the namespaces and the mounts.
   */
  async powerOff(...hosts: readonly HostName[]): Promise<void> {
    const wires = hosts.map((host) => this.#network.setWires(host, this.#networks(host), false));
    const stores = hosts.filter((host) => this.#hasStore(host));
    // Of several nodes all at once: in the moment between, their disks would flush what the last answers rest on.
    if (stores.length < 2) await all(wires);
    await all([
      ...wires,
      ...stores.map((host) => cutStore(this.#pid(host), this.#store, Math.random() < 0.75)),
    ]);
    await all(hosts.map((host) => this.#end(host)));
  }

  /** Powers hosts on: the store's journal is recovered, `/run` is new, Binome starts if it was started before. */
  async powerOn(...hosts: readonly HostName[]): Promise<void> {
    await all(hosts.map((host) => this.#bootHost(host)));
  }

  /** An orderly halt: the agent is asked to stop, the file system is unmounted clean. */
  async shutdown(node: NodeName): Promise<void> {
    await this.sh(node, "[ ! -e /run/lab/supervise ] || sh /run/lab/tests/supervise.sh shutdown", {
      timeoutMs: 180_000,
    });
    await this.#network.setWires(node, this.#networks(node), false);
    // The disk itself ends with the host.
    if (this.#store === "volatile") await this.sh(node, "sync -f /run/lab/disk");
    await this.#end(node);
  }

  /** What a volatile disk says of its cuts, a line each. */
  async diskLog(node: NodeName): Promise<string> {
    return await Deno.readTextFile(`${this.folder}/${node}/disk.log`);
  }

  /** Starts `binome keeper` and `binome agent` on a node, now and at each boot; a death is followed by a restart. */
  async startBinome(node: NodeName): Promise<void> {
    await this.sh(node, "test -x /usr/local/bin/binome && sh /run/lab/tests/supervise.sh start");
  }

  /** Stops the agent and the keeper of a node by SIGTERM. */
  async stopBinome(node: NodeName): Promise<void> {
    await this.sh(node, "sh /run/lab/tests/supervise.sh stop", { timeoutMs: 180_000 });
  }

  /** The log of one of a node's processes: `keeper`, `agent` or `supervise`. Works when the node is on. */
  async log(node: NodeName, name: string): Promise<string> {
    return await this.sh(node, `cat /var/log/binome/${name}.log`);
  }

  /** Stops every process of a host; its kernel goes on answering ARP and ping. */
  async freeze(host: HostName): Promise<void> {
    await setFrozen(this.#hostGroup(host), true);
  }

  /** Resumes a frozen host. */
  async thaw(host: HostName): Promise<void> {
    await setFrozen(this.#hostGroup(host), false);
  }

  /** Drops every frame between two hosts, silently: both ways, or only from `a` to `b`. */
  async cut(a: HostName, b: HostName, how: Cut = {}): Promise<void> {
    await this.#network.drop(a, b, 100, how);
  }

  /** Loses a share of the frames between two hosts. */
  async loss(a: HostName, b: HostName, percent: number, how: Cut = {}): Promise<void> {
    await this.#network.drop(a, b, percent, how);
  }

  /** Undoes every cut and loss. */
  async heal(): Promise<void> {
    await this.#network.heal();
  }

  /** Pulls a host's cable out; the host sees that it has no carrier. */
  async unplug(host: HostName, network: NetworkName = "lan"): Promise<void> {
    await this.#network.setWires(host, [network], false);
  }

  /** Puts a host's cable back. */
  async plug(host: HostName, network: NetworkName = "lan"): Promise<void> {
    await this.#network.setWires(host, [network], true);
  }

  /** The ARP cache of a host, as address → MAC; entries without a MAC are left out. */
  async arp(host: HostName = "client"): Promise<Map<string, string>> {
    return await arpTable(this.#pid(host));
  }

  /**
   * Compares a folder of two nodes by `compare.py`, each listed inside its node. Answers the differences, none when
   * equal.
   */
  async compare(
    a: { readonly node: NodeName; readonly path: string },
    b: { readonly node: NodeName; readonly path: string },
    options: { readonly withoutXattrs?: readonly string[]; readonly timeoutMs?: number } = {},
  ): Promise<string[]> {
    const without = (options.withoutXattrs ?? []).flatMap((name) => ["--without-xattr", name]);
    const lists = await Promise.all([a, b].map(async ({ node, path }, index) => {
      const file = `/run/lab/shared/list-${++this.#execs}-${index}`;
      const list = ["/usr/bin/python3", "/run/lab/tests/compare.py", ...without, "--list", path];
      await this.sh(node, `${list.map((word) => `'${word}'`).join(" ")} > ${file}`, {
        timeoutMs: options.timeoutMs ?? 120_000,
      });
      return file.replace("/run/lab/shared", `${this.folder}/shared`);
    }));
    const result = await run(["/usr/bin/python3", `${HERE}/compare.py`, ...lists], {
      timeoutMs: options.timeoutMs ?? 120_000,
    });
    for (const file of lists) Deno.removeSync(file);
    if (result.code > 1) throw new CommandError("compare.py", result);
    return result.stdout.split("\n").filter(Boolean);
  }

  #pid(name: HostName | "switch"): number {
    const path = `${this.folder}/${name}/pid`;
    if (!exists(path)) throw new Error(`Cannot reach ${name} of lab ${this.prefix}: it is powered off`);
    return Number(Deno.readTextFileSync(path));
  }

  #hostGroup(name: HostName | "switch"): string {
    return `${this.#group}/${name}`;
  }

  #hasStore(host: HostName): host is NodeName {
    return host === "node1" || host === "node2";
  }

  get #store(): StoreKind {
    return this.options.store ?? "image";
  }

  #networks(host: HostName): NetworkName[] {
    return this.options.repl === true && this.#hasStore(host) ? ["lan", "repl"] : ["lan"];
  }

  async #startWarden(): Promise<void> {
    const warden = new Deno.Command("setsid", {
      args: ["sh", `${HERE}/warden.sh`, "hold", this.#group, this.folder],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = warden.stdout.getReader();
    const { value } = await reader.read();
    await reader.cancel();
    if (value === undefined) {
      await warden.stdin.close();
      await warden.status;
      throw new Error(`Cannot bring the lab ${this.prefix} up: the warden's words are above`);
    }
    this.#warden = warden;
  }

  async #boot(): Promise<void> {
    Deno.mkdirSync(`${this.folder}/shared`, { recursive: true });
    // Beside the lab, so that another process can open it.
    Deno.writeTextFileSync(`${this.folder}/lab.json`, JSON.stringify(this.options));
    const disk = this.#store === "volatile"
      ? compileDisk(`${this.folder}/shared/volatile_disk`)
      : Promise.resolve();
    await all([this.#bootSwitch(), this.#makeStore("node1"), this.#makeStore("node2"), disk]);
    await all((Object.keys(HOSTS) as HostName[]).map((host) => this.#bootHost(host)));
  }

  /** The switch is a process in a network namespace of its own: nothing here touches the machine's own network. */
  async #bootSwitch(): Promise<void> {
    await this.#launch(
      "switch",
      ["--net"],
      ["-c", 'echo $$ >"$HOST/pid.new"; mv "$HOST/pid.new" "$HOST/pid"; exec tini -s -- sleep infinity'],
      {},
    );
    await this.#network.bootSwitch();
  }

  async #makeStore(node: NodeName): Promise<void> {
    Deno.mkdirSync(`${this.folder}/${node}`, { recursive: true });
    const { filesystem = "ext4", storeMiB: mib = 2048 } = this.options;
    await makeStore(`${this.folder}/${node}/store.img`, { filesystem, mib });
  }

  async #bootHost(host: HostName): Promise<void> {
    if (this.isOn(host)) throw new Error(`Cannot power ${host} on: it is on`);
    const networks = this.#networks(host);
    const binary = this.options.binary ?? (exists(BINARY) ? BINARY : "");
    const names = (Object.keys(HOSTS) as HostName[]).map((name) => `${this.address(name)} ${name}`);
    await this.#launch(host, ["--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork"], [
      `${HERE}/host.sh`,
    ], {
      NAME: host,
      TESTS: HERE,
      SHARED: `${this.folder}/shared`,
      BINARY: binary,
      STORE: this.#hasStore(host) ? `${this.folder}/${host}/store.img` : "",
      DISK: this.#store === "volatile" ? `${this.folder}/shared/volatile_disk` : "",
      LAN: `${this.address(host)}/24`,
      REPL: networks.includes("repl") ? `${this.address(host, "repl")}/24` : "",
      HOSTS: names.join("\n"),
    });
    const pid = this.#pid(host);
    for (const network of networks) await this.#network.wire(host, HOSTS[host], network, pid);
    await this.#booted(host, pid);
  }

  /** Starts the first process of a host in its control group; answers once it has told its number. */
  async #launch(
    name: HostName | "switch",
    namespaces: readonly string[],
    shell: readonly string[],
    env: Readonly<Record<string, string>>,
  ): Promise<void> {
    const home = `${this.folder}/${name}`;
    const group = this.#hostGroup(name);
    Deno.mkdirSync(`${home}/run`, { recursive: true });
    Deno.mkdirSync(group, { recursive: true });
    // The shell ends at once: the host is nobody's child, and lives as long as its control group.
    const script =
      'echo $$ >"$1/cgroup.procs"; shift; setsid unshare "$@" </dev/null >>"$HOST/console.log" 2>&1 &';
    await must([
      "env",
      `HOST=${home}`,
      ...Object.entries(env).map(([key, value]) => `${key}=${value}`),
      "sh",
      "-c",
      script,
      "sh",
      group,
      ...namespaces,
      "sh",
      ...shell,
    ]);
    await until(`${name} to start`, () => exists(`${home}/pid`) || !populated(group), {
      timeoutMs: BOOT_TIMEOUT_MS,
      everyMs: 2,
    });
  }

  async #booted(host: HostName, pid: number): Promise<void> {
    const name = (): string => {
      try {
        return Deno.readTextFileSync(`/proc/${pid}/comm`).trim();
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return "gone";
        throw error;
      }
    };
    await until(`${host} to boot`, () => name() === "tini" || name() === "gone", {
      timeoutMs: BOOT_TIMEOUT_MS,
    });
    if (name() === "tini") return;
    const console = Deno.readTextFileSync(`${this.folder}/${host}/console.log`).trim();
    throw new Error(`Cannot boot ${host}: ${console.split("\n").slice(-5).join("\n")}`);
  }

  /** Kills everything in a host and waits until its mounts and wires are gone. */
  async #end(host: HostName): Promise<void> {
    const group = this.#hostGroup(host);
    killAll(group);
    await emptied(group, BOOT_TIMEOUT_MS);
    removeTree(group);
    await this.#network.removePorts(host, this.#networks(host));
    Deno.removeSync(`${this.folder}/${host}/pid`);
    if (!this.#hasStore(host)) return;
    // `store.img`, or `store.disk` that lies over it.
    await until(
      `the file system of ${host} to be unmounted`,
      async () =>
        !(await must(["losetup", "-l", "-n", "-O", "BACK-FILE"])).includes(`${this.folder}/${host}/store.`),
    );
  }

  #execGroup(host: HostName): string {
    const group = `${this.#hostGroup(host)}/exec-${Deno.pid}-${++this.#execs}`;
    if (!this.isOn(host)) throw new Error(`Cannot run a command on ${host}: it is powered off`);
    Deno.mkdirSync(group);
    return group;
  }

  /** The command line that joins a host's control group and namespaces and runs `argv` there. */
  #enter(host: HostName, group: string, argv: readonly string[], options: ExecOptions): string[] {
    const become =
      'user=$1; shift; exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@"';
    const user = options.user === undefined ? [] : ["sh", "-c", become, "sh", options.user];
    const env = {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: options.user === undefined ? "/root" : "/tmp",
      LANG: "C.UTF-8",
      ...options.env,
    };
    return [
      "sh",
      "-c",
      'echo $$ >"$1/cgroup.procs" || exit 126; shift; exec nsenter "$@"',
      "sh",
      group,
      "-t",
      `${this.#pid(host)}`,
      "-m",
      // Its root, not the one of its mount namespace: they differ when the lab itself runs in a chroot.
      "-r",
      "-u",
      "-i",
      "-n",
      "-p",
      "-C",
      "--",
      "env",
      "-i",
      "-C",
      options.cwd ?? "/",
      ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
      ...user,
      ...argv,
    ];
  }
}
