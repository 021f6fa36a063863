/**
 * A replication channel over loopback, both ends in this process, for tests.
 *
 * @module
 */

import { crc32 as zlib } from "node:zlib";
import { dial, type DialOptions } from "../../replication/dial.ts";
import { Door, type DoorOptions, type Refusal } from "../../replication/door.ts";
import type { Hello } from "../../replication/hello.ts";
import type { Session } from "../../replication/stream.ts";
import { openNetwork, type RealNetwork, type Security } from "../network.ts";
import { sealLibrary } from "../seal_library.ts";
import { tlsLibrary } from "../tls_library.ts";
import { writeCertificates } from "./certificates.ts";

// Loaded for the life of the process: a test that loads it first must not look as if it leaked it.
tlsLibrary();
sealLibrary();

/** zlib's, as the channel takes it. */
export const crc32 = (bytes: Uint8Array, value?: number): number => zlib(bytes, value);

/** How a node of the test's cluster secures its channel. */
export interface TestCertificates extends AsyncDisposable {
  of(node: string): Extract<Security, { readonly encryption: "on" }>;
}

/** Certificates of node1, node2 and node3 of one cluster, in a directory removed at the end of the test. */
export async function tlsSecurity(): Promise<TestCertificates> {
  const directory = await Deno.makeTempDir();
  const files = await writeCertificates(directory, ["node1", "node2", "node3"]);
  return {
    of(node) {
      const paths = files.get(node);
      if (paths === undefined) throw new TypeError(`no certificate for ${node}`);
      return { encryption: "on", files: paths };
    },
    [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }),
  };
}

/** Without encryption, one key for all. */
export const PLAIN: Security = { encryption: "off", clusterKey: new Uint8Array(32).fill(7) };

/** A door of node1 for node2, and what came through it. */
export class TestDoor {
  readonly door: Door;
  readonly network: RealNetwork;
  readonly sessions: Session<Hello>[] = [];
  readonly replaced: (string | null)[] = [];
  readonly refusals: Refusal[] = [];
  readonly #waiting: (() => void)[] = [];

  constructor(security: Security, options: Partial<DoorOptions> = {}) {
    this.network = openNetwork(security);
    this.door = Door.open({
      network: this.network,
      endpoint: { address: "127.0.0.1", port: 0 },
      crc32,
      cluster: "plant",
      module: "bms",
      node: "node1",
      expected: ["node2"],
      known: [],
      decide: (hello) => ({ accept: true, body: { echo: hello.body } }),
      onSession: (session, replaces) => {
        this.sessions.push(session);
        this.replaced.push(replaces);
        this.#tell();
      },
      onRefused: (refusal) => {
        this.refusals.push(refusal);
        this.#tell();
      },
      ...options,
    });
  }

  /** Resolves once something came through or was refused and `condition` holds; rejects after five seconds. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      const happened = Promise.withResolvers<void>();
      this.#waiting.push(happened.resolve);
      const limit = setTimeout(() => happened.reject(new Error(`nothing came: ${this.#seen()}`)), 5000);
      await happened.promise.finally(() => clearTimeout(limit));
    }
  }

  #seen(): string {
    return JSON.stringify({ counters: this.door.counters, refusals: this.refusals });
  }

  #tell(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.sessions) session.cut();
    await this.door.close();
    await this.network.close();
  }
}

/** Dials as node2, with a network of its own. */
export async function dialAs(
  security: Security,
  door: TestDoor,
  options: Partial<DialOptions> = {},
): ReturnType<typeof dial> {
  const network = openNetwork(security);
  try {
    return await dial({
      network,
      endpoints: [door.door.endpoint],
      crc32,
      cluster: "plant",
      module: "bms",
      node: "node2",
      expected: "node1",
      body: { hello: "there" },
      timeoutMs: 3000,
      ...options,
    });
  } finally {
    await network.close();
  }
}
