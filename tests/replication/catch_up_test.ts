/** What a primary waits for before it compares a set of objects. */

import { assertEquals } from "@std/assert";
import { crc32 } from "node:zlib";
import { CatchUp } from "../../lib/replication/catch_up.ts";
import { INFLIGHT } from "../../lib/replication/inflight.ts";
import { ASK_KIND, sessionNumber } from "../../lib/replication/mutation.ts";
import type { Sequencer } from "../../lib/replication/sequencer.ts";
import { createSharedMemory, Shared } from "../../lib/replication/shared.ts";
import type { Verification } from "../../lib/replication/verification.ts";
import { Wire } from "../../lib/replication/wire.ts";
import { WITNESSES } from "../../lib/protocol.ts";
import { addressOf } from "../../lib/system/libc.ts";
import { memoryCopy } from "../sim/memory_copy.ts";
import { oneWay } from "../sim/one_way.ts";
import { Pair } from "./pair.ts";

const SESSION = "0123456789abcdef0123456789abcdef";

Deno.test("CatchUp begins to compare a set when the secondary has told all that it touched, in however many pieces", () => {
  using pair = new Pair();
  const ids = ["a", "b", "c"].map((name) => pair.create(1, name));
  const shared = new Shared(
    createSharedMemory({ road: 0, acker: 0, disk: 0 }, 0),
    new ArrayBuffer(INFLIGHT.bytes),
  );
  let sent = 0;
  const wire = new Wire({ stream: oneWay(() => sent++), crc32, addressOf });
  const sequencer = { link: { wire, live: true }, tellTime: () => {} } as unknown as Sequencer;
  const catchUp = new CatchUp({
    copy: memoryCopy(),
    shared,
    objects: pair.source.objects,
    tree: pair.source.tree,
    sequencer,
    verification: { detach: () => {} } as unknown as Verification,
    resyncBandwidth: null,
    requests: () => 0,
    onCaughtUp: () => {},
    onLost: () => {},
  });
  const plan = {
    mode: "reconcile",
    whole: false,
    preserve: false,
    survey: true,
    from: 0,
    common: 0,
    since: 0,
  } as const;
  const told = (kind: number, id: number): boolean => shared.pushAsk({ kind, id, offset: 0, length: 0 });

  told(ASK_KIND.session, sessionNumber(SESSION));
  catchUp.begin({ session: SESSION, version: WITNESSES }, plan, wire, new Set());
  const begun = sent;
  // 0 is an id that no object has, and no end: former programs tell it among the first.
  for (const id of [0, ids[0] ?? 0]) told(ASK_KIND.touched, id);
  for (let steps = 0; steps < 5; steps++) catchUp.step();
  assertEquals([sent - begun, catchUp.busy], [0, false]);

  for (const id of ids.slice(1)) told(ASK_KIND.touched, id);
  told(ASK_KIND.touchedAll, 0);
  for (let steps = 0; steps < 5; steps++) catchUp.step();
  assertEquals(catchUp.resync?.["files"], 3);
  catchUp.end();
});
