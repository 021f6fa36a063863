import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { DIRENT64, Dirents } from "../system/dirents.ts";
import { FileHandle } from "../system/handle.ts";
import { FS_FL, S_IF } from "../system/linux.ts";
import { STATFS, Statfs, STATX, Statx } from "../system/statx.ts";
import {
  checkFileSystem,
  differenceOf,
  type FileSystem,
  fileSystemOf,
  type FileSystemWorld,
  readFileSystems,
} from "./file_system.ts";

const PLACE = { path: "/srv/data", fd: 3 };
const NANOSECONDS = 8_000_000_000_000_000_001n;

interface Made {
  /** −errno of `name_to_handle_at`. */
  readonly named: number;
  readonly flags: number;
  /** Names in the directory, and the number of the object they lead to. */
  readonly names: Readonly<Record<string, number>>;
  readonly nlink: number;
  /** Names are found in any case. */
  readonly folds: boolean;
  readonly sizeMax: number;
  readonly time: bigint;
  readonly acl: number;
  /** −errno of making a file without a name. */
  readonly nameless: number;
}
const EXT4: Made = {
  named: 0,
  flags: 0,
  names: { lost: 11 },
  nlink: 1,
  folds: false,
  sizeMax: 2 ** 44 - 4096,
  time: NANOSECONDS,
  acl: -61,
  nameless: 9,
};

/** A directory on a file system that is as said. */
function world(said: Partial<Made> = {}): FileSystemWorld & { open(): number } {
  const made = { ...EXT4, ...said };
  const entries = new Dirents(4096);
  let open = 0;
  let listed = false;
  const opened = (fd: number) => {
    if (fd >= 0) open++;
    return fd;
  };
  const backing: FileSystemWorld["backing"] = {
    nameToHandle: () => made.named,
    openByHandle: () => opened(8),
    reopen: () => opened(7),
    openat: () => opened(made.nameless),
    close: () => {
      open--;
      return 0;
    },
    inodeFlags: () => made.flags,
    getxattr: () => made.acl,
    lseek: (_fd, offset) => offset <= made.sizeMax ? 0 : -22,
    utimens: () => 0,
    statx: (_fd, into) => {
      into.view.setBigInt64(STATX.mtime, made.time / 1_000_000_000n, true);
      into.view.setUint32(STATX.mtime + 8, Number(made.time % 1_000_000_000n), true);
      return 0;
    },
    statxAt: (_fd, name, into) => {
      const text = new TextDecoder().decode((name as Uint8Array).subarray(0, -1));
      const same = (one: string) => one === text || (made.folds && one.toLowerCase() === text.toLowerCase());
      const found = Object.entries(made.names).find(([one]) => same(one));
      if (found === undefined) return -2;
      into.view.setUint32(STATX.ino, found[1], true);
      into.view.setUint32(STATX.nlink, made.nlink, true);
      into.view.setUint16(STATX.mode, S_IF.REG | 0o644, true);
      return 0;
    },
    getdents: (_fd, into) => {
      if (listed) return 0;
      listed = true;
      let at = 0;
      for (const [name, ino] of Object.entries(made.names)) {
        const length = (DIRENT64.name + name.length + 1 + 7) & ~7;
        const view = new DataView(into.bytes.buffer);
        view.setUint32(at, ino, true);
        view.setUint16(at + DIRENT64.reclen, length, true);
        new TextEncoder().encodeInto(`${name}\0`, into.bytes.subarray(at + DIRENT64.name));
        at += length;
      }
      into.filled(at);
      return at;
    },
    fstatfs: (_fd, into) => {
      into.view.setUint32(STATFS.namelen, 255, true);
      return 0;
    },
  };
  return {
    backing,
    entries,
    statx: new Statx(),
    statfs: new Statfs(),
    handle: new FileHandle(),
    open: () => open,
  };
}

const EXT4_SAYS: FileSystem = { nameMax: 255, sizeBits: 43, acl: true, time: String(NANOSECONDS) };

Deno.test("checkFileSystem() takes a file system that keeps names apart and finds objects again", () => {
  const of = world();
  checkFileSystem(PLACE, of);
  assertEquals(of.open(), 0);
});

Deno.test("checkFileSystem() refuses one without file handles, and says which have them", () => {
  const error = assertThrows(() => checkFileSystem(PLACE, world({ named: -95 })), Error);
  assertStringIncludes(error.message, "Cannot use /srv/data: its file system has no file handles");
  assertStringIncludes(error.message, "use ext4, xfs or btrfs");
});

Deno.test("checkFileSystem() refuses a directory that takes two names for one, by its flag or by what it does", () => {
  for (
    const said of [{ flags: FS_FL.CASEFOLD, names: {} }, {
      flags: -25,
      folds: true,
      names: { "12": 4, Mixed: 5 },
    }]
  ) {
    const of = world(said);
    const error = assertThrows(() => checkFileSystem(PLACE, of), Error);
    assertStringIncludes(error.message, "differ in case");
    assertEquals(of.open(), 0);
  }
});

Deno.test("checkFileSystem() takes a directory in which one file has two names that differ in case", () => {
  checkFileSystem(PLACE, world({ names: { a: 4, A: 4 }, nlink: 2 }));
});

Deno.test("fileSystemOf() finds out what can be held, and leaves nothing open", () => {
  const of = world();
  assertEquals(fileSystemOf(PLACE, of), EXT4_SAYS);
  assertEquals(of.open(), 0);
  const small = world({ sizeMax: 2 ** 32 - 1, acl: -95, time: 2_147_483_647_000_000_000n });
  assertEquals(fileSystemOf(PLACE, small), {
    nameMax: 255,
    sizeBits: 31,
    acl: false,
    time: "2147483647000000000",
  });
});

Deno.test("fileSystemOf() does not say what it cannot find out: a full disk is no difference", () => {
  const full = fileSystemOf(PLACE, world({ nameless: -28 }));
  assertEquals(full, { nameMax: 255, sizeBits: null, acl: true, time: null });
  assertEquals(differenceOf([EXT4_SAYS], [full], [PLACE.path]), null);
});

Deno.test("differenceOf() names the directory, and what each side has, of all that differs", () => {
  const cases: readonly (readonly [Partial<FileSystem>, RegExp])[] = [
    [{ nameMax: 143 }, /has names of up to 255 bytes, the secondary's names of up to 143 bytes\. Make/],
    [{ sizeBits: 40 }, /has files of up to 16 TiB, the secondary's files of up to 2 TiB\./],
    [{ sizeBits: 31 }, /has files of up to 16 TiB, the secondary's files of up to 4 GiB\./],
    [{ acl: false }, /has ACLs, the secondary's no ACLs\./],
    [{ time: "2147483647000000000" }, /in nanoseconds beyond 2038, .* in whole seconds up to 2038\./],
  ];
  for (const [said, expected] of cases) {
    const why = differenceOf([EXT4_SAYS, EXT4_SAYS], [EXT4_SAYS, { ...EXT4_SAYS, ...said }], [
      "/srv/a",
      "/srv/b",
    ]);
    assertMatch(why ?? "", /^the file systems of \/srv\/b differ: the primary's /);
    assertMatch(why ?? "", expected);
  }
});

Deno.test("differenceOf() has nothing to say of equal ones, nor of a program that says nothing", () => {
  assertEquals(differenceOf([EXT4_SAYS], [EXT4_SAYS], [PLACE.path]), null);
  assertEquals(differenceOf([EXT4_SAYS], null, [PLACE.path]), null);
});

Deno.test("readFileSystems() reads what was said, nothing where it is missing, and refuses anything else", () => {
  assertEquals(readFileSystems(JSON.parse(JSON.stringify({ fileSystems: [EXT4_SAYS] }))), [EXT4_SAYS]);
  assertEquals(readFileSystems({}), null);
  for (
    const fileSystems of [
      7,
      [3],
      [null],
      [{ nameMax: "x" }],
      [{ acl: 1 }],
      [{ time: "soon" }],
      new Array(65).fill({}),
    ]
  ) {
    assertThrows(() => readFileSystems({ fileSystems }), TypeError, "Cannot read");
  }
});

Deno.test("differenceOf() finds none between sizes that files seldom reach: blocks of 1 KiB, ext4 beside XFS", () => {
  for (const sizeBits of [41, 62]) {
    assertEquals(differenceOf([EXT4_SAYS], [{ ...EXT4_SAYS, sizeBits }], [PLACE.path]), null);
  }
});
