import { assert, assertEquals, assertMatch } from "@std/assert";
import { Pair, Primary, type Reply } from "../../tests/sim/data_road.ts";
import { body, idOf, Kernel } from "../../tests/sim/kernel.ts";
import { latin1 } from "../../tests/sim/inodes.ts";
import { Killed } from "../../tests/sim/memory_backing.ts";
import { LIMBO_NAME } from "../replication/own_names.ts";
import { WORD } from "../replication/shared.ts";
import { ERRNO } from "./errno.ts";
import { ATTR } from "./layout.ts";
import { FATTR, INIT, OPCODE } from "./opcode.ts";

const ENOENT = -2;
const EPERM = -1;
const EEXIST = -17;
const EINVAL = -22;
const ENOSYS = -38;
const ENODATA = -61;
/** Opcodes that have no reply by the protocol. FSYNC is answered by the disk's thread. */
const SILENT: readonly number[] = [OPCODE.FORGET, OPCODE.BATCH_FORGET, OPCODE.INTERRUPT];
const LATER: readonly number[] = [OPCODE.FSYNC, OPCODE.FSYNCDIR];

/** A whole request for each opcode, on a file `f` and a directory `d`. */
function whole(file: number, directory: number): Record<keyof typeof OPCODE, readonly [number, Uint8Array]> {
  const flags = Number(INIT.INIT_EXT);
  const none = [file, body(new Uint8Array(64))] as const;
  return {
    LOOKUP: [1, body("f")],
    FORGET: [file, body(0n)],
    GETATTR: [file, body(0, 0, 0n)],
    SETATTR: [file, body(1, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0o600, 0, 0, 0, 0)],
    READLINK: [file, body()],
    SYMLINK: [1, body("s", "target")],
    MKNOD: [1, body(0o010600, 0, 0, 0, "p")],
    MKDIR: [1, body(0o755, 0, "new")],
    UNLINK: [1, body("p")],
    RMDIR: [1, body("new")],
    RENAME: [1, body(1n, "f", "g")],
    LINK: [1, body(BigInt(file), "h")],
    OPEN: [file, body(2, 0)],
    READ: [file, body(0n, 0n, 100, 0, 0n, 0, 0)],
    WRITE: [file, body(0n, 0n, 3, 0, 0n, 2, 0, Uint8Array.of(1, 2, 3))],
    STATFS: [1, body()],
    RELEASE: [file, body(0n, 0, 0, 0n)],
    FSYNC: [file, body(0n, 0, 0)],
    SETXATTR: [file, body(1, 0, "user.x", "v")],
    GETXATTR: [file, body(100, 0, "user.x")],
    LISTXATTR: [file, body(100, 0)],
    REMOVEXATTR: [file, body("user.x")],
    FLUSH: none,
    INIT: [0, body(7, 36, 65536, flags, 0, new Uint8Array(44))],
    OPENDIR: [directory, body(0, 0)],
    READDIR: [directory, body(0n, 0n, 4096, 0, 0n, 0, 0)],
    RELEASEDIR: [directory, body(0n, 0, 0, 0n)],
    FSYNCDIR: [directory, body(0n, 0, 0)],
    GETLK: none,
    SETLK: none,
    SETLKW: none,
    ACCESS: none,
    CREATE: [1, body(0o102, 0o100644, 0, 0, "made")],
    INTERRUPT: [0, body(4n)],
    BMAP: none,
    DESTROY: none,
    IOCTL: none,
    POLL: none,
    NOTIFY_REPLY: none,
    BATCH_FORGET: [0, body(1, 0, BigInt(file), 0n)],
    FALLOCATE: [file, body(0n, 0n, 100n, 0, 0)],
    READDIRPLUS: [directory, body(0n, 0n, 4096, 0, 0n, 0, 0)],
    RENAME2: [1, body(1n, 0, 0, "g", "f")],
    LSEEK: [file, body(0n, 0n, 3, 0)],
    COPY_FILE_RANGE: [file, body(0n, 0n, BigInt(file), 0n, 5000n, 3n, 0n)],
    SETUPMAPPING: none,
    REMOVEMAPPING: none,
    SYNCFS: none,
    TMPFILE: [1, body(0o20000002, 0o100600, 0, 0, "/")],
    STATX: none,
    COPY_FILE_RANGE_64: none,
  };
}

function ground(): { pair: Pair; kernel: Kernel; file: number; directory: number } {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  return { pair, kernel, file: kernel.create(1, "f"), directory: kernel.mkdir(1, "d") };
}

function repliesExpected(opcode: number): number {
  return SILENT.includes(opcode) || LATER.includes(opcode) ? 0 : 1;
}

Deno.test("FuseServer.handle() gives exactly one reply to every opcode", () => {
  const { pair, kernel, file, directory } = ground();
  for (const [name, [node, content]] of Object.entries(whole(file, directory))) {
    const opcode = OPCODE[name as keyof typeof OPCODE];
    assertEquals(kernel.all(opcode, node, content).length, repliesExpected(opcode), name);
    assertEquals(pair.primary.takeDisk(), LATER.includes(opcode) ? 1 : 0, name);
  }
  assertEquals(pair.primary.shared.fsyncsWaiting, 2);
  pair.settle();
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

Deno.test("FuseServer.handle() answers ENOSYS to an opcode it does not know", () => {
  const { kernel } = ground();
  const known = new Set<number>(Object.values(OPCODE));
  for (let opcode = 0; opcode < 80; opcode++) {
    if (!known.has(opcode)) assertEquals(kernel.call(opcode, 1, body(0n, 0n)).error, ENOSYS, `${opcode}`);
  }
  assertEquals(kernel.call(4096, 1, body(0n)).error, ENOSYS);
});

Deno.test("FuseServer.handle() gives at most one reply to a request cut at any byte, and never fails", () => {
  const { pair, kernel, file, directory } = ground();
  for (const [name, [node, content]] of Object.entries(whole(file, directory))) {
    const opcode = OPCODE[name as keyof typeof OPCODE];
    for (let length = 0; length < content.length; length++) {
      const replies = kernel.all(opcode, node, content.subarray(0, length));
      const later = pair.primary.takeDisk();
      assertEquals(replies.length + later, SILENT.includes(opcode) ? 0 : 1, `${name} cut to ${length}`);
    }
  }
  pair.settle();
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

Deno.test("FuseServer hides its own names in the root, and only there", () => {
  const { pair, kernel, directory } = ground();
  const { fs } = pair.a;
  for (const name of [LIMBO_NAME, "lost+found"]) {
    assertEquals(fs.mkdirat(pair.a.rootFd, latin1(name), 0o700), 0);
    assertEquals(kernel.call(OPCODE.LOOKUP, 1, body(name)).error, ENOENT);
    assertEquals(kernel.call(OPCODE.MKDIR, 1, body(0o755, 0, name)).error, EPERM);
    assertEquals(kernel.call(OPCODE.CREATE, 1, body(0o102, 0o644, 0, 0, name)).error, EPERM);
    assertEquals(kernel.call(OPCODE.RMDIR, 1, body(name)).error, EPERM);
    assertEquals(kernel.call(OPCODE.RENAME, 1, body(1n, "f", name)).error, EPERM);
    assertEquals(kernel.call(OPCODE.RENAME, 1, body(1n, name, "g")).error, EPERM);
    assertEquals(kernel.call(OPCODE.MKDIR, directory, body(0o755, 0, name)).error, 0);
  }
  const listed = kernel.call(OPCODE.READDIR, 1, body(0n, 0n, 4096, 0, 0n, 0, 0));
  assertEquals(namesOf(listed.body).sort(), [".", "..", "d", "f"]);
});

Deno.test("FuseServer hides its own xattrs", () => {
  const { kernel, file } = ground();
  assertEquals(kernel.call(OPCODE.SETXATTR, file, body(1, 0, "user.x", "v")).error, 0);
  assertEquals(kernel.call(OPCODE.GETXATTR, file, body(100, 0, "trusted.binome.id")).error, ENODATA);
  assertEquals(kernel.call(OPCODE.SETXATTR, file, body(1, 0, "trusted.binome.id", "v")).error, EPERM);
  assertEquals(kernel.call(OPCODE.REMOVEXATTR, file, body("trusted.binome.id")).error, ENODATA);
  assertEquals(kernel.call(OPCODE.LISTXATTR, file, body(100, 0)).body, body("user.x"));
  assertEquals(kernel.call(OPCODE.LISTXATTR, file, body(0, 0)).body, body(7, 0));
  assertEquals(kernel.call(OPCODE.LISTXATTR, file, body(6, 0)).error, -34);
});

for (const plus of [false, true]) {
  Deno.test(`FuseServer pages ${plus ? "READDIRPLUS" : "READDIR"} through a buffer of one entry`, () => {
    const { kernel, directory } = ground();
    const names = Array.from({ length: 60 }, (_, index) => `name ${"x".repeat(index)}`);
    for (const name of names) kernel.create(directory, name);
    const handle = new DataView(kernel.call(OPCODE.OPENDIR, directory, body(0, 0)).body.buffer).getBigUint64(
      0,
      true,
    );
    const found: string[] = [];
    let offset = 0n;
    for (let i = 0; i < 200; i++) {
      const opcode = plus ? OPCODE.READDIRPLUS : OPCODE.READDIR;
      const { error, body: page } = kernel.call(
        opcode,
        directory,
        body(handle, offset, plus ? 248 : 120, 0, 0n, 0, 0),
      );
      assertEquals(error, 0);
      if (page.length === 0) break;
      found.push(...namesOf(page, plus));
      offset = lastOffset(page, plus);
    }
    assertEquals(found.sort(), [".", "..", ...names].sort());
  });
}

Deno.test("FuseServer tells no holes of a file that is open for writing while the kernel keeps pages of it", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary, INIT.WRITEBACK_CACHE);
  const file = kernel.create(1, "f", 0o101);
  assertEquals(kernel.write(file, 5000, Uint8Array.of(1)), 0);
  const data = (): Reply => kernel.call(OPCODE.LSEEK, file, body(0n, 5000n, 3, 0));
  assertEquals(kernel.call(OPCODE.OPEN, file, body(0, 0)).error, 0);
  assertEquals(data().error, EINVAL);
  assertEquals(kernel.call(OPCODE.RELEASE, file, body(0n, 0, 0, 0n)).error, 0);
  assertEquals(data().error, EINVAL);
  assertEquals(kernel.call(OPCODE.RELEASE, file, body(0n, 1, 0, 0n)).error, 0);
  assertEquals(data().body, body(5000n));
});

Deno.test("FuseServer takes setuid and setgid away when the kernel sets nothing, on both nodes", () => {
  const { pair, kernel, file } = ground();
  const setattr = (valid: number, mode = 0): Uint8Array =>
    body(valid, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, mode, 0, 0, 0, 0);
  const mode = (uid: number, valid: number): number => {
    const reply = kernel.call(OPCODE.SETATTR, file, setattr(valid), { uid });
    return new DataView(reply.body.buffer, reply.body.byteOffset).getUint32(16 + ATTR.mode, true) & 0o7777;
  };

  for (const uid of [0, 1000]) {
    kernel.call(OPCODE.SETATTR, file, setattr(FATTR.MODE, 0o6777));
    assertEquals(mode(uid, FATTR.ATIME), 0o6777, "something is set");
    assertEquals(mode(uid, FATTR.FH), 0o777);
  }
  kernel.call(OPCODE.SETATTR, file, setattr(FATTR.MODE, 0o6777));
  assertEquals(mode(0, FATTR.CTIME), 0o777, "where the kernel keeps the times");
  pair.settle();
  assertEquals(pair.a.fs.snapshot(), pair.b.fs.snapshot());
});

Deno.test("FuseServer takes setgid of no program from who is neither of the group nor may do as if, as a disk does", () => {
  const { pair, kernel, file } = ground();
  const setattr = (valid: number, mode = 0, gid = 0): Uint8Array =>
    body(valid, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, mode, 0, 0, gid, 0);
  const status = (groups: string, capabilities = "0000000000000000") =>
    `Name:\tsh\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t${groups}\n` +
    `CapEff:\t${capabilities}\nSeccomp:\t0\n`;
  const changes: Record<string, () => Reply> = {
    truncate: () =>
      kernel.call(OPCODE.SETATTR, file, setattr(FATTR.SIZE | FATTR.KILL_SUIDGID), { uid: 1000 }),
    "O_TRUNC": () => kernel.call(OPCODE.OPEN, file, body(0o1001, 1), { uid: 1000 }),
    chown: () =>
      kernel.call(OPCODE.SETATTR, file, setattr(FATTR.GID | FATTR.KILL_SUIDGID, 0, 2000), { uid: 1000 }),
    "what the kernel says before it writes": () =>
      kernel.call(OPCODE.SETATTR, file, setattr(0), { uid: 1000 }),
  };
  for (const [change, make] of Object.entries(changes)) {
    const after = (who: string | null, mode = 0o6766): string => {
      kernel.call(OPCODE.SETATTR, file, setattr(FATTR.MODE | FATTR.GID, mode, 2000));
      kernel.status = who;
      const { error } = make();
      const { body: now } = kernel.call(OPCODE.GETATTR, file, body(0, 0, 0n));
      const left = new DataView(now.buffer, now.byteOffset).getUint32(16 + ATTR.mode, true) & 0o7777;
      return `${error} ${left.toString(8)}`;
    };
    assertEquals(after(status("24 1000")), "0 766", `${change}: of another group`);
    assertEquals(after(status("24 2000")), "0 2766", `${change}: of the group`);
    assertEquals(after(status("", "0000000000000010")), "0 2766", `${change}: CAP_FSETID`);
    assertEquals(after(null), "0 2766", `${change}: cannot be seen`);
    assertEquals(after(status("24 2000"), 0o6776), "0 776", `${change}: of a program`);
  }
  pair.settle();
  assertEquals(pair.a.fs.snapshot(), pair.b.fs.snapshot());
});

Deno.test("FuseServer takes setuid from a file that appeared before its create where the kernel asks for it, not from root's", () => {
  const { kernel, file } = ground();
  const setattr = body(FATTR.MODE, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0o6777, 0, 0, 0, 0);
  for (const [openFlags, left] of [[0, 0o6777], [1, 0o777]] as const) {
    kernel.call(OPCODE.SETATTR, file, setattr);
    // O_CREAT | O_TRUNC | O_RDWR
    const made = kernel.call(OPCODE.CREATE, 1, body(0o1102, 0o100644, 0, openFlags, "f"));
    assertEquals(idOf(made), file);
    const { body: now } = kernel.call(OPCODE.GETATTR, file, body(0, 0, 0n));
    const view = new DataView(now.buffer, now.byteOffset);
    assertEquals([view.getUint32(16 + ATTR.mode, true) & 0o7777, view.getBigUint64(16 + 8, true)], [
      left,
      0n,
    ]);
  }
});

Deno.test("FuseServer lets nobody take setuid and setgid away by a chown of nothing who could not change the content", () => {
  const { kernel, file, directory } = ground();
  const setattr = (valid: number, mode = 0): Uint8Array =>
    body(valid, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, mode, 0, 0, 0, 0);
  const after = (node: number, mode: number, uid: number, valid = 0) => {
    kernel.call(OPCODE.SETATTR, node, setattr(FATTR.MODE, mode));
    const { error } = kernel.call(OPCODE.SETATTR, node, setattr(valid), { uid });
    const { body: now } = kernel.call(OPCODE.GETATTR, node, body(0, 0, 0n));
    const left = new DataView(now.buffer, now.byteOffset).getUint32(16 + ATTR.mode, true) & 0o7777;
    return { error, mode: left };
  };

  assertEquals(after(file, 0o4755, 1000), { error: -ERRNO.EPERM, mode: 0o4755 }, "a stranger");
  assertEquals(after(file, 0o4755, 0), { error: 0, mode: 0o755 }, "root, as on a disk");
  assertEquals(
    after(file, 0o4777, 1000, FATTR.CTIME),
    { error: -ERRNO.EPERM, mode: 0o4777 },
    "surely a chown",
  );
  kernel.status = "CapEff:\t0000000000000008\n";
  assertEquals(after(file, 0o4777, 1000, FATTR.CTIME), { error: 0, mode: 0o777 }, "CAP_FOWNER");
  kernel.status = null;
  assertEquals(after(file, 0o4775, 1000), { error: 0, mode: 0o775 }, "perhaps of the group");
  assertEquals(after(file, 0o2745, 1000), { error: 0, mode: 0o2745 }, "setgid of no program");
  assertEquals(after(file, 0o755, 1000), { error: 0, mode: 0o755 }, "nothing to take away");
  assertEquals(after(directory, 0o2777, 1000), { error: 0, mode: 0o2777 }, "a directory");
});

Deno.test("FuseServer keeps a time beyond 2262 as the last there is", () => {
  const { kernel, file } = ground();
  const far = 2n ** 36n;
  const content = body(FATTR.MTIME, 0, 0n, 0n, 0n, 0n, far, 0n, 0, 0, 0, 0, 0, 0, 0, 0);
  const reply = kernel.call(OPCODE.SETATTR, file, content);
  const view = new DataView(reply.body.buffer, reply.body.byteOffset);
  assertEquals(view.getBigUint64(16 + ATTR.mtime, true), 9_223_372_036n);
});

Deno.test("FuseServer answers what the kernel flushes at once, and the close that made it flush when the peer has all of it", () => {
  const pair = new Pair();
  const { shared } = pair.primary;
  const kernel = new Kernel(pair.primary, INIT.WRITEBACK_CACHE, true);
  const file = kernel.create(1, "f", 0o101);
  shared.set(WORD.members, 2);
  shared.set(WORD.appliedLow, pair.primary.node.copy.journal.last);
  const write = (cache: number): Uint8Array => body(0n, 0n, 3, cache, 0n, 1, 0, Uint8Array.of(1, 2, 3));
  const times = body(FATTR.MTIME | FATTR.CTIME | FATTR.FH, 0, 0n, 0n, 0n, 0n, 7n, 0n, 0, 0, 0, 0, 0, 0, 0, 0);

  assertEquals(kernel.all(OPCODE.WRITE, file, write(1), { wait: true }).length, 1);
  assertEquals(kernel.all(OPCODE.SETATTR, file, times, { wait: true }).length, 1);
  assertEquals(
    kernel.all(OPCODE.FLUSH, file, body(0n, 0, 0, 0n), { wait: true }).length,
    0,
    "the close waits",
  );
  assertEquals(shared.repliesWaiting, 1);
  pair.primary.takeWaiting();
  assertEquals(
    kernel.all(OPCODE.WRITE, file, write(0), { wait: true }).length,
    0,
    "an application waits for a direct write",
  );
  pair.primary.takeWaiting();
  kernel.call(OPCODE.RELEASE, file, body(0n, 1, 0, 0n));
  assertEquals(
    kernel.all(OPCODE.FLUSH, file, body(0n, 0, 0, 0n), { wait: true }).length,
    1,
    "who only reads waits for nobody",
  );
});

Deno.test("FuseServer has flushes wait on a mount whose kernel was told once that closes need not be told", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary, INIT.WRITEBACK_CACHE, false);
  const file = kernel.create(1, "f", 0o101);
  pair.primary.shared.set(WORD.members, 2);
  pair.primary.shared.set(WORD.appliedLow, pair.primary.node.copy.journal.last);
  assertEquals(
    kernel.all(OPCODE.WRITE, file, body(0n, 0n, 3, 1, 0n, 1, 0, Uint8Array.of(1, 2, 3)), { wait: true })
      .length,
    0,
  );
  pair.primary.takeWaiting();
  assertEquals(kernel.call(OPCODE.FLUSH, file, body(0n, 0, 0, 0n)).error, ENOSYS);
});

Deno.test("FuseServer refuses RENAME_WHITEOUT: it would make an object without an id", () => {
  const { kernel } = ground();
  assertEquals(kernel.call(OPCODE.RENAME2, 1, body(1n, 4, 0, "f", "g")).error, -22);
});

Deno.test("FuseServer keeps NOREPLACE and EXCHANGE on both nodes", () => {
  const { pair, kernel, directory, file } = ground();
  const other = kernel.create(directory, "g");
  assertEquals(kernel.call(OPCODE.RENAME2, 1, body(BigInt(directory), 1, 0, "f", "g")).error, -17);
  assertEquals(kernel.call(OPCODE.RENAME2, 1, body(BigInt(directory), 2, 0, "f", "g")).error, 0);
  assertEquals(idOf(kernel.call(OPCODE.LOOKUP, 1, body("f"))), other);
  assertEquals(idOf(kernel.call(OPCODE.LOOKUP, directory, body("g"))), file);
  pair.settle();
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
  assertEquals(pair.a.keeper.size, 0);
});

Deno.test("FuseServer lets the keeper drop a file whose last name was not taken away after all", () => {
  const { pair, kernel } = ground();
  pair.a.fs.fail("unlinkat", 5);
  assertEquals(kernel.call(OPCODE.UNLINK, 1, body("f")).error, -5);
  assertEquals(pair.a.keeper.size, 0);
  kernel.create(1, "other");
  pair.a.fs.fail("renameat2", 28);
  assertEquals(kernel.call(OPCODE.RENAME, 1, body(1n, "other", "f")).error, -28);
  assertEquals(pair.a.keeper.size, 0);
});

Deno.test("FuseServer gives a nameless file its name whole, on both nodes", () => {
  const { pair, kernel } = ground();
  const id = kernel.tmpfile(1);
  const attributes = (): DataView =>
    new DataView(kernel.call(OPCODE.GETATTR, id, body(0, 0, 0n)).body.buffer, 16);
  assertEquals(attributes().getUint32(ATTR.nlink, true), 0);
  assertEquals(kernel.write(id, 0, Uint8Array.of(1, 2, 3)), 0);
  assertEquals(kernel.call(OPCODE.LINK, 1, body(BigInt(id), "f")).error, EEXIST);
  assertEquals(kernel.call(OPCODE.LINK, 1, body(BigInt(id), "named")).error, 0);
  assertEquals(idOf(kernel.call(OPCODE.LOOKUP, 1, body("named"))), id);
  assertEquals(attributes().getUint32(ATTR.nlink, true), 1);
  assertEquals(kernel.call(OPCODE.LINK, 1, body(BigInt(id), "again")).error, 0);
  assertEquals(attributes().getUint32(ATTR.nlink, true), 2);
  pair.settle();
  assertMatch(pair.b.fs.snapshot(), /^"\/named" 100600 .* size 3 /m);
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

Deno.test("FuseServer takes a nameless file away when the kernel forgets it, on both nodes", () => {
  const { pair, kernel } = ground();
  const id = kernel.tmpfile(1);
  assertMatch(pair.a.fs.snapshot(), /nameless\/1/);
  assertEquals(kernel.all(OPCODE.FORGET, id, body(1n)), []);
  pair.settle();
  assertEquals(pair.a.fs.snapshot().includes("nameless/"), false);
  assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot());
});

Deno.test("FuseServer knows the nameless files of a process before it, and takes them away when they are forgotten", () => {
  const { pair, kernel } = ground();
  const id = kernel.tmpfile(1);
  pair.a.restart("node1");
  const resumed = new Kernel(new Primary(pair.a, { resumed: true }), 0n);
  assertEquals(resumed.call(OPCODE.GETATTR, id, body(0, 0, 0n)).error, 0);
  assertEquals(resumed.server.sweep(), true);
  assertEquals(resumed.all(OPCODE.FORGET, id, body(1n)), []);
  assertEquals(pair.a.fs.snapshot().includes("nameless/"), false);
});

Deno.test("FuseServer.sweep() takes away what a former primary's applications left, and nothing that is in use", () => {
  const { pair, kernel } = ground();
  for (let i = 0; i < 50; i++) kernel.tmpfile(1);
  pair.a.restart("node1");
  const primary = new Primary(pair.a, { epoch: 2 });
  const next = new Kernel(primary);
  const used = next.tmpfile(1);
  while (!next.server.sweep());
  assertEquals(pair.a.fs.snapshot().match(/nameless\/[0-9a-f]+/g), [`nameless/${used.toString(16)}`]);
});

/** Requests that must not be done twice, each with what makes its ground. */
const ONCE: Readonly<
  Record<
    string,
    readonly [
      number,
      (ids: { file: number; directory: number; nameless: number }) => readonly [number, Uint8Array],
    ]
  >
> = {
  "exclusive create": [OPCODE.CREATE, () => [1, body(0o302, 0o100644, 0, 0, "made")]],
  mkdir: [OPCODE.MKDIR, () => [1, body(0o755, 0, "new")]],
  mknod: [OPCODE.MKNOD, () => [1, body(0o010600, 0, 0, 0, "p")]],
  symlink: [OPCODE.SYMLINK, () => [1, body("s", "target")]],
  tmpfile: [OPCODE.TMPFILE, () => [1, body(0o20000002, 0o100600, 0, 0, "/")]],
  "link of a nameless file": [OPCODE.LINK, ({ nameless }) => [1, body(BigInt(nameless), "h")]],
  link: [OPCODE.LINK, ({ file }) => [1, body(BigInt(file), "h")]],
  unlink: [OPCODE.UNLINK, () => [1, body("f")]],
  rmdir: [OPCODE.RMDIR, () => [1, body("d")]],
  rename: [OPCODE.RENAME, () => [1, body(1n, "f", "g")]],
  "rename over an open file": [OPCODE.RENAME, () => [1, body(1n, "x", "f")]],
  exchange: [OPCODE.RENAME2, () => [1, body(1n, 2, 0, "f", "d")]],
  setattr: [
    OPCODE.SETATTR,
    ({ file }) => [file, body(1 + 8, 0, 0n, 77n, 0n, 0n, 0n, 0n, 0, 0, 0, 0o600, 0, 0, 0, 0)],
  ],
  write: [OPCODE.WRITE, ({ file }) => [file, body(0n, 5n, 3, 0, 0n, 2, 0, Uint8Array.of(1, 2, 3))]],
  "exclusive setxattr": [OPCODE.SETXATTR, ({ file }) => [file, body(1, 1, "user.x", "v")]],
  removexattr: [OPCODE.REMOVEXATTR, ({ file }) => [file, body("user.there")]],
  fallocate: [OPCODE.FALLOCATE, ({ file }) => [file, body(0n, 0n, 9000n, 0, 0)]],
  copy: [OPCODE.COPY_FILE_RANGE, ({ file }) => [file, body(0n, 0n, BigInt(file), 0n, 5000n, 3n, 0n)]],
};

function prepared(): ReturnType<typeof ground> & { readonly nameless: number } {
  const made = ground();
  const nameless = made.kernel.tmpfile(1);
  assertEquals(made.kernel.write(nameless, 0, Uint8Array.of(7, 7)), 0);
  made.kernel.create(1, "x");
  assertEquals(made.kernel.write(made.file, 0, Uint8Array.of(9, 9, 9, 9)), 0);
  assertEquals(made.kernel.call(OPCODE.SETXATTR, made.file, body(1, 0, "user.there", "v")).error, 0);
  made.pair.settle();
  return { ...made, nameless };
}

for (const [name, [opcode, make]] of Object.entries(ONCE)) {
  Deno.test(`FuseServer answers a resent ${name} from the log, and repeats nothing`, () => {
    const ids = prepared();
    const { pair, kernel } = ids;
    const [node, content] = make(ids);
    const { unique } = kernel;
    const first = kernel.call(opcode, node, content);
    assertEquals(first.error, 0);
    const after = pair.a.fs.snapshot();
    const { last } = pair.a.copy.journal;
    const again = kernel.call(opcode, node, content, { unique, resent: true });
    assertEquals(again.error, 0);
    assertEquals(again.body, first.body);
    assertEquals(pair.a.fs.snapshot(), after);
    assertEquals(pair.a.copy.journal.last, last);
  });

  Deno.test(`FuseServer ends as if nothing had happened when it is killed at any step of a ${name}`, () => {
    const expected = prepared();
    const [, wanted] = make(expected);
    assertEquals(expected.kernel.call(opcode, make(expected)[0], wanted).error, 0);
    const tree = withoutTimes(expected.pair.a.fs.snapshot());
    for (let step = 0;; step++) {
      const ids = prepared();
      const { pair, kernel } = ids;
      const [node, content] = make(ids);
      const { unique } = kernel;
      if (!killedAt(pair, step, () => kernel.call(opcode, node, content))) {
        assert(step >= 2, "the request was broken at some steps");
        return;
      }
      pair.secondary.receive();
      pair.a.restart("node1");
      const primary = pair.primary = new Primary(pair.a, { resumed: true });
      primary.replay(pair.secondary.stream, pair.b.copy.journal.last + 1);
      primary.connect(pair.secondary.stream);
      const resumed = new Kernel(primary, 0n);
      const reply = resumed.call(opcode, node, content, { unique, resent: true });
      assertEquals(reply.error, 0, `killed at step ${step}`);
      assertEquals(withoutTimes(pair.a.fs.snapshot()), tree, `killed at step ${step}`);
      pair.settle();
      assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot(), `the peer, killed at step ${step}`);
    }
  });
}

/** Two files that stay on the node, and a request that exchanges their names. */
function localSwap() {
  const pair = new Pair(["*.tmp"]);
  const kernel = new Kernel(pair.primary);
  for (const [index, name] of ["a.tmp", "b.tmp"].entries()) {
    assertEquals(kernel.write(kernel.create(1, name), 0, new Uint8Array(index + 1)), 0);
  }
  pair.settle();
  return { pair, kernel, content: body(1n, 2, 0, "a.tmp", "b.tmp") };
}

for (const resends of [true, false]) {
  const who = resends ? "comes again" : "was in hand";
  Deno.test(`FuseServer exchanges two excluded files once, killed at any step, when the request ${who}`, () => {
    const expected = localSwap();
    assertEquals(expected.kernel.call(OPCODE.RENAME2, 1, expected.content).error, 0);
    const tree = withoutTimes(expected.pair.a.fs.snapshot());
    for (let step = 0;; step++) {
      const { pair, kernel, content } = localSwap();
      const { unique } = kernel;
      const { inflight } = pair.primary;
      if (!killedAt(pair, step, () => kernel.call(OPCODE.RENAME2, 1, content))) {
        assert(step >= 2, "the request was broken at some steps");
        return;
      }
      pair.a.fs.before = pair.a.fs.after = () => undefined;
      pair.a.restart("node1");
      const resumed = new Kernel(new Primary(pair.a, { resumed: true, inflight, resends }), 0n);
      const [reply] = resends
        ? resumed.all(OPCODE.RENAME2, 1, content, { unique, resent: true })
        : resumed.inherit();
      assertEquals(reply?.error, 0, `killed at step ${step}`);
      assertEquals(withoutTimes(pair.a.fs.snapshot()), tree, `killed at step ${step}`);
    }
  });
}

Deno.test("FuseServer exchanges two excluded files back when it is asked to", () => {
  const { pair, kernel, content } = localSwap();
  const before = withoutTimes(pair.a.fs.snapshot());
  for (let i = 0; i < 2; i++) assertEquals(kernel.call(OPCODE.RENAME2, 1, content).error, 0);
  assertEquals(withoutTimes(pair.a.fs.snapshot()), before);
});

Deno.test("FuseServer gives a file without a name one, and another sweeps such files, whatever numbers exclude takes", () => {
  const pair = new Pair(["[0-9a-f]*"]);
  const before = new Kernel(pair.primary);
  const id = before.tmpfile(1);
  const other = before.tmpfile(1);
  assertEquals(before.write(id, 0, Uint8Array.of(1, 2, 3)), 0);
  pair.settle();
  pair.a.restart("node1");
  pair.primary = new Primary(pair.a, { resumed: true });
  pair.primary.connect(pair.secondary.stream);
  // The next process finds them by their names.
  const kernel = new Kernel(pair.primary, 0n);
  assertEquals(kernel.call(OPCODE.LINK, 1, body(BigInt(id), "published")).error, 0);
  kernel.all(OPCODE.FORGET, other, body(1n));
  pair.settle();
  const names = pair.a.fs.snapshot();
  assertMatch(names, /published/);
  assertEquals(names.includes(`nameless/${other.toString(16)}`), false, names);
  assertEquals(pair.b.fs.snapshot(), names);
});

for (const [name, [opcode, make]] of Object.entries(ONCE)) {
  Deno.test(`FuseServer takes a ${name} up that a killed process had in hand, once, and answers it`, () => {
    const expected = prepared();
    const [, wanted] = make(expected);
    assertEquals(expected.kernel.call(opcode, make(expected)[0], wanted).error, 0);
    const tree = withoutTimes(expected.pair.a.fs.snapshot());
    for (let step = 0;; step++) {
      const ids = prepared();
      const { pair, kernel } = ids;
      const [node, content] = make(ids);
      const { inflight } = pair.primary;
      if (!killedAt(pair, step, () => kernel.call(opcode, node, content))) return;
      pair.secondary.receive();
      // The next one is killed as well, at its first step: what is in hand stays in hand.
      pair.a.restart("node1");
      const second = new Primary(pair.a, { resumed: true, inflight });
      pair.primary = second;
      killedAt(pair, 0, () => new Kernel(second, 0n).inherit());
      pair.a.fs.before = pair.a.fs.after = () => undefined;
      pair.a.restart("node1");
      const primary = pair.primary = new Primary(pair.a, { resumed: true, inflight });
      primary.replay(pair.secondary.stream, pair.b.copy.journal.last + 1);
      primary.connect(pair.secondary.stream);
      const replies = [...second.replies, ...new Kernel(primary, 0n).inherit()];
      assertEquals(replies.map(({ error }) => error), [0], `killed at step ${step}`);
      assertEquals(withoutTimes(pair.a.fs.snapshot()), tree, `killed at step ${step}`);
      assertEquals(new Kernel(primary, 0n).inherit(), [], "nothing is in hand any more");
      pair.settle();
      assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot(), `the peer, killed at step ${step}`);
    }
  });
}

/** Runs; ends the process in front of a call of the file system, or behind one, the `step`-th such place. Answers whether there was one. */
function killedAt(pair: Pair, step: number, run: () => void): boolean {
  let left = step;
  const count = (): undefined => {
    if (left-- === 0) throw new Killed("the process was killed");
  };
  pair.a.fs.before = count;
  pair.a.fs.after = count;
  try {
    run();
    return false;
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
    return true;
  }
}

/** Ids differ when one was spent on an attempt that did not happen; names of nameless files are made of them. */
function withoutTimes(snapshot: string): string {
  const without = snapshot.replaceAll(/trusted\.binome\.id=[\d,]+/g, "id");
  return without.replaceAll(/(nameless\/)[0-9a-f]+/g, "$1*").split("\n").sort().join("\n");
}

function namesOf(page: Uint8Array, plus = false): string[] {
  const names: string[] = [];
  each(
    page,
    plus,
    (at, view, length) =>
      names.push(String.fromCharCode(...page.subarray(at + 24, at + 24 + length))) && view,
  );
  return names;
}

function lastOffset(page: Uint8Array, plus: boolean): bigint {
  let offset = 0n;
  each(page, plus, (at, view) => offset = view.getBigUint64(at + 8, true));
  return offset;
}

function each(
  page: Uint8Array,
  plus: boolean,
  visit: (at: number, view: DataView, length: number) => void,
): void {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let at = 0; at < page.length;) {
    const dirent = at + (plus ? 128 : 0);
    const length = view.getUint32(dirent + 16, true);
    visit(dirent, view, length);
    at = dirent + ((24 + length + 7) & ~7);
  }
}
