import { assertEquals } from "@std/assert";
import { createHmac } from "node:crypto";
import { protocolOf } from "../protocol.ts";
import { Heartbeats } from "./heartbeats.ts";

/** Two nodes on one wire, by the newest version each speaks. */
class Pair {
  readonly #wire: { readonly to: string; readonly bytes: Uint8Array }[] = [];
  readonly #nodes = new Map<string, Heartbeats>();
  readonly log: string[] = [];
  /** Version byte of each datagram, by who sent it. */
  readonly spoken = new Map<string, number[]>();
  at = 1000;
  #run = 0n;

  start(node: "a" | "b", newest: number): void {
    const other = node === "a" ? "b" : "a";
    this.#nodes.set(
      node,
      new Heartbeats({
        node,
        peers: [{ node: other, addresses: { lan: other } }],
        sign: (bytes) => createHmac("sha256", "key").update(bytes).digest(),
        incarnation: ++this.#run,
        clock: { now: () => this.at, wall: () => "" },
        transport: {
          send: (_network, to, bytes) => {
            this.#wire.push({ to, bytes });
            this.spoken.set(node, [...this.spoken.get(node) ?? [], bytes[4] ?? 0]);
          },
        },
        reports: () => [],
        onReport: () => {},
        log: (line) => void this.log.push(`${node}: ${line}`),
        protocol: protocolOf(newest),
      }),
    );
  }

  /** Everybody speaks, and hears what was said, until the wire is silent. */
  beat(): void {
    this.at += 200;
    for (const node of this.#nodes.values()) node.sendAll();
    for (let next = this.#wire.shift(); next !== undefined; next = this.#wire.shift()) {
      this.#nodes.get(next.to)?.receive("lan", next.bytes);
    }
  }

  /** Who believes that the other one is there. */
  heard(): string[] {
    const now = (node: string, other: string) => this.#nodes.get(node)?.heardBy(other).get("lan") === this.at;
    return [...now("a", "b") ? ["a"] : [], ...now("b", "a") ? ["b"] : []];
  }
}

Deno.test("Heartbeats of a version and of the one before find the older one, whoever starts first", () => {
  for (const first of ["a", "b"] as const) {
    const pair = new Pair();
    pair.start(first, first === "a" ? 3 : 2);
    pair.beat();
    pair.start(first === "a" ? "b" : "a", first === "a" ? 2 : 3);
    for (let beats = 0; beats < 4; beats++) pair.beat();
    assertEquals(pair.heard(), ["a", "b"]);
    assertEquals([pair.spoken.get("a")?.at(-1), pair.spoken.get("b")?.at(-1)], [2, 2]);
  }
});

Deno.test("Heartbeats speak the newer version once both nodes are upgraded, and the older after one is taken back", () => {
  const pair = new Pair();
  const versions = (): unknown[] => [pair.spoken.get("a")?.at(-1), pair.spoken.get("b")?.at(-1)];
  pair.start("a", 3);
  pair.start("b", 3);
  for (const [node, newest, expected] of [["b", 4, 3], ["a", 4, 4], ["b", 3, 3]] as const) {
    for (let beats = 0; beats < 4; beats++) pair.beat();
    pair.start(node, newest);
    for (let beats = 0; beats < 4; beats++) pair.beat();
    assertEquals(pair.heard(), ["a", "b"]);
    assertEquals(versions(), [expected, expected]);
  }
});

Deno.test("Heartbeats refuse a node two versions behind, and say so", () => {
  const pair = new Pair();
  pair.start("a", 4);
  pair.start("b", 2);
  for (let beats = 0; beats < 4; beats++) pair.beat();
  assertEquals(pair.heard(), []);
  assertEquals(pair.log.some((line) => line.includes("protocol 2, this program speaks 3 to 4")), true);
});
