/**
 * `scripts/lab`: the lab by hand. One command per call; the lab stays up between calls.
 *
 * @module
 */
import { type HostName, HOSTS, Lab, type NetworkName, type NodeName } from "./lab.ts";

const USAGE = `scripts/lab [--prefix NAME] COMMAND

  up [--xfs] [--repl] [--binary FILE] [--store MIB]
                             boot node1, node2, witness and client on one network (--repl: a second, node to node)
  down                       take everything away
  off NODE...                power cut: wire, file system, processes
  on NODE...                 power on
  shutdown NODE              an orderly halt
  start NODE | stop NODE     binome keeper and binome agent on a node, now and at each boot
  run HOST CMD...            run a command inside
  cut A B                    drop every frame between two hosts  (--one-way: only from A to B; --network lan|repl)
  loss A B PERCENT           lose a share of them                (the same)
  heal                       undo every cut and loss
  unplug HOST | plug HOST    the cable                           (--network lan|repl)
  freeze HOST | thaw HOST    stop and resume every process; the kernel goes on answering ping
  arp                        the client's ARP cache

Hosts: node1 10.77.0.1, node2 10.77.0.2, witness 10.77.0.3, client 10.77.0.4. Default prefix: lab.
Inside a node: /run/lab/shared is common to all hosts, /run/lab/disk the node's whole store.
`;

class UsageError extends Error {}

/** Options stand before the words they belong to; what follows the host of `run` is the command's own. */
interface Words {
  readonly options: ReadonlyMap<string, string>;
  readonly words: readonly string[];
}

const VALUED = new Set(["prefix", "binary", "store", "network"]);

function read(argv: readonly string[]): Words {
  const options = new Map<string, string>();
  const words: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? "";
    if (words[0] === "run" && words.length > 1) return { options, words: [...words, ...argv.slice(i)] };
    if (!word.startsWith("--")) words.push(word);
    else if (VALUED.has(word.slice(2))) options.set(word.slice(2), argv[++i] ?? "");
    else options.set(word.slice(2), "yes");
  }
  return { options, words };
}

function host(word: string | undefined): HostName {
  if (word !== undefined && Object.hasOwn(HOSTS, word)) return word as HostName;
  throw new UsageError(`${JSON.stringify(word ?? "")} is no host: expected ${Object.keys(HOSTS).join(", ")}`);
}

function node(word: string | undefined): NodeName {
  if (word === "node1" || word === "node2") return word;
  throw new UsageError(`${JSON.stringify(word ?? "")} is no node: expected node1 or node2`);
}

function network(options: ReadonlyMap<string, string>): NetworkName | undefined {
  const word = options.get("network");
  if (word === undefined || word === "lan" || word === "repl") return word;
  throw new UsageError(`--network ${JSON.stringify(word)}: expected lan or repl`);
}

function cutOf(options: ReadonlyMap<string, string>): { oneWay: boolean; network?: NetworkName } {
  const name = network(options);
  return { oneWay: options.has("one-way"), ...(name === undefined ? {} : { network: name }) };
}

async function up(prefix: string, options: ReadonlyMap<string, string>): Promise<void> {
  const began = performance.now();
  const binary = options.get("binary");
  await Lab.up({
    prefix,
    detached: true,
    filesystem: options.has("xfs") ? "xfs" : "ext4",
    repl: options.has("repl"),
    ...(binary === undefined ? {} : { binary: await Deno.realPath(binary) }),
    ...(options.has("store") ? { storeMiB: Number(options.get("store")) } : {}),
  });
  print(`lab ${prefix} is up (${Math.round(performance.now() - began)} ms)\n`);
}

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(text));
}

async function runInside(lab: Lab, name: HostName, argv: readonly string[]): Promise<number> {
  if (argv.length === 0) throw new UsageError("run HOST CMD...: the command is missing");
  const [program, ...args] = lab.commandLine(name, argv);
  const child = new Deno.Command(program ?? "", {
    args,
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  });
  return (await child.spawn().status).code;
}

async function main(argv: readonly string[]): Promise<number> {
  const { options, words } = read(argv);
  const prefix = options.get("prefix") ?? "lab";
  const [command, ...rest] = words;
  if (command === undefined || options.has("help") || command === "help") {
    print(USAGE);
    return command === undefined && !options.has("help") ? 2 : 0;
  }
  if (command === "up") await up(prefix, options);
  else if (command === "down") await Lab.sweep(prefix);
  else return await act(Lab.open(prefix), command, rest, options);
  return 0;
}

async function act(
  lab: Lab,
  command: string,
  rest: readonly string[],
  options: ReadonlyMap<string, string>,
): Promise<number> {
  switch (command) {
    case "off":
      await lab.powerOff(host(rest[0]), ...rest.slice(1).map(host));
      return 0;
    case "on":
      await lab.powerOn(host(rest[0]), ...rest.slice(1).map(host));
      return 0;
    case "shutdown":
      await lab.shutdown(node(rest[0]));
      return 0;
    case "start":
      await lab.startBinome(node(rest[0]));
      return 0;
    case "stop":
      await lab.stopBinome(node(rest[0]));
      return 0;
    case "run":
      return await runInside(lab, host(rest[0]), rest.slice(1));
    case "cut":
      await lab.cut(host(rest[0]), host(rest[1]), cutOf(options));
      return 0;
    case "loss":
      await lab.loss(host(rest[0]), host(rest[1]), Number(rest[2]), cutOf(options));
      return 0;
    case "heal":
      await lab.heal();
      return 0;
    case "unplug":
      await lab.unplug(host(rest[0]), network(options));
      return 0;
    case "plug":
      await lab.plug(host(rest[0]), network(options));
      return 0;
    case "freeze":
      await lab.freeze(host(rest[0]));
      return 0;
    case "thaw":
      await lab.thaw(host(rest[0]));
      return 0;
    case "arp":
      for (const [address, mac] of await lab.arp()) print(`${address} ${mac}\n`);
      return 0;
    default:
      throw new UsageError(`${JSON.stringify(command)} is no command; scripts/lab help lists them`);
  }
}

try {
  Deno.exit(await main(Deno.args));
} catch (error) {
  if (!(error instanceof Error)) throw error;
  const words = error instanceof UsageError ? `Cannot understand: ${error.message}` : error.message;
  Deno.stderr.writeSync(new TextEncoder().encode(`lab: ${words}\n`));
  Deno.exit(error instanceof UsageError ? 2 : 1);
}
