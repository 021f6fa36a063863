/**
 * Two sides and what is done to them by hand, for tests of the comparison case by case.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { OP } from "../../lib/journal/record.ts";
import { Mutation } from "../../lib/replication/mutation.ts";
import { backing } from "../../lib/system/backing.ts";
import { addressOf } from "../../lib/system/libc.ts";
import { terminated } from "./chance.ts";
import { describeTree } from "./compare.ts";
import { ok, Session, Side } from "./twins.ts";

backing.umask(0);

/** Two sides over one root, and mutations by hand. */
export class Pair {
  readonly path: string;
  readonly source: Side;
  readonly target: Side;
  readonly mutation = new Mutation();
  next = 16;
  readonly #payload = new Uint8Array(1 << 20);
  readonly #address = addressOf(this.#payload);

  constructor() {
    this.path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "reconcile-case-" });
    this.source = new Side(`${this.path}/source`, 1, () => this.next++);
    this.target = new Side(`${this.path}/target`, 1, () => {
      throw new Error("a target gives no ids");
    });
  }

  /** Executes the mutation on both sides, or on one. */
  do(mutation: Mutation, where: "both" | "source" | "target" = "both"): void {
    if (where !== "target") ok(this.source.mutate(mutation));
    if (where === "target") ok(this.target.mutate(mutation));
    if (where === "both") this.target.apply(mutation);
  }

  make(op: number, parent: number, name: string): Mutation {
    const mutation = this.mutation.reset(op, this.next++);
    mutation.a = 0o755;
    mutation.c = parent;
    mutation.name = terminated(name);
    return mutation;
  }

  mkdir(parent: number, name: string, where: "both" | "source" | "target" = "both"): number {
    const mutation = this.make(OP.mkdir, parent, name);
    this.do(mutation, where);
    return mutation.id;
  }

  create(parent: number, name: string, where: "both" | "source" | "target" = "both"): number {
    const mutation = this.make(OP.create, parent, name);
    this.do(mutation, where);
    return mutation.id;
  }

  rename(id: number, from: [number, string], to: [number, string]): Mutation {
    const mutation = this.mutation.reset(OP.rename, id);
    mutation.c = from[0];
    mutation.name = terminated(from[1]);
    mutation.a = to[0];
    mutation.other = terminated(to[1]);
    return mutation;
  }

  unlink(op: number, id: number, parent: number, name: string): Mutation {
    const mutation = this.mutation.reset(op, id);
    mutation.c = parent;
    mutation.name = terminated(name);
    return mutation;
  }

  write(id: number, offset: number, length: number, byte: number): Mutation {
    const mutation = this.mutation.reset(OP.write, id);
    this.#payload.fill(byte, 0, length);
    mutation.a = offset;
    mutation.b = mutation.payloadLength = length;
    mutation.payloadAddress = this.#address;
    return mutation;
  }

  session(ids: Iterable<number> | "whole", quarantine?: string): Session {
    const whole = ids === "whole";
    const place = quarantine === undefined ? {} : { quarantine };
    return new Session(this.source, this.target, { whole, ids: whole ? [] : ids, ...place });
  }

  assertEqual(): void {
    assertEquals(describeTree(this.target.roots[0]?.fd ?? -1), describeTree(this.source.roots[0]?.fd ?? -1));
  }

  [Symbol.dispose](): void {
    this.source.close();
    this.target.close();
    Deno.removeSync(this.path, { recursive: true });
  }
}
