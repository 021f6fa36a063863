/**
 * `writer.c`, an application that checks every answer it gets, at work on a node's replicated directory.
 *
 * @module
 */
import { assertEquals, assertNotEquals } from "@std/assert";
import { type Cluster, DATA } from "./cluster.ts";
import { type HostProcess, must } from "./lab.ts";

const THREADS = 4;

/** Compiles it, once for a lab. */
export async function makeWriter(cluster: Cluster): Promise<void> {
  const source = new URL("writer.c", import.meta.url).pathname;
  await must(["gcc", "-O2", "-pthread", "-o", `${cluster.lab.folder}/shared/writer`, source]);
}

/** A writer at work on node1. */
export async function startWriter(
  cluster: Cluster,
  folder: string,
  threads: number = THREADS,
): Promise<HostProcess> {
  await cluster.lab.sh("node1", `mkdir ${DATA}/${folder}`);
  const writer = cluster.lab.spawn("node1", ["/run/lab/shared/writer", `${DATA}/${folder}`, `${threads}`]);
  await goesOn(writer);
  return writer;
}

/** Waits until the writer has gone on for a while: in two quarters of a second it has written more than before. */
export async function goesOn(writer: HostProcess): Promise<void> {
  const count = (line: string): number => Number(/^writes (\d+)/.exec(line)?.[1] ?? 0);
  for (let times = 0; times < 2; times++) {
    const before = count(writer.lines.at(-1) ?? "");
    await writer.line((line) => count(line) > before, 60_000, writer.lines.length);
  }
}

/** Ends the writer; not one of its calls may have failed. Prints what it did; answers its longest wait, milliseconds. */
export async function endWriter(writer: HostProcess, about: string): Promise<number> {
  writer.signal("SIGTERM");
  // The status is that of nsenter, which the signal ends too; the writer's own word is its last line.
  await writer.status();
  const errors = writer.lines.filter((line) => line.startsWith("error"));
  assertEquals(errors, []);
  const [, writes, stall, rate] =
    /^end writes (\d+) stall_us (\d+) errors 0 rate (\d+)$/.exec(writer.lines.at(-1) ?? "") ??
      [];
  assertNotEquals(rate, undefined, writer.lines.at(-1));
  const longest = Math.round(Number(stall) / 1000);
  // deno-lint-ignore no-console
  console.log(`    ${about}: ${writes} writes, ${rate}/s, longest wait ${longest} ms, 0 errors`);
  return longest;
}
