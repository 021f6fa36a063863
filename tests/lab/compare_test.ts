import { assertEquals } from "@std/assert";
import { must, run } from "./process.ts";

const COMPARE = new URL("compare.py", import.meta.url).pathname;

/** A tree with one object of every kind, made the same way each time. */
const MAKE = `
umask 022
mkdir -p sub/deep
printf 'some content' > file; printf 'second' > sub/other; printf x > "sub/odd  name"
printf y > "$(printf 'sub/not-utf8-\\377')"
ln file linked; ln -s file pointer; mkfifo pipe; mknod null c 1 3; truncate -s 1M sparse
setfattr -n user.colour -v blue file; setfattr -n trusted.secret -v 7 sub
mkdir lost+found .binome; printf noise$1 > lost+found/a; printf noise$1 > .binome/b
chown 1000:1000 sub/other; chmod 4755 sub/odd*
find . -depth -exec touch -h -d '2020-01-02 03:04:05.123456789' {} +
`;

interface Outcome {
  readonly code: number;
  readonly lines: readonly string[];
}

/** Makes two equal trees, changes the second by a script, compares. */
async function compareAfter(change: string, flags: readonly string[] = []): Promise<Outcome> {
  const folder = await Deno.makeTempDir({ dir: "/var/tmp" });
  try {
    for (const name of ["a", "b"]) {
      await must(["sh", "-euc", `mkdir "$0/$1"; cd "$0/$1"; ${MAKE}`, folder, name]);
    }
    await must(["sh", "-euc", `umask 022; cd "$0"; ${change}`, `${folder}/b`]);
    const result = await run(["/usr/bin/python3", COMPARE, ...flags, `${folder}/a`, `${folder}/b`]);
    return { code: result.code, lines: (result.stdout + result.stderr).split("\n").filter(Boolean) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Puts the changed folder's own mtime back, so that exactly one difference is left. */
const SAME_ROOT = "touch -d '2020-01-02 03:04:05.123456789' .";

const CHANGES: ReadonlyArray<readonly [what: string, change: string, lines: readonly string[]]> = [
  ["a missing name", `rm pipe; ${SAME_ROOT}`, ["pipe: only in the first (fifo)"]],
  ["an extra name", `touch more; ${SAME_ROOT}`, ["more: only in the second (file)"]],
  ["a name that is not UTF-8", "rm sub/not-utf8*; touch -d '2020-01-02 03:04:05.123456789' sub", [
    "sub/not-utf8-\\udcff: only in the first (file)",
  ]],
  ["a mode", "chmod 600 file", [
    "file: mode: 0o644 | 0o600",
    "linked: mode: 0o644 | 0o600",
  ]],
  ["a set-uid bit", "chmod 755 sub/odd*", ["sub/odd  name: mode: 0o4755 | 0o755"]],
  ["an owner", "chown 1001 sub/other", ["sub/other: uid: 1000 | 1001"]],
  ["a group", "chgrp 1001 sub/other", ["sub/other: gid: 1000 | 1001"]],
  ["an mtime by one nanosecond", "touch -d '2020-01-02 03:04:05.123456788' sparse", [
    "sparse: mtime: 1577934245123456789 | 1577934245123456788",
  ]],
  ["a directory's mtime", "touch -d '2020-01-02 03:04:06' sub/deep", [
    "sub/deep: mtime: 1577934245123456789 | 1577934246000000000",
  ]],
  ["a user xattr's value", "setfattr -n user.colour -v red file", [
    "file: xattr user.colour: 626c7565 | 726564",
    "linked: xattr user.colour: 626c7565 | 726564",
  ]],
  ["a trusted xattr that is missing", "setfattr -x trusted.secret sub", [
    "sub: xattr trusted.secret: 37 | none",
  ]],
  ["an ACL", "setfacl -m u:33:r sub/other", [
    "sub/other: xattr system.posix_acl_access: none | 0200000001000600ffffffff02000400210000000400040" +
    "0ffffffff10000400ffffffff20000400ffffffff",
  ]],
  ["a symbolic link's target", `ln -sfn other pointer; touch -h -r file pointer; ${SAME_ROOT}`, [
    "pointer: target: file | other",
  ]],
  ["a device number", `rm null; mknod null c 1 5; touch -r file null; ${SAME_ROOT}`, [
    "null: device: 1:3 | 1:5",
  ]],
  [
    "a hard link that became a copy",
    `cp -p --remove-destination sub/../file t; mv t linked
    setfattr -n user.colour -v blue linked; touch -r file linked; ${SAME_ROOT}`,
    [
      "file: links: 2: file = linked | none",
      "linked: links: 2: file = linked | none",
    ],
  ],
  ["a type", `rm pipe; mkdir -m 644 pipe; touch -r file pipe; ${SAME_ROOT}`, [
    "pipe: type: fifo | directory",
  ]],
];

for (const [what, change, lines] of CHANGES) {
  Deno.test(`compare.py finds ${what}, and nothing else`, async () => {
    assertEquals(await compareAfter(change), { code: 1, lines });
  });
}

Deno.test("compare.py finds one changed byte where size and mtime are equal", async () => {
  const { code, lines } = await compareAfter(
    "printf S | dd of=sub/other conv=notrunc status=none; touch -r file sub/other",
  );
  assertEquals(code, 1);
  assertEquals(lines.map((line) => line.split(":").slice(0, 2).join(":")), ["sub/other: sha256"]);
});

Deno.test("compare.py finds equal trees equal, holes or not, and leaves lost+found and .binome out", async () => {
  const change = `cp --sparse=never sparse t; cat t > sparse; rm t; touch -r file sparse
    echo different > lost+found/c; echo different > .binome/d; ${SAME_ROOT}`;
  assertEquals(await compareAfter(change), { code: 0, lines: [] });
});

Deno.test("compare.py compares lost+found and .binome below the top", async () => {
  const { lines } = await compareAfter("mkdir sub/.binome; touch -d '2020-01-02 03:04:05.123456789' sub");
  assertEquals(lines, ["sub/.binome: only in the second (directory)"]);
});

Deno.test("compare.py leaves out an xattr only when told its name", async () => {
  const change = "setfattr -n trusted.secret -v 8 sub";
  assertEquals((await compareAfter(change)).code, 1);
  assertEquals((await compareAfter(change, ["--without-xattr", "trusted.secret"])).code, 0);
});

Deno.test("compare.py answers 2 and the reason when a tree cannot be read", async () => {
  const result = await run(["/usr/bin/python3", COMPARE, "/nonexistent/a", "/nonexistent/b"]);
  assertEquals(result.code, 2);
  assertEquals(result.stderr.startsWith("Cannot compare: "), true);
});
