/**
 * The wires of a lab: one bridge per network, in the switch's namespace, and a table there that drops frames.
 *
 * @module
 */
import { must } from "./process.ts";

/** `lan` joins all hosts (`e0`), `repl` only the nodes (`e1`). */
export type NetworkName = "lan" | "repl";

/** Which frames between two hosts a cut or a loss takes. */
export interface Cut {
  /** Only from the first to the second; default both ways. */
  readonly oneWay?: boolean;
  /** Default every network the two share. */
  readonly network?: NetworkName;
}

/** Per network: its bridge, the host's interface, the letter of the switch's ports and of the MAC. */
const NETWORKS = {
  lan: { bridge: "br0", inside: "e0", port: "p", mac: "77" },
  repl: { bridge: "br1", inside: "e1", port: "r", mac: "78" },
} as const;

// Before every other hook (-300): a frame that is cut is seen by nobody.
const CUT_TABLE = `table bridge cut {
  chain forward {
    type filter hook forward priority -300;
  }
}
`;

/** The networks of one lab. */
export class Network {
  readonly #switchPid: () => number;

  /** @param switchPid number of the switch's first process. */
  constructor(switchPid: () => number) {
    this.#switchPid = switchPid;
  }

  /** Makes the bridges and the table. */
  async bootSwitch(): Promise<void> {
    const bridges = Object.values(NETWORKS).map(({ bridge }) =>
      // No spanning tree and no delay: a port forwards as soon as it is up.
      `link add ${bridge} type bridge stp_state 0 forward_delay 0\nlink set ${bridge} up\n`
    );
    await this.#inSwitch(["ip", "-batch", "-"], `link set lo up\n${bridges.join("")}`);
    await this.#inSwitch(["nft", "-f", "-"], CUT_TABLE);
  }

  /** Plugs a host, named by its first process, into a network. */
  async wire(host: string, number: number, name: NetworkName, pid: number): Promise<void> {
    const { bridge, inside, port, mac } = NETWORKS[name];
    const peer = `peer name ${inside} address 02:00:00:${mac}:00:0${number} netns ${pid}`;
    await this.#inSwitch(
      ["ip", "-batch", "-"],
      `link add ${port}-${host} type veth ${peer}\nlink set ${port}-${host} master ${bridge} up\n`,
    );
  }

  /** Pulls a host's cables out, or puts them back. */
  async setWires(host: string, names: readonly NetworkName[], plugged: boolean): Promise<void> {
    const lines = names.map((name) => `link set ${NETWORKS[name].port}-${host} ${plugged ? "up" : "down"}\n`);
    await this.#inSwitch(["ip", "-batch", "-"], lines.join(""));
  }

  /** Removes a host's ports, and with them its interfaces. */
  async removePorts(host: string, names: readonly NetworkName[]): Promise<void> {
    for (const name of names) {
      // The kernel removes the pair by itself once the host's namespace is gone: then there is nothing to do.
      const port = `${NETWORKS[name].port}-${host}`;
      await this.#inSwitch([
        "sh",
        "-c",
        `! ip link show ${port} >/dev/null 2>&1 || ip link del ${port} || ! ip link show ${port}`,
      ]);
    }
  }

  /** Drops `percent` of the frames between two hosts. */
  async drop(a: string, b: string, percent: number, how: Cut): Promise<void> {
    if (!Number.isInteger(percent) || percent < 1 || percent > 100) {
      throw new Error(`Cannot lose ${percent} % of the frames: expected a whole number from 1 to 100`);
    }
    const chance = percent === 100 ? "" : `numgen random mod 100 < ${percent} `;
    const ways = how.oneWay === true ? [[a, b]] : [[a, b], [b, a]];
    const names: readonly NetworkName[] = how.network === undefined ? ["lan", "repl"] : [how.network];
    const rules = ways.flatMap(([from, to]) =>
      names.map((name) => {
        const port = NETWORKS[name].port;
        return `add rule bridge cut forward iifname "${port}-${from}" oifname "${port}-${to}" ${chance}counter drop\n`;
      })
    );
    await this.#inSwitch(["nft", "-f", "-"], rules.join(""));
  }

  /** Undoes every {@link drop}. */
  async heal(): Promise<void> {
    await this.#inSwitch(["nft", "flush", "chain", "bridge", "cut", "forward"]);
  }

  async #inSwitch(argv: readonly string[], stdin?: string): Promise<void> {
    const enter = ["nsenter", "-t", `${this.#switchPid()}`, "-n", "--", ...argv];
    await must(enter, stdin === undefined ? {} : { stdin });
  }
}

interface Neighbour {
  readonly dst: string;
  readonly lladdr?: string;
}

/** The ARP cache of the host with this first process: address → MAC. */
export async function arpTable(pid: number): Promise<Map<string, string>> {
  const text = await must([
    "nsenter",
    "-t",
    `${pid}`,
    "-n",
    "--",
    "ip",
    "-j",
    "-4",
    "neigh",
    "show",
    "dev",
    "e0",
  ]);
  const rows = JSON.parse(text === "" ? "[]" : text) as readonly Neighbour[];
  return new Map(rows.flatMap(({ dst, lladdr }) => lladdr === undefined ? [] : [[dst, lladdr]]));
}
