import { assert, assertEquals, assertThrows } from "@std/assert";
import { Pair, Primary, Secondary } from "../../tests/sim/data_road.ts";
import { body, Kernel } from "../../tests/sim/kernel.ts";
import { Killed } from "../../tests/sim/memory_backing.ts";
import { Program } from "../../tests/sim/program.ts";
import { ATTR } from "../fuse/layout.ts";
import { FATTR, OPCODE } from "../fuse/opcode.ts";
import { DiskFullError, OP, RecordView, STATE } from "../journal/mod.ts";
import { XATTR } from "../system/linux.ts";
import { WORD } from "./shared.ts";

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];

for (const seed of SEEDS) {
  Deno.test(`Sequencer and Follower end with equal trees after random requests, seed ${seed}`, () => {
    const pair = new Pair();
    const kernel = new Kernel(pair.primary);
    const program = new Program(kernel, seed);
    for (let i = 0; i < 400; i++) {
      program.step();
      pair.tick();
      pair.a.objects.trim();
      pair.secondary.stream.grain = 1 + program.dice(5000);
      if (program.dice(4) === 0) pair.settle();
      pair.b.objects.trim();
    }
    pair.settle();
    assert(program.done > 100 && program.failed > 20, `${program.done} done, ${program.failed} failed`);
    assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot(), `seed ${seed}`);
    assertEquals([...pair.b.keeper.keys()].sort(), [...pair.a.keeper.keys()].sort(), `orphans, seed ${seed}`);
    assertEquals(
      pair.secondary.seen.map((record) => record.sequence),
      pair.secondary.seen.map((_, index) => index + 1),
    );
    assertEquals(pair.b.copy.journal.last, pair.a.copy.journal.last);
    assertEquals(pair.primary.lost, "");
  });
}

Deno.test("Sequencer.mutate() leaves a void record and sends a filler when the mutation fails", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  kernel.mkdir(1, "d");
  assertEquals(kernel.call(OPCODE.MKDIR, 1, body(0o755, 0, "d")).error, -17);
  kernel.mkdir(1, "e");
  pair.settle();
  const { journal } = pair.a.copy;
  const view = new RecordView();
  const states = [];
  for (let sequence = 1; sequence <= journal.last; sequence++) {
    const position = journal.positionOf(sequence);
    if (position !== undefined) states.push(journal.at(position, view)?.state);
  }
  // The first record reserves ids.
  assertEquals(states, [STATE.applied, STATE.applied, STATE.void, STATE.applied]);
  assertEquals(pair.secondary.seen.map((record) => record.op), [OP.reserve, OP.mkdir, OP.reserve, OP.mkdir]);
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

Deno.test("Sequencer.mutate() keeps to this node what changes an object that lost its name before it was opened", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  kernel.call(OPCODE.RELEASE, id, body(0n, 0, 0, 0n));
  assertEquals(kernel.call(OPCODE.UNLINK, 1, body("f")).error, 0);
  // The path was walked before the unlink, the open came after it.
  assertEquals(kernel.call(OPCODE.OPEN, id, body(2, 0)).error, 0);
  assertEquals(kernel.write(id, 0, new Uint8Array(10)), 0);
  assertEquals(
    kernel.call(OPCODE.SETATTR, id, body(1, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0o600, 0, 0, 0, 0)).error,
    0,
  );
  assertEquals(kernel.all(OPCODE.FSYNC, id, body(0n, 0, 0)), []);
  pair.settle();
  assertEquals(pair.secondary.seen.slice(-3).map((record) => record.op), [OP.reserve, OP.reserve, OP.fsync]);
  assertEquals(pair.secondary.synced, [pair.a.copy.journal.last]);
  assertEquals(pair.primary.takeDisk(), 1);
  assertEquals(pair.b.copy.journal.last, pair.a.copy.journal.last);
});

Deno.test("Sequencer.mutate() keeps to this node what changes a directory that was removed under a process's feet", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.mkdir(1, "d");
  assertEquals(kernel.call(OPCODE.RMDIR, 1, body("d")).error, 0);
  assertEquals(kernel.call(OPCODE.SETXATTR, id, body(1, 0, "user.x", "v")).error, 0);
  pair.settle();
  assertEquals(pair.b.copy.journal.last, pair.a.copy.journal.last);
});

Deno.test("Sequencer.mutate() sends as much of a short write as was written, and the application is told that much", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  pair.a.fs.shorten = 700;
  const reply = kernel.call(
    OPCODE.WRITE,
    id,
    body(0n, 100n, 5000, 0, 0n, 2, 0, new Uint8Array(5000).fill(7)),
  );
  assertEquals(new DataView(reply.body.buffer).getUint32(0, true), 700);
  // The secondary's own short write is finished in a second go.
  pair.b.fs.shorten = 300;
  pair.settle();
  assertEquals(pair.b.fs.find("f")?.content.size, 800);
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

Deno.test("Sequencer.mutate() logs as much of a short write as was written: for a replay, and for a request sent again", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  pair.settle();
  pair.primary.sequencer.link = null;
  pair.a.fs.shorten = 700;
  kernel.call(OPCODE.WRITE, id, body(0n, 100n, 5000, 0, 0n, 2, 0, new Uint8Array(5000).fill(7)));
  assertEquals(pair.a.fs.find("f")?.content.size, 800);
  const { journal } = pair.a.copy;
  const unique = journal.at(journal.positionOf(journal.last) ?? 0, new RecordView())?.unique ?? 0;
  assertEquals(pair.primary.sequencer.logged(unique), { op: OP.write, id, length: 700 });
  pair.primary.sequencer.tellTimes();
  pair.primary.replay(pair.secondary.stream, pair.b.copy.journal.last + 1);
  pair.settle();
  assertEquals(pair.b.fs.find("f")?.content.size, 800);
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
  assertEquals(pair.b.copy.journal.last, journal.last);
});

Deno.test("Sequencer.mutate() amends what the peer has of a write that this node's disk cut short or refused", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  kernel.write(id, 0, new Uint8Array(1000).fill(1));
  for (
    const [shorten, capacity, offset] of [[700, 2 ** 40, 500], [300, 2 ** 40, 100], [0, 0, 2000]] as const
  ) {
    pair.a.fs.shorten = shorten;
    pair.a.fs.capacity = capacity;
    kernel.call(OPCODE.WRITE, id, body(0n, BigInt(offset), 3000, 0, 0n, 2, 0, new Uint8Array(3000).fill(7)));
    pair.a.fs.capacity = 2 ** 40;
    pair.settle();
    assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot(), `${offset}`);
  }
  assertEquals(pair.a.fs.find("f")?.content.size, 1200);
});

for (const [name, shorten, capacity] of [["cut short", 700, 2 ** 40], ["refused", 0, 0]] as const) {
  Deno.test(`Sequencer.resume() amends a write that the disk had ${name}, wherever the process was killed`, () => {
    for (let step = 0;; step++) {
      const pair = new Pair();
      const kernel = new Kernel(pair.primary);
      const id = kernel.create(1, "f");
      kernel.write(id, 0, new Uint8Array(1000).fill(1));
      pair.settle();
      const { fs } = pair.a;
      fs.shorten = shorten;
      fs.capacity = capacity;
      let left = step;
      fs.before = fs.after = () => {
        if (left-- === 0) throw new Killed("the process was killed");
        return undefined;
      };
      let killed = false;
      try {
        kernel.write(id, 4096, new Uint8Array(3000).fill(7));
      } catch (error) {
        if (!(error instanceof Killed)) throw error;
        killed = true;
      }
      pair.secondary.receive();
      pair.a.restart("node1");
      fs.shorten = Number.MAX_SAFE_INTEGER;
      fs.capacity = 2 ** 40;
      const next = pair.primary = new Primary(pair.a, { resumed: true });
      next.replay(pair.secondary.stream, pair.b.copy.journal.last + 1);
      next.connect(pair.secondary.stream);
      pair.settle();
      assertEquals(pair.b.fs.snapshot(), fs.snapshot(), `killed at step ${step}`);
      if (killed) continue;
      assert(step >= 6, "the write was broken at some steps");
      return;
    }
  });
}

Deno.test("Sequencer.begin() tells the peer what a killed process had begun, also where a new mount follows", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  pair.settle();
  // Written here, on its way to nobody.
  pair.primary.sequencer.link = null;
  pair.a.fs.after = (call) => {
    if (call === "pwrite") throw new Killed("the process was killed");
  };
  assertThrows(() => kernel.write(id, 0, new Uint8Array(1000).fill(7)), Killed);
  pair.a.restart("node1");
  pair.a.copy.dropInDoubt();
  const next = pair.primary = new Primary(pair.a, { epoch: 2 });
  next.replay(pair.secondary.stream, pair.b.copy.journal.last + 1);
  next.connect(pair.secondary.stream);
  pair.settle();
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

for (
  const { what, call, opcode, content } of [
    {
      what: "takes an attribute away that is not there",
      call: "removexattr",
      opcode: OPCODE.REMOVEXATTR,
      content: body("user.none"),
    },
    {
      what: "makes an attribute that is there",
      call: "setxattr",
      opcode: OPCODE.SETXATTR,
      content: body(3, XATTR.CREATE, "user.some", Uint8Array.of(4, 5, 6)),
    },
    {
      what: "replaces an attribute that is not there",
      call: "setxattr",
      opcode: OPCODE.SETXATTR,
      content: body(3, XATTR.REPLACE, "user.none", Uint8Array.of(4, 5, 6)),
    },
  ]
) {
  Deno.test(`Sequencer.begin() has the peer follow where a process was killed before it ${what}`, () => {
    const pair = new Pair();
    const kernel = new Kernel(pair.primary);
    const id = kernel.create(1, "f");
    const some = body(3, 0, "user.some", Uint8Array.of(1, 2, 3));
    assertEquals(kernel.call(OPCODE.SETXATTR, id, some).error, 0);
    pair.settle();
    pair.a.fs.before = (name) => {
      if (name === call) throw new Killed("the process was killed");
      return undefined;
    };
    assertThrows(() => kernel.call(opcode, id, content), Killed);
    pair.a.fs.before = () => undefined;
    pair.a.restart("node1");
    const next = pair.primary = new Primary(pair.a, { resumed: true });
    next.replay(pair.secondary.stream, pair.b.copy.journal.last + 1);
    next.connect(pair.secondary.stream);
    pair.settle();
    assertEquals(pair.b.copy.journal.last, pair.a.copy.journal.last);
    assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
  });
}

Deno.test("Sequencer.begin() tells the time of a directory in which a killed process had half made a file, though nobody asks for it again", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  kernel.create(1, "f");
  pair.settle();
  pair.tick();
  pair.a.fs.before = (name) => {
    if (name === "setxattr") throw new Killed("the process was killed");
    return undefined;
  };
  assertThrows(() => kernel.create(1, "g"), Killed);
  pair.a.restart("node1");
  const next = pair.primary = new Primary(pair.a, { resumed: true });
  next.replay(pair.secondary.stream, pair.b.copy.journal.last + 1);
  next.connect(pair.secondary.stream);
  pair.settle();
  assertEquals(pair.a.fs.find("g"), undefined);
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

Deno.test("Sequencer.begin() has a primary that took over tell the times it gave to its predecessor's writes", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  kernel.write(kernel.create(1, "f"), 0, new Uint8Array(1000).fill(1));
  pair.secondary.receive();
  assert(pair.b.fs.snapshot() !== pair.a.fs.snapshot(), "the time is untold");
  const next = new Primary(pair.b, { epoch: 2 });
  next.sequencer.tellTimes();
  assertEquals(pair.b.copy.journal.last, pair.a.copy.journal.last, "nobody is there to be told");
  const back = new Secondary(pair.a);
  next.connect(back.stream);
  next.sequencer.tellTimes();
  back.receive();
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

/** The kernel tells the time of a file that it has written back. */
function flushTime(kernel: Kernel, id: number, time: bigint): bigint {
  const [seconds, rest] = [time / 1_000_000_000n, Number(time % 1_000_000_000n)];
  const content = body(
    FATTR.MTIME | FATTR.CTIME | FATTR.FH,
    0,
    ...[0n, 0n, 0n, 0n, seconds, seconds],
    ...[0, rest, rest, 0, 0, 0, 0, 0],
  );
  const { error, body: reply } = kernel.call(OPCODE.SETATTR, id, content);
  assertEquals(error, 0);
  const view = new DataView(reply.buffer, reply.byteOffset + 16);
  return view.getBigUint64(ATTR.mtime, true) * 1_000_000_000n + BigInt(view.getUint32(ATTR.mtimensec, true));
}

for (const between of ["nothing", "a new mode", "a look", "a process that takes over"] as const) {
  Deno.test(`Sequencer.deferTime() sets on both nodes, later, the time that the kernel tells of its own write; ${between} comes between`, () => {
    const pair = new Pair();
    const kernel = new Kernel(pair.primary);
    const id = kernel.create(1, "f");
    pair.settle();
    kernel.write(id, 0, new Uint8Array(1000).fill(1));
    const { journal } = pair.a.copy;
    const [last, wrote] = [journal.last, pair.a.fs.find("f")?.mtime ?? 0n];
    const time = wrote - 1_000_000n;
    assertEquals(flushTime(kernel, id, time), time);
    assertEquals([journal.last, pair.a.fs.find("f")?.mtime], [last, wrote], "nothing was done yet");
    pair.tick();
    if (between === "a new mode") {
      const mode = body(FATTR.MODE, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0o600, 0, 0, 0, 0);
      assertEquals(kernel.call(OPCODE.SETATTR, id, mode).error, 0);
    }
    if (between === "a look") assertEquals(kernel.call(OPCODE.GETATTR, id, body(0, 0, 0n)).error, 0);
    const killed = between === "a process that takes over";
    if (killed) {
      pair.a.restart("node1");
      pair.primary = new Primary(pair.a, { resumed: true });
      pair.primary.connect(pair.secondary.stream);
    }
    pair.settle();
    assertEquals(pair.a.fs.find("f")?.mtime, killed ? wrote : time);
    assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
  });
}

Deno.test("Sequencer.deferTime() keeps nothing of a file that has lost its name", () => {
  for (const open of [true, false]) {
    const pair = new Pair();
    const kernel = new Kernel(pair.primary);
    const id = kernel.create(1, "f");
    kernel.write(id, 0, new Uint8Array(1000).fill(1));
    flushTime(kernel, id, pair.a.fs.now - 1_000_000n);
    const release = (): void => void kernel.call(OPCODE.RELEASE, id, body(0n, 0, 0, 0n));
    if (!open) release();
    assertEquals(kernel.call(OPCODE.UNLINK, 1, body("f")).error, 0);
    if (!open) kernel.all(OPCODE.FORGET, id, body(1n));
    pair.settle();
    assertEquals(pair.primary.sequencer.times.takeDeferred(id), undefined, open ? "open" : "closed");
    assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
  }
});

Deno.test("Sequencer.deferTime() has the file count as touched when its time is set, though a checkpoint came between", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  kernel.write(id, 0, new Uint8Array(1000).fill(1));
  const time = pair.a.fs.now - 1_000_000n;
  flushTime(kernel, id, time);
  assert(pair.a.copy.takeDirty().ids.has(id));
  pair.a.copy.checkpointed(pair.a.copy.journal.last, 0);
  pair.settle();
  assertEquals(pair.a.fs.find("f")?.mtime, time);
  assertEquals([...pair.a.copy.takeDirty().ids], [id]);
});

Deno.test("Sequencer.tellTime() has the file count as touched, though a checkpoint came since the write", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  kernel.write(id, 0, new Uint8Array(1000).fill(1));
  pair.a.copy.takeDirty();
  pair.a.copy.checkpointed(pair.a.copy.journal.last, 0);
  // Who has the write and not its time is behind by nothing else.
  pair.primary.sequencer.tellTimes();
  assertEquals([...pair.a.copy.takeDirty().ids], [id]);
});

Deno.test("Sequencer.deferTime() sets the time before it is shown also while nobody is there to be told", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  kernel.write(id, 0, new Uint8Array(1000).fill(1));
  const { sequencer } = pair.primary;
  sequencer.link = null;
  sequencer.beginGeneration();
  const time = pair.a.fs.now - 1_000_000n;
  const { last } = pair.a.copy.journal;
  assertEquals(flushTime(kernel, id, time), time);
  assertEquals(kernel.call(OPCODE.GETATTR, id, body(0, 0, 0n)).error, 0);
  assertEquals(pair.a.fs.find("f")?.mtime, time);
  assertEquals(pair.a.copy.journal.last, last, "no history begins for the sake of a time");
});

Deno.test("Sequencer.deferTime() keeps no time that another write has outdated, and none that is not of a moment ago", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  const content = new Uint8Array(1000).fill(1);
  kernel.write(id, 0, content);
  flushTime(kernel, id, pair.a.fs.now - 1_000_000n);
  pair.tick();
  kernel.write(id, 0, content);
  const wrote = pair.a.fs.find("f")?.mtime;
  pair.settle();
  assertEquals(pair.a.fs.find("f")?.mtime, wrote);
  const { last } = pair.a.copy.journal;
  const told = pair.a.fs.now;
  flushTime(kernel, id, told);
  assertEquals(pair.a.copy.journal.last, last + 1, "there is no write whose time is untold");
  kernel.write(id, 0, content);
  const old = told - 1_000_000_000n;
  flushTime(kernel, id, old);
  assertEquals([pair.a.copy.journal.last, pair.a.fs.find("f")?.mtime], [last + 3, old]);
  pair.settle();
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

Deno.test("Sequencer.mutate() answers ENOSPC and changes nothing when the directory's disk, the log or the activity set is full", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  pair.settle();
  const before = pair.a.fs.snapshot();
  const chunk = new Uint8Array(8192).fill(1);
  pair.a.fs.capacity = 0;
  assertEquals(kernel.write(id, 0, chunk), -28);
  pair.a.fs.capacity = Number.MAX_SAFE_INTEGER;
  pair.settle();
  const last = pair.a.copy.journal.last;
  pair.a.storage.before = (action) => {
    if (action === "append") throw new DiskFullError("no room");
  };
  // Another part of the object than those that are active already.
  assertEquals(kernel.write(id, 2 ** 30, chunk), -28);
  assertEquals(pair.a.copy.journal.last, last, "nothing was logged");
  pair.a.storage.before = () => {};
  pair.settle();
  assertEquals(pair.a.fs.snapshot(), before);
  assertEquals(pair.b.fs.snapshot(), before);
  assertEquals(pair.b.copy.journal.last, last);
});

Deno.test("Sequencer.mutate() answers ENOSPC when the log has no room, and goes on when there is some", () => {
  const pair = new Pair();
  pair.primary.sequencer.link = null;
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  pair.a.storage.capacity = 0;
  const chunk = new Uint8Array(100_000).fill(1);
  let errno = 0;
  for (let i = 0; i < 50_000 && errno === 0; i++) {
    errno = kernel.write(id, i, chunk.subarray(0, i < 60 ? 100_000 : 1));
  }
  assertEquals(errno, -28);
  const before = pair.a.fs.snapshot();
  assertEquals(kernel.write(id, 0, chunk.subarray(0, 1)), -28);
  assertEquals(pair.a.fs.snapshot(), before);
  pair.a.storage.capacity = Number.MAX_SAFE_INTEGER;
  assertEquals(kernel.write(id, 0, chunk.subarray(0, 1)), 0);
});

Deno.test("Sequencer keeps an orphan in both keepers until the kernel forgets it", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  assertEquals(kernel.call(OPCODE.UNLINK, 1, body("f")).error, 0);
  assertEquals(kernel.write(id, 0, Uint8Array.of(1, 2, 3)), 0);
  pair.settle();
  assertEquals([...pair.a.keeper.keys()], [id]);
  assertEquals([...pair.b.keeper.keys()], [id]);
  kernel.call(OPCODE.RELEASE, id, body(0n, 0, 0, 0n));
  assertEquals(kernel.all(OPCODE.FORGET, id, body(1n)), []);
  pair.settle();
  assertEquals(pair.a.keeper.size, 0);
  assertEquals(pair.b.keeper.size, 0);
  assertEquals(pair.a.objects.peek(id), undefined);
  assertEquals(pair.b.objects.peek(id), undefined);
});

Deno.test("Sequencer loses the link on a failed send, says so once and serves on", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  pair.secondary.stream.room = 0;
  kernel.mkdir(1, "d");
  assert(pair.primary.lost.includes("Cannot write"), pair.primary.lost);
  assertEquals(pair.primary.sequencer.link, null);
  kernel.mkdir(1, "e");
});

Deno.test("Sequencer.answer() holds a reply while the peer is a member or the authority has lapsed", () => {
  const { primary, memory } = new Pair();
  const { shared, authority, replies, sequencer } = primary;
  const bytes = new Uint8Array(16);
  const answer = (): void => sequencer.answer(0, bytes, memory.addressOf(bytes), bytes.length);
  new Kernel(primary).mkdir(1, "d");
  replies.length = 0;
  shared.set(WORD.members, 2);
  answer();
  assertEquals([shared.repliesWaiting, replies.length], [1, 0]);
  primary.takeWaiting();
  shared.set(WORD.members, 1);
  authority.valid = false;
  answer();
  assertEquals([shared.repliesWaiting, replies.length], [1, 1]);
  authority.valid = true;
  // In order: one that could go at once waits behind those that wait.
  answer();
  assertEquals([shared.repliesWaiting, replies.length], [2, 1]);
  primary.takeWaiting();
  answer();
  assertEquals([shared.repliesWaiting, replies.length], [0, 4]);
  shared.set(WORD.members, 2);
  shared.set(WORD.appliedLow, primary.node.copy.journal.last);
  answer();
  assertEquals([shared.repliesWaiting, replies.length], [0, 5], "every member has all there is");
});
