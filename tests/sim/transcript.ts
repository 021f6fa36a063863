/**
 * Scenarios as text: commands after `>`, and beneath each what the nodes decided and where they stand.
 *
 * @module
 */

import { type Verb, VERBS, viewOf } from "../../lib/failover/mod.ts";
import { type SimNode, World } from "./world.ts";

/** Plays the commands of a scenario and answers the whole text as it came out. */
export function play(text: string): string {
  const lines = text.split("\n");
  const head = lines.filter((line) => line.startsWith("arbiter "))[0];
  const player = new Player(head);
  const out: string[] = [];
  for (const line of lines) {
    if (line.startsWith("#") || line.startsWith("arbiter ") || line === "") out.push(line);
    if (line.startsWith(">")) out.push(line, ...player.play(line.slice(1).trim()).map((said) => `  ${said}`));
  }
  return `${out.join("\n").trimEnd()}\n`;
}

class Player {
  readonly #world: World;
  readonly #seen = new Map<string, number>();
  #before = "";

  constructor(arbiter: string | undefined) {
    const kind = arbiter?.slice("arbiter ".length).trim() ?? "auto";
    this.#world = new World({
      seed: 1,
      arbiter: kind === "none"
        ? { kind: "none" }
        : { kind: "ping", mode: kind === "strict" ? "strict" : "auto" },
    });
  }

  play(command: string): readonly string[] {
    const start = this.#world.now;
    const said = this.#do(command.split(/\s+/));
    return [...said, ...this.#events(start), ...this.#states()];
  }

  #do(words: readonly string[]): readonly string[] {
    const world = this.#world;
    const [verb = "", first = "", second = ""] = words;
    switch (verb) {
      case "run":
        world.run(millis(first));
        return [];
      case "until": {
        const start = world.now;
        const wanted = words.slice(2).join(" ");
        world.until(`${first} is ${wanted}`, () => shown(world.node(first)) === wanted);
        return [`after ${world.now - start} ms`];
      }
      case "write": {
        let written = 0;
        for (let i = 0; i < Number(first); i++) written += world.write() ? 1 : 0;
        return [`${written} acknowledged`];
      }
      case "missing":
        return [`${world.missing(world.node(first)).length} acknowledged writes missing on ${first}`];
      case "power-off":
        world.powerOff(first);
        return [];
      case "power-on":
        world.powerOn(first);
        return [];
      case "kill-agent":
        world.killAgent(first);
        return [];
      case "start-agent":
        world.startAgent(first);
        return [];
      case "compare":
        world.beginComparison(first);
        return [];
      case "compared":
        world.endComparison(first);
        return [];
      case "cut":
        this.#cut(first, true);
        return [];
      case "heal":
        this.#cut(first, false);
        return [];
      case "fail":
        world.node(first).failNext = { task: second as "mount", reason: words.slice(3).join(" ") };
        return [];
      case "fail-for":
        world.node(first).failNext = {
          task: second as "mount",
          reason: words.slice(4).join(" "),
          until: world.now + millis(words[3] ?? ""),
        };
        return [];
      default:
        return [this.#command(verb, first)];
    }
  }

  #command(verb: string, node: string): string {
    const known = VERBS.find((one) => one === verb);
    if (known === undefined) throw new Error(`no such command: ${verb}`);
    const { ok, message } = this.#world.command(node, known as Verb);
    return `${ok ? "accepted" : "refused"}: ${message}`;
  }

  #cut(what: string, cut: boolean): void {
    const world = this.#world;
    switch (what) {
      case "all":
        world.cut = { ab: cut, ba: cut };
        return;
      case "heartbeats":
        // Hosts still answer each other: only our own traffic is lost.
        world.cut = { ab: cut, ba: cut };
        world.probesPass = cut;
        return;
      case "channel":
        world.channelCut = cut;
        return;
      case "witness-a":
        world.witness["a"] = !cut;
        return;
      case "witness-b":
        world.witness["b"] = !cut;
        return;
      default:
        throw new Error(`cannot cut ${what}`);
    }
  }

  #events(start: number): readonly string[] {
    return [this.#world.a, this.#world.b].flatMap((node) => {
      const from = this.#seen.get(node.name) ?? 0;
      this.#seen.set(node.name, node.log.length);
      return node.log.slice(from).map((line) => {
        const [at = "0", ...rest] = line.split(" ");
        return `${node.name} +${Number(at) - start} ${rest.join(" ")}`;
      });
    });
  }

  #states(): readonly string[] {
    const states = [this.#world.a, this.#world.b].map(line);
    const now = states.join("\n");
    if (now === this.#before) return [];
    this.#before = now;
    return states;
  }
}

function shown(node: SimNode): string {
  if (!node.powered) return "off";
  const { name, readiness } = viewOf(node.state);
  return `${name} ${readiness}`;
}

function line(node: SimNode): string {
  const { durable } = node;
  const has = [node.mounted && "mount", node.vip && "address", node.service && "service"].filter(Boolean)
    .join(" ");
  const members = `epoch ${durable.epoch} of ${durable.members.join("+") || "nobody"}`;
  return `= ${node.name}: ${shown(node)}, ${members}, copy ${durable.copy}${
    has === "" ? "" : `, has ${has}`
  }`;
}

function millis(text: string): number {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text);
  if (match === null) throw new Error(`no length of time: ${text}`);
  return Number(match[1]) * ({ ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match[2] ?? ""] ?? 0);
}
