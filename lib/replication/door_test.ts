import { assertEquals } from "@std/assert";
import { Door, DOOR_LIMITS } from "./door.ts";
import type { Connection, Limit, Network } from "./network.ts";

/** A connection that says nothing; it ends when the door gives it up. */
class Silent implements Connection {
  readonly peer: { readonly address: string; readonly port: number };
  open = true;

  constructor(address: string) {
    this.peer = { address, port: 1 };
  }

  authenticate({ signal }: Limit): Promise<string | null> {
    return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
  }
  read(): Promise<void> {
    throw new Error("nothing was authenticated");
  }
  write(): Promise<void> {
    throw new Error("nothing was authenticated");
  }
  stirred(): Promise<boolean> {
    throw new Error("nothing was authenticated");
  }
  release(): never {
    throw new Error("nothing was authenticated");
  }
  close(): void {
    this.open = false;
  }
}

/** A network on which connections come when the test says so. */
class FakeNetwork implements Network {
  #waiting: ((connection: Connection) => void) | null = null;
  readonly #queue: Connection[] = [];

  now(): number {
    return 0;
  }
  randomId(): string {
    return "0".repeat(32);
  }
  connect(): Promise<Connection> {
    throw new Error("a door does not dial");
  }
  listen(endpoint: { readonly address: string; readonly port: number }): ReturnType<Network["listen"]> {
    return {
      endpoint,
      accept: (signal) =>
        new Promise((resolve, reject) => {
          const next = this.#queue.shift();
          if (next !== undefined) return resolve(next);
          this.#waiting = resolve;
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        }),
      close: () => {},
    };
  }

  /** Connections come in, and are looked at. */
  async come(addresses: readonly string[]): Promise<Silent[]> {
    const connections = addresses.map((address) => new Silent(address));
    for (const connection of connections) {
      const waiting = this.#waiting;
      this.#waiting = null;
      if (waiting === null) this.#queue.push(connection);
      else waiting(connection);
    }
    for (let i = 0; i < 20 * addresses.length; i++) await Promise.resolve();
    return connections;
  }
}

function open(known: readonly string[]): { door: Door; network: FakeNetwork } {
  const network = new FakeNetwork();
  const door = Door.open({
    network,
    endpoint: { address: "0.0.0.0", port: 9020 },
    crc32: () => 0,
    cluster: "c",
    module: "m",
    node: "n1",
    expected: ["n2"],
    known,
    decide: () => ({ accept: true, body: null }),
    onSession: () => {},
  });
  return { door, network };
}

function sources(count: number, net: string): string[] {
  return Array.from({ length: count }, (_, index) => `10.${net}.${index >> 8}.${index & 255}`);
}

function openOf(connections: readonly Silent[]): number {
  return connections.filter((connection) => connection.open).length;
}

Deno.test("Door keeps room for the peer however many sources come", async () => {
  const { door, network } = open(["10.0.0.2", "10.1.0.2"]);
  const before = await network.come(sources(300, "8"));
  assertEquals(openOf(before), DOOR_LIMITS.pendingMax);
  const peer = await network.come(["10.0.0.2", "10.0.0.2", "10.0.0.2"]);
  const after = await network.come(sources(300, "9"));
  assertEquals(openOf(peer), 3);
  assertEquals(openOf(before) + openOf(after), DOOR_LIMITS.pendingMax);
  await door.close();
});

Deno.test("Door bounds what a known source has open", async () => {
  const { door, network } = open(["10.0.0.2"]);
  const many = await network.come(Array.from({ length: 50 }, () => "10.0.0.2"));
  assertEquals(many.map(({ open }) => open).lastIndexOf(false), 50 - DOOR_LIMITS.pendingPerSource - 1);
  await door.close();
});

Deno.test("Door lets a source that floods push out only itself", async () => {
  const { door, network } = open([]);
  const [quiet] = await network.come(["10.7.0.1"]);
  const flood = await network.come(Array.from({ length: 50 }, () => "10.7.0.2"));
  assertEquals([quiet?.open, openOf(flood)], [true, DOOR_LIMITS.pendingPerSource]);
  await door.close();
});
