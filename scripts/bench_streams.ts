/**
 * `scripts/bench-ffi`, second half: what one record of 4 KiB costs the thread that sends it and the one that receives
 * it, by how the connection is secured. In CPU time of the thread, over a socket pair: the network is not asked.
 *
 * @module
 */

import { addressOf, libc } from "../lib/system/libc.ts";
import { PlainStream } from "../lib/system/plain_stream.ts";
import { SEAL_LIMITS } from "../lib/system/seal.ts";
import { setBlocking } from "../lib/system/socket.ts";
import { writeCertificates } from "../lib/system/testing/certificates.ts";
import { sealedPair, socketPair } from "../lib/system/testing/sealed_pair.ts";
import { TlsContext } from "../lib/system/tls.ts";

/** A record of the log: 96 bytes of header, 4 KiB of data. */
const RECORD = 96 + 4096;

/** What a measurement asks of one end of a connection. */
interface End {
  writeAll(address: number, length: number): void;
  /** Answers how many bytes came. */
  readSome(address: number, max: number): number;
}

/** Both ends, in this thread. */
interface Ends {
  readonly one: End;
  readonly other: End;
}

function plain(): Ends {
  const [one, other] = socketPair();
  return { one: PlainStream.adopt(one, "peer"), other: PlainStream.adopt(other, "peer") };
}

function sealed(recordMax: number): Ends {
  return sealedPair({ ...SEAL_LIMITS, recordMax });
}

function moved(result: number | string): number {
  if (typeof result === "number") return result;
  throw new Error(`Cannot measure TLS: it has to wait to ${result}`);
}

async function tls(): Promise<Ends> {
  const directory = await Deno.makeTempDir();
  const files = await writeCertificates(directory, ["node1", "node2"]);
  const ends = socketPair();
  for (const fd of ends) setBlocking(fd, false);
  const [server, client] = (["server", "client"] as const).map((side, index) => {
    const own = files.get(`node${index + 1}`);
    if (own === undefined) throw new TypeError("no certificate");
    const context = new TlsContext(own);
    return context.connection(ends[index] ?? -1, side);
  });
  await Deno.remove(directory, { recursive: true });
  if (server === undefined || client === undefined) throw new TypeError("no connection");
  for (let open = true; open;) {
    const [one, other] = [client.handshakeStep(), server.handshakeStep()];
    open = one !== null || other !== null;
  }
  const [one, other] = [server, client].map((connection): End => ({
    writeAll: (address, length) => void moved(connection.write(address, length)),
    readSome: (address, max) => moved(connection.read(address, max)),
  }));
  if (one === undefined || other === undefined) throw new TypeError("no connection");
  return { one, other };
}

const CLOCK_THREAD_CPUTIME_ID = 3;
const time = new BigInt64Array(2);

/** CPU time of this thread: unlike the wall clock, it does not see what else the machine does. */
function cpuMicroseconds(): number {
  libc.clock_gettime(CLOCK_THREAD_CPUTIME_ID, new Uint8Array(time.buffer));
  return Number(time[0] ?? 0n) * 1e6 + Number(time[1] ?? 0n) / 1e3;
}

/** How records are sent: so many writes, each of so many records, before the other end reads. */
interface Shape {
  readonly name: string;
  readonly writes: number;
  readonly records: number;
  readonly rounds: number;
  /** Each end finds the caches full of something else, as between an application's writes. */
  readonly cold?: boolean;
  /** The receiver answers with a frame, which the sender reads: what a replicated write costs. */
  readonly acknowledged?: boolean;
}

const SHAPES: readonly Shape[] = [
  { name: "1 record", writes: 1, records: 1, rounds: 5000 },
  { name: "16 writes of 1 record", writes: 16, records: 1, rounds: 3000 },
  { name: "1 write of 16 records", writes: 1, records: 16, rounds: 3000 },
  {
    name: "1 record and its acknowledgement, caches cold",
    writes: 1,
    records: 1,
    rounds: 1500,
    cold: true,
    acknowledged: true,
  },
];
/** Bytes of an acknowledgement. */
const ACK = 32;

const source = crypto.getRandomValues(new Uint8Array(65536));
const outgoing = new Uint8Array(16 * RECORD);
for (let at = 0; at < outgoing.length; at++) outgoing[at] = source[at % source.length] ?? 0;
const incoming = new Uint8Array(1 << 20);
const [from, to] = [addressOf(outgoing), addressOf(incoming)];

/** More than the second-level cache of a core. */
const stranger = new Uint8Array(8 << 20);

function coolDown(): void {
  for (let at = 0; at < stranger.length; at += 64) stranger[at] = (stranger[at] ?? 0) + 1;
}

function timed(cold: boolean, work: () => void): number {
  if (cold) coolDown();
  const began = cpuMicroseconds();
  work();
  return cpuMicroseconds() - began;
}

function receiveAll(end: End, length: number): void {
  for (let got = 0; got < length;) got += end.readSome(to + got, incoming.length - got);
}

/** What the sender and the receiver spent on one record. */
function round({ one, other }: Ends, shape: Shape): readonly [number, number] {
  const { writes, records, cold = false, acknowledged = false } = shape;
  const all = writes * records;
  let sender = timed(cold, () => {
    for (let i = 0; i < writes; i++) one.writeAll(from, records * RECORD);
  });
  const receiver = timed(cold, () => {
    receiveAll(other, all * RECORD);
    if (acknowledged) other.writeAll(from, ACK);
  });
  if (acknowledged) sender += timed(cold, () => receiveAll(one, ACK));
  return [sender / all, receiver / all];
}

function median(samples: readonly number[]): number {
  return samples.toSorted((one, other) => one - other)[samples.length >> 1] ?? 0;
}

/** `size`: an own size of records, measured where it matters, and left out where it would keep the code warm for others. */
interface Kind {
  readonly name: string;
  readonly ends: Ends;
  readonly size?: boolean;
}

const KINDS: readonly Kind[] = [
  { name: "plain", ends: plain() },
  { name: "sealed", ends: sealed(SEAL_LIMITS.recordMax) },
  { name: "sealed, records of 16 KiB", ends: sealed(16 * 1024), size: true },
  { name: "sealed, records of 256 KiB", ends: sealed(256 * 1024), size: true },
  { name: "TLS 1.3", ends: await tls() },
];

const lines = ["", "us of CPU per record of 4 KiB      sender  receiver      both"];
for (const shape of SHAPES) {
  lines.push(`${shape.name}:`);
  const kinds = KINDS.filter(({ size }) => size !== true || shape.cold !== true);
  const samples = kinds.map(() => ({ sender: [] as number[], receiver: [] as number[] }));
  // The rounds are interleaved: what disturbs the machine disturbs all alike.
  for (let count = 0; count < shape.rounds; count++) {
    for (const [index, { ends }] of kinds.entries()) {
      const [sender, receiver] = round(ends, shape);
      samples[index]?.sender.push(sender);
      samples[index]?.receiver.push(receiver);
    }
  }
  for (const [index, { name }] of kinds.entries()) {
    const [sender, receiver] = [median(samples[index]?.sender ?? []), median(samples[index]?.receiver ?? [])];
    const columns = [sender, receiver, sender + receiver].map((value) => value.toFixed(1).padStart(9));
    lines.push(`  ${name.padEnd(30)}${columns.join(" ")}`);
  }
}
Deno.stdout.writeSync(new TextEncoder().encode(lines.join("\n") + "\n"));
