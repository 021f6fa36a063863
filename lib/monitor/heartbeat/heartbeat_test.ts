import { assert, assertEquals, assertThrows } from "@std/assert";
import { createHmac } from "node:crypto";
import { initialState, newRecord, type Report, reportOf } from "../../failover/mod.ts";
import { PROTOCOL, protocolOf } from "../../protocol.ts";
import {
  DATAGRAM_MAX,
  decodeHeartbeat,
  encodeHeartbeat,
  type Envelope,
  type Heartbeat,
  PeerLink,
  type Received,
  splitModules,
} from "./mod.ts";

const KEY = new Uint8Array(32).fill(7);
const sign = (bytes: Uint8Array): Uint8Array => createHmac("sha256", KEY).update(bytes).digest();
const otherSign = (bytes: Uint8Array): Uint8Array => createHmac("sha256", "another").update(bytes).digest();

const REPORT: Report = reportOf(initialState(
  {
    module: "m",
    node: "n1",
    peer: "n2",
    arbiter: { kind: "none" },
    timings: { heartbeatMs: 250, deadMs: 1, witnessMs: 1, watchdogMs: 1, peerMs: 1, leaseMs: 1 },
    automatic: true,
    prefer: null,
    vips: false,
  },
  { ...newRecord("boot"), epoch: 3, primary: "n1", members: ["n1", "n2"], promised: 2, copy: "uptodate" },
  0,
));

const HEARTBEAT: Heartbeat = {
  version: PROTOCOL.versionMin,
  newest: PROTOCOL.versionMin,
  incarnation: 11n,
  counter: 1n,
  sentAt: 1000,
  echoIncarnation: 22n,
  echoSentAt: 990,
  from: "n1",
  to: "n2",
  modules: [["m", REPORT]],
};

Deno.test("decodeHeartbeat() gives back what encodeHeartbeat() took", () => {
  assertEquals(decodeHeartbeat(encodeHeartbeat(HEARTBEAT, sign), sign), HEARTBEAT);
});

Deno.test("encodeHeartbeat() keeps its bytes", () => {
  const bytes = encodeHeartbeat({ ...HEARTBEAT, version: 2, newest: 2, modules: [] }, sign);
  const head = [...bytes.subarray(0, 48)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  assertEquals(
    head,
    "424e4842" + "02" + "02" + "2400" + "0b00000000000000" + "0100000000000000" + "e803000000000000" +
      "1600000000000000" + "de03000000000000",
  );
  assertEquals(new TextDecoder().decode(bytes.subarray(48, -32)), '{"from":"n1","to":"n2","modules":[]}');
});

Deno.test("decodeHeartbeat() refuses a datagram cut at every byte", () => {
  const bytes = encodeHeartbeat(HEARTBEAT, sign);
  for (let length = 0; length < bytes.length; length++) {
    assert("refused" in decodeHeartbeat(bytes.subarray(0, length), sign), `length ${length}`);
  }
});

Deno.test("decodeHeartbeat() refuses a datagram with any byte damaged", () => {
  const bytes = encodeHeartbeat(HEARTBEAT, sign);
  for (let i = 0; i < bytes.length; i++) {
    const damaged = bytes.slice();
    damaged[i] = (damaged[i] ?? 0) ^ 0x41;
    assert("refused" in decodeHeartbeat(damaged, sign), `byte ${i}`);
  }
});

Deno.test("decodeHeartbeat() refuses another cluster's key, longer datagrams and garbage", () => {
  const bytes = encodeHeartbeat(HEARTBEAT, otherSign);
  assertEquals(decodeHeartbeat(bytes, sign), { refused: "wrong cluster key" });
  assertEquals(decodeHeartbeat(new Uint8Array(DATAGRAM_MAX + 1), sign), {
    refused: "longer than a heartbeat",
  });
  assertEquals(decodeHeartbeat(new Uint8Array(500).fill(65), sign), { refused: "not a heartbeat" });
});

Deno.test("decodeHeartbeat() refuses a signed body whose fields are wrong", () => {
  const wrong: readonly (readonly [keyof Report, unknown])[] = [
    ["epoch", -1],
    ["epoch", 1.5],
    ["name", "king"],
    ["members", ["a", "b", "c"]],
    ["sequence", 12],
    ["serving", "yes"],
    ["history", new Array(9).fill("g")],
    ["request", null],
  ];
  for (const [field, value] of wrong) {
    const report = { ...REPORT, [field]: value } as unknown as Report;
    const answer = decodeHeartbeat(encodeHeartbeat({ ...HEARTBEAT, modules: [["m", report]] }, sign), sign);
    assert("refused" in answer, field);
  }
});

Deno.test("decodeHeartbeat() takes the versions its program speaks, and no other", () => {
  const taken = (version: number) => {
    const bytes = encodeHeartbeat({ ...HEARTBEAT, version, newest: 9 }, sign);
    return !("refused" in decodeHeartbeat(bytes, sign, protocolOf(5)));
  };
  assertEquals([3, 4, 5, 6].map(taken), [false, true, true, false]);
});

Deno.test("decodeHeartbeat() refuses one written in a version newer than its sender", () => {
  const bytes = encodeHeartbeat({ ...HEARTBEAT, version: 5, newest: 4 }, sign);
  assert("refused" in decodeHeartbeat(bytes, sign, protocolOf(5)));
});

Deno.test("encodeHeartbeat() refuses a body that is too long; splitModules() avoids it", () => {
  const modules = Array.from({ length: 32 }, (_, i): readonly [string, Report] => [`module-${i}`, REPORT]);
  assertThrows(() => encodeHeartbeat({ ...HEARTBEAT, modules }, sign), RangeError);
  const groups = splitModules(modules);
  assertEquals(groups.flat(), modules);
  for (const group of groups) {
    assert(encodeHeartbeat({ ...HEARTBEAT, modules: group }, sign).length <= 1400);
  }
  assertEquals(splitModules([]), [[]]);
});

function link(me: string, peer: string, incarnation: bigint): PeerLink {
  let counter = 0n;
  return new PeerLink({ me, peer, incarnation, nextCounter: () => ++counter });
}

type Said = Omit<Heartbeat, "version" | "newest">;

function datagram(from: PeerLink, names: readonly [string, string], at: number): Said {
  return { ...from.envelope(at), from: names[0], to: names[1], modules: [] };
}

function answerOf(received: Received): Envelope {
  if (received.kind !== "greeting" || received.answer === null) {
    throw new Error(`no greeting: ${received.kind}`);
  }
  return received.answer;
}

/** Two links that believe each other; answers them and what was said on the way. */
function acquainted(): { n1: PeerLink; n2: PeerLink; said: readonly Said[] } {
  const n1 = link("n1", "n2", 11n);
  const n2 = link("n2", "n1", 22n);
  const hello = datagram(n1, ["n1", "n2"], 1000);
  const greeted = n2.receive(hello, "lan", 1001);
  const answer: Said = { ...answerOf(greeted), from: "n2", to: "n1", modules: [] };
  assertEquals(n1.receive(answer, "lan", 1002), { kind: "fresh", echoedAt: 1000, newRun: true });
  const second = datagram(n1, ["n1", "n2"], 1003);
  assertEquals(n2.receive(second, "lan", 1004), { kind: "fresh", echoedAt: 1001, newRun: true });
  return { n1, n2, said: [hello, answer, second] };
}

Deno.test("PeerLink believes a run only once it has echoed a datagram of ours", () => {
  const { n1, n2 } = acquainted();
  assertEquals(n2.receive(datagram(n1, ["n1", "n2"], 1250), "lan", 1251).kind, "fresh");
});

Deno.test("PeerLink tells when the peer last heard us, so that one-way loss shows", () => {
  const { n1, n2 } = acquainted();
  n1.receive(datagram(n2, ["n2", "n1"], 1100), "lan", 1101);
  // From here n2 hears nothing: its echo stands still.
  for (const at of [1350, 1600, 1850]) {
    const received = n1.receive(datagram(n2, ["n2", "n1"], at), "lan", at + 1);
    assertEquals(received, { kind: "fresh", echoedAt: 1003, newRun: false });
  }
});

Deno.test("PeerLink takes a datagram once, by whichever network comes first", () => {
  const { n1, n2 } = acquainted();
  const heartbeat = datagram(n1, ["n1", "n2"], 1250);
  assertEquals(n2.receive(heartbeat, "lan", 1251).kind, "fresh");
  assertEquals(n2.receive(heartbeat, "repl", 1252).kind, "duplicate");
  assertEquals([...n2.networks], [["lan", 1251], ["repl", 1251]]);
});

Deno.test("PeerLink is kept alive on no network by datagrams that were recorded", () => {
  const { n1, n2 } = acquainted();
  const recorded = datagram(n1, ["n1", "n2"], 1250);
  assertEquals(n2.receive(recorded, "lan", 1251).kind, "fresh");
  // The peer is dead from here on.
  for (let at = 1300; at < 60_000; at += 100) {
    assertEquals(n2.receive(recorded, "lan", at).kind, "duplicate");
    assertEquals(n2.receive(recorded, "repl", at).kind, "duplicate");
  }
  assertEquals([...n2.networks], [["lan", 1251], ["repl", 1251]]);
});

Deno.test("PeerLink refuses replays: old counters, and all of a finished run", () => {
  const { n1, n2, said } = acquainted();
  const recorded: Said[] = [...said.filter((heartbeat) => heartbeat.from === "n1")];
  for (let at = 1250; at < 1250 + 80 * 10; at += 10) {
    const heartbeat = datagram(n1, ["n1", "n2"], at);
    recorded.push(heartbeat);
    n2.receive(heartbeat, "lan", at);
    n1.receive(datagram(n2, ["n2", "n1"], at), "lan", at);
  }
  assertEquals(n2.receive(recorded[1] ?? HEARTBEAT, "lan", 2100), { kind: "refused", why: "it is a replay" });
  // n1's agent is restarted: its new run proves itself, the old one is finished.
  const again = link("n1", "n2", 33n);
  const greeted = n2.receive(datagram(again, ["n1", "n2"], 2200), "lan", 2200);
  again.receive({ ...answerOf(greeted), from: "n2", to: "n1", modules: [] }, "lan", 2201);
  assertEquals(n2.receive(datagram(again, ["n1", "n2"], 2202), "lan", 2202).kind, "fresh");
  for (const heartbeat of recorded) {
    assertEquals(n2.receive(heartbeat, "lan", 2210), {
      kind: "refused",
      why: "it is a replay of a finished run",
    });
  }
});

Deno.test("PeerLink does not believe a recorded run after our own restart", () => {
  const { n1 } = acquainted();
  const recorded = datagram(n1, ["n1", "n2"], 1250);
  const again = link("n2", "n1", 44n);
  assertEquals(again.receive(recorded, "lan", 1260).kind, "greeting");
  assertEquals(again.receive(recorded, "lan", 1270), { kind: "greeting", answer: null });
});

Deno.test("PeerLink refuses what is meant for, or said to come from, another node", () => {
  const { n1, n2 } = acquainted();
  assertEquals(n2.receive(datagram(n1, ["n1", "n3"], 1250), "lan", 1251).kind, "refused");
  assertEquals(n2.receive(datagram(n1, ["n3", "n2"], 1250), "lan", 1251).kind, "refused");
});
