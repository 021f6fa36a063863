/** Nothing is discarded (invariant I6): what a comparison overwrites or deletes is found in quarantine. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { ApplyError } from "../../lib/replication/follower.ts";
import { type Backing, backing } from "../../lib/system/backing.ts";
import { S_IF } from "../../lib/system/linux.ts";
import { OP } from "../../lib/journal/record.ts";
import { LOCAL_FIRST } from "../../lib/replication/border.ts";
import { Mutation } from "../../lib/replication/mutation.ts";
import { Actor, dice, Model, terminated, touchedBy } from "./chance.ts";
import { describeTree } from "./compare.ts";
import { ok, Session, Side } from "./twins.ts";

backing.umask(0);

interface Line {
  readonly id: number;
  readonly what: string;
  readonly offset?: number;
  readonly length?: number;
  readonly zeros?: boolean;
  readonly saved?: string;
  readonly attributes?: { readonly mode: string; readonly uid: number };
}

interface Kept {
  readonly folder: string;
  readonly lines: readonly Line[];
}

/** The only folder of a quarantine and its manifest. */
function open(directory: string): Kept {
  const folders = [...Deno.readDirSync(directory)].map((entry) => entry.name);
  assertEquals(folders.length, 1);
  const folder = `${directory}/${folders[0]}`;
  const text = Deno.readTextFileSync(`${folder}/manifest.jsonl`);
  return { folder, lines: text.trimEnd().split("\n").map((line) => JSON.parse(line) as Line) };
}

/** Content of every regular file of the target that has a name. */
function contents(side: Side, model: Model): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  for (const node of model.nodes.values()) {
    if (node.type !== S_IF.REG || node.links === 0) continue;
    const held = side.objects.get(node.id);
    if (held !== undefined) found.set(node.id, Deno.readFileSync(`/proc/self/fd/${held.path}`));
  }
  return found;
}

/** What a file may have been: what it is now, or what was deleted, with what was saved put back, newest first. */
function restore(
  now: Uint8Array | undefined,
  id: number,
  length: number,
  { folder, lines }: Kept,
): Uint8Array[] {
  // Another object had the same id there: its own was taken from it before it was deleted.
  const deleted = lines.filter((line) => line.what === "deleted" && (line.id === id || line.id === 0))
    .filter((line) => (parseInt(line.attributes?.mode ?? "0", 8) & S_IF.MT) === S_IF.REG);
  const bases = [now ?? new Uint8Array(0), ...deleted.map((line) => readNamed(`${folder}/${line.saved}`))];
  return bases.map((base) => {
    const bytes = new Uint8Array(Math.max(length, base.length));
    bytes.set(base);
    for (const line of lines.toReversed()) {
      if (line.what !== "content" || line.id !== id) continue;
      const { offset = 0, length: count = 0 } = line;
      if (offset >= bytes.length) continue;
      if (line.zeros === true) bytes.fill(0, offset, offset + count);
      else {
        const saved = Deno.readFileSync(`${folder}/${line.saved}`);
        bytes.set(saved.subarray(0, Math.max(0, bytes.length - offset)), offset);
      }
    }
    return bytes.slice(0, length);
  });
}

/** Reads a file whose name may be any bytes, escaped as in the manifest. */
function readNamed(path: string): Uint8Array {
  const bytes = Array.from(path).flatMap((character) => {
    const code = character.charCodeAt(0);
    return code >= 0xdc80 && code <= 0xdcff ? [code - 0xdc00] : [...new TextEncoder().encode(character)];
  });
  const fd = ok(backing.openat(-100, Uint8Array.from([...bytes, 0]), 0, 0));
  const content = Deno.readFileSync(`/proc/self/fd/${fd}`);
  backing.close(fd);
  return content;
}

function diverged(seed: number, quarantine: (path: string) => string, whole: boolean): void {
  const path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "quarantine-" });
  let next = 16;
  const roll = dice(seed);
  const source = new Side(`${path}/source`, 1, () => next++);
  const target = new Side(`${path}/target`, 1, () => {
    throw new Error("a target gives no ids");
  });
  const place = quarantine(path);
  try {
    const actor = new Actor(source, new Model(1), roll, () => next++);
    for (let i = 0; i < 80; i++) {
      const mutation = actor.act();
      if (mutation !== undefined) target.apply(mutation);
    }
    const changed = new Set<number>();
    let apart = next;
    const stray = new Actor(target, actor.model.clone(), roll, () => apart++);
    for (let i = 0; i < 30; i++) for (const id of touchedBy(stray.act() ?? stray.mutation)) changed.add(id);
    const before = contents(target, stray.model);
    for (let i = 0; i < 10; i++) for (const id of touchedBy(actor.act() ?? actor.mutation)) changed.add(id);
    const session = new Session(source, target, { whole, ids: changed, quarantine: place });
    // Before the first frame: what a record changes later, on an object made equal, is the application's history.
    for (let i = 0; i < 15; i++) {
      const mutation = actor.act();
      if (mutation === undefined) continue;
      for (const id of touchedBy(mutation)) changed.add(id);
      session.record(mutation);
    }
    session.run();
    while (session.receive());
    assertEquals(describeTree(target.roots[0]?.fd ?? -1), describeTree(source.roots[0]?.fd ?? -1));
    const kept = open(place);
    assertEquals(session.saved?.entries, kept.lines.length);
    const after = contents(target, actor.model);
    for (const [id, bytes] of before) {
      // What neither side wrote alone is the application's history, not the target's own.
      if (!changed.has(id)) continue;
      const candidates = restore(after.get(id), id, bytes.length, kept);
      // Made equal, then deleted by the application: the rest of it was the source's.
      if (after.get(id) === undefined && candidates.length === 1) continue;
      const found = candidates.some((candidate) => candidate.every((byte, index) => byte === bytes[index]));
      assert(found, `content of object ${id} cannot be put together again`);
    }
  } catch (error) {
    throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
  } finally {
    source.close();
    target.close();
    Deno.removeSync(path, { recursive: true });
    if (!place.startsWith(path)) Deno.removeSync(place, { recursive: true });
  }
}

Deno.test("Quarantine has every byte that was overwritten, on the same file system", () => {
  for (let seed = 1; seed <= 6; seed++) {
    diverged(seed, (path) => `${path}/state/quarantine/module`, seed % 2 === 0);
  }
});

Deno.test("Quarantine has every byte that was overwritten, on another file system", () => {
  for (let seed = 11; seed <= 16; seed++) {
    diverged(seed, () => Deno.makeTempDirSync({ dir: "/dev/shm", prefix: "quarantine-" }), seed % 2 === 0);
  }
});

/** A target that has a file and a tree that the source does not have, and one file that differs. */
function withStray(work: (world: { path: string; source: Side; target: Side; ids: number[] }) => void): void {
  const path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "quarantine-" });
  const source = new Side(`${path}/source`, 1, () => 100);
  const target = new Side(`${path}/target`, 1, () => 100);
  const root = `${path}/target/root0`;
  try {
    Deno.mkdirSync(`${root}/tree/inner`, { recursive: true });
    Deno.writeTextFileSync(`${root}/tree/inner/leaf`, "the only copy");
    Deno.writeFileSync(`${root}/big`, new Uint8Array(3_000_000).fill(7));
    Deno.symlinkSync("nowhere", `${root}/tree/link`);
    Deno.linkSync(`${root}/tree/inner/leaf`, `${root}/tree/leaf again`);
    work({ path, source, target, ids: [1] });
  } finally {
    source.close();
    target.close();
    Deno.removeSync(path, { recursive: true });
  }
}

function find(folder: string, name: string): string[] {
  const found: string[] = [];
  for (const entry of Deno.readDirSync(folder)) {
    if (entry.name === name) found.push(`${folder}/${name}`);
    if (entry.isDirectory) found.push(...find(`${folder}/${entry.name}`, name));
  }
  return found;
}

Deno.test("Quarantine keeps whole trees that the primary does not have, moved or copied", () => {
  for (const shared of [false, true]) {
    withStray(({ path, source, target, ids }) => {
      const place = shared
        ? Deno.makeTempDirSync({ dir: "/dev/shm", prefix: "quarantine-" })
        : `${path}/quarantine`;
      const session = new Session(source, target, { whole: false, ids, quarantine: place });
      session.run();
      assertEquals([...Deno.readDirSync(`${path}/target/root0`)], []);
      const { folder, lines } = open(place);
      assertEquals(session.saved?.path, folder);
      const leaves = [...find(folder, "leaf"), ...find(folder, "leaf again")];
      assertEquals(leaves.length, 1);
      assertEquals(Deno.readTextFileSync(leaves[0] ?? ""), "the only copy");
      assertEquals(Deno.readLinkSync(find(folder, "link")[0] ?? ""), "nowhere");
      const big = lines.find(({ what, saved }) =>
        what === "deleted" && Deno.lstatSync(`${folder}/${saved}`).size === 3_000_000
      );
      assertEquals(Deno.readFileSync(`${folder}/${big?.saved}`), new Uint8Array(3_000_000).fill(7));
      assert((session.saved?.bytes ?? 0) >= 3_000_000);
      if (shared) Deno.removeSync(place, { recursive: true });
    });
  }
});

Deno.test("Quarantine stops the comparison when its disk is full, and what could not be saved stays as it is", () => {
  withStray(({ path, source, target, ids }) => {
    const place = `${path}/full`;
    Deno.mkdirSync(place);
    const mounted = new Deno.Command("mount", { args: ["-t", "tmpfs", "-o", "size=1m", "none", place] })
      .outputSync();
    assert(mounted.success, new TextDecoder().decode(mounted.stderr));
    try {
      const session = new Session(source, target, { whole: false, ids, quarantine: place });
      const error = assertThrows(() => session.run(), ApplyError, "make room there");
      assertEquals(error.errno, 28);
      session.cut();
      const limbo = `${path}/target/root0/.binome/limbo`;
      const sizes = [...Deno.readDirSync(limbo)].map((entry) =>
        Deno.lstatSync(`${limbo}/${entry.name}`).size
      );
      assert(sizes.includes(3_000_000));
    } finally {
      new Deno.Command("umount", { args: ["-l", place] }).outputSync();
    }
    // With room it goes on from there.
    const again = new Session(source, target, { whole: false, ids, quarantine: `${path}/quarantine` });
    again.run();
    assertEquals([...Deno.readDirSync(`${path}/target/root0`)], []);
    assert((again.saved?.bytes ?? 0) >= 3_000_000);
  });
});

Deno.test("Quarantine tells what mode and owner were before they were changed", () => {
  const path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "quarantine-" });
  let next = 16;
  const source = new Side(`${path}/source`, 1, () => next++);
  const target = new Side(`${path}/target`, 1, () => next++);
  try {
    const actor = new Actor(source, new Model(1), dice(1), () => next++);
    actor.mutation.reset(1, next++).name = terminated("file");
    actor.mutation.a = 0o640;
    actor.mutation.c = 1;
    ok(source.mutate(actor.mutation));
    target.apply(actor.mutation);
    const id = actor.mutation.id;
    Deno.chmodSync(`${path}/target/root0/file`, 0o604);
    Deno.chownSync(`${path}/target/root0/file`, 42, 0);
    const session = new Session(source, target, {
      whole: false,
      ids: [id],
      quarantine: `${path}/quarantine`,
    });
    session.run();
    const { lines } = open(`${path}/quarantine`);
    const line = lines.find(({ what }) => what === "attributes");
    assertEquals([line?.id, line?.attributes?.mode, line?.attributes?.uid], [id, "100604", 42]);
  } finally {
    source.close();
    target.close();
    Deno.removeSync(path, { recursive: true });
  }
});

for (const gone of ["while it was away", "before its eyes"]) {
  Deno.test(`Quarantine has what exclude kept on the secondary, of a directory that the primary removed ${gone}`, () => {
    const path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "quarantine-" });
    const exclude = ["*.tmp", "cache"];
    let next = 16;
    const source = new Side(`${path}/source`, 1, () => next++, undefined, exclude);
    const target = new Side(`${path}/target`, 1, () => LOCAL_FIRST + next++, undefined, exclude);
    try {
      const mutation = new Mutation();
      const both = (): void => {
        ok(source.mutate(mutation));
        target.apply(mutation);
      };
      const id = next++;
      mutation.reset(OP.mkdir, id);
      mutation.a = 0o755;
      mutation.c = 1;
      mutation.name = terminated("dir");
      both();
      const beneath = `${path}/target/root0/dir`;
      Deno.writeTextFileSync(`${beneath}/mine.tmp`, "mine");
      Deno.mkdirSync(`${beneath}/cache`);
      Deno.writeTextFileSync(`${beneath}/cache/deep`, "deep");
      // Put there beforehand, as on a copy that came by courier: it has no id either, and is nobody's own.
      if (gone === "while it was away") Deno.writeTextFileSync(`${beneath}/seeded`, "seeded");
      // One has been looked at, so it has an id of this node.
      const dir = target.objects.get(id);
      assert(dir !== undefined && typeof target.objects.lookup(dir, terminated("mine.tmp")) !== "number");
      mutation.reset(OP.rmdir, id);
      mutation.c = 1;
      mutation.name = terminated("dir");
      if (gone === "before its eyes") both();
      else ok(source.mutate(mutation));
      const session = new Session(source, target, { whole: true, ids: [], own: `${path}/kept` });
      session.run();
      while (session.receive());
      assertEquals(describeTree(target.roots[0]?.fd ?? -1), describeTree(source.roots[0]?.fd ?? -1));
      const { folder, lines } = open(`${path}/kept`);
      assertEquals(Deno.readTextFileSync(`${folder}/deleted/mine.tmp`), "mine");
      assertEquals(Deno.readTextFileSync(`${folder}/deleted/deep`), "deep");
      assertEquals(lines.filter(({ what }) => what === "deleted").length, 2);
      assertEquals([...Deno.readDirSync(`${path}/target/root0`)], []);
    } finally {
      source.close();
      target.close();
      Deno.removeSync(path, { recursive: true });
    }
  });
}

/** The backing, watched: what of the manifest is on disk when a file leaves its place for quarantine. */
function watched(): { readonly backing: Backing; readonly seen: Seen } {
  const seen = { lines: 0, synced: 0, syncs: 0, early: 0, looks: 0 };
  const manifests = new Set<number>();
  return {
    seen,
    backing: {
      ...backing,
      openat: (dirfd, name, flags, mode) => {
        const fd = backing.openat(dirfd, name, flags, mode);
        if (typeof name !== "number" && new TextDecoder().decode(name).startsWith("manifest")) {
          manifests.add(fd);
        }
        return fd;
      },
      pwrite: (fd, address, count, offset) => {
        if (manifests.has(fd)) seen.lines++;
        return backing.pwrite(fd, address, count, offset);
      },
      fdatasync: (fd) => {
        if (manifests.has(fd)) {
          seen.syncs++;
          seen.synced = seen.lines;
        }
        return backing.fdatasync(fd);
      },
      statxAt: (dirfd, name, into) => {
        seen.looks++;
        return backing.statxAt(dirfd, name, into);
      },
      renameat2: (from, name, to, other, flags) => {
        if (seen.synced < seen.lines) seen.early++;
        return backing.renameat2(from, name, to, other, flags);
      },
    },
  };
}

interface Seen {
  readonly lines: number;
  readonly syncs: number;
  readonly early: number;
  readonly looks: number;
}

for (const [where, place] of [["on the same", "/var/tmp"], ["on another", "/dev/shm"]] as const) {
  Deno.test(`Quarantine ${where} file system has many excluded files of one name, and syncs once for dozens of them`, () => {
    const path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "quarantine-" });
    const kept = Deno.makeTempDirSync({ dir: place, prefix: "quarantine-" });
    let next = 16;
    const source = new Side(`${path}/source`, 1, () => next++, undefined, ["*.tmp"]);
    const target = new Side(`${path}/target`, 1, () => LOCAL_FIRST + next++, undefined, ["*.tmp"]);
    try {
      const mutation = new Mutation();
      const make = (op: number, parent: number, name: string, id: number): void => {
        mutation.reset(op, id);
        mutation.a = 0o755;
        mutation.c = parent;
        mutation.name = terminated(name);
        ok(source.mutate(mutation));
        target.apply(mutation);
      };
      const gone = next++;
      make(OP.mkdir, 1, "gone", gone);
      const beneath = `${path}/target/root0/gone`;
      const expected = new Set<string>();
      const put = (folder: string, name: string): void => {
        Deno.writeTextFileSync(`${beneath}/${folder}${name}`, `${folder}${name}`);
        expected.add(`${folder}${name}`);
      };
      for (let i = 0; i < 100; i++) {
        make(OP.mkdir, gone, `d${i}`, next++);
        make(OP.mkdir, next - 1, "deep", next++);
        put(`d${i}/`, "same.tmp");
        put(`d${i}/deep/`, "same.tmp");
        put("", `${i}.tmp`);
      }
      Deno.mkdirSync(`${beneath}/d0/mine.tmp`);
      put("d0/mine.tmp/", "inside");
      const long = `${"l".repeat(251)}.tmp`;
      for (let i = 0; i < 3; i++) put(`d${i}/`, long);
      Deno.removeSync(`${path}/source/root0/gone`, { recursive: true });
      source.objects.remove(gone);
      const { backing: quarantineBacking, seen } = watched();
      const session = new Session(source, target, { whole: true, ids: [], own: kept, quarantineBacking });
      session.run();
      while (session.receive());
      assertEquals([...Deno.readDirSync(`${path}/target/root0`)], []);
      const { folder, lines } = open(kept);
      const found = lines.filter(({ what }) => what === "deleted").map(({ saved }) =>
        Deno.readTextFileSync(`${folder}/${saved}`)
      );
      assertEquals(new Set(found), expected);
      assertEquals(found.length, expected.size);
      assertEquals(seen.early, 0, "no file leaves its place before its line is on disk");
      assert(
        seen.syncs <= 2 * Math.ceil(expected.size / 64),
        `${seen.syncs} syncs for ${expected.size} files`,
      );
      assert(seen.looks <= expected.size * 20, `${seen.looks} looks for ${expected.size} names`);
    } finally {
      source.close();
      target.close();
      Deno.removeSync(path, { recursive: true });
      Deno.removeSync(kept, { recursive: true });
    }
  });
}
