/** Proves the constants of the FUSE protocol and of the system calls against what a C compiler makes of the headers. */

import { assertEquals } from "@std/assert";
import * as layout from "../../lib/fuse/layout.ts";
import * as opcode from "../../lib/fuse/opcode.ts";
import { DIRENT64, DT } from "../../lib/system/dirents.ts";
import { FILE_HANDLE, HANDLE_MAX } from "../../lib/system/handle.ts";
import * as linux from "../../lib/system/linux.ts";
import { STATFS, STATX, STATX_BTIME, STATX_MASK, STATX_NSEC } from "../../lib/system/statx.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url).pathname;

type Group = Readonly<Record<string, number | bigint>>;

/** Constants by the name the C program prints: structures under their C name with fields in camelCase. */
function stated(): Map<string, bigint> {
  const all = new Map<string, bigint>();
  const add = (name: string, value: number | bigint): unknown =>
    all.set(name, BigInt.asUintN(64, BigInt(value)));
  const addGroup = (name: string, group: Group): void => {
    for (const [key, value] of Object.entries(group)) add(`${name}.${key}`, value);
  };
  for (const [name, value] of Object.entries(layout)) {
    if (typeof value === "object") addGroup(`fuse_${name.toLowerCase()}`, value);
    if (typeof value === "number" && name !== "KERNEL_MINOR_VERSION") add(`fuse.${name}`, value);
  }
  add("minor", layout.KERNEL_MINOR_VERSION);
  for (const [name, value] of Object.entries(opcode)) {
    if (typeof value === "object") addGroup(name, value);
    else add(`fuse.${name}`, value);
  }
  addGroup("system.statx", STATX);
  addGroup("system.statfs", STATFS);
  addGroup("system.file_handle", FILE_HANDLE);
  addGroup("system.dirent64", DIRENT64);
  addGroup("system.DT", DT);
  add("system.statx_timestamp.tvNsec", STATX_NSEC);
  for (const [name, value] of Object.entries({ STATX_MASK, STATX_BTIME, HANDLE_MAX })) {
    add(`system.${name}`, value);
  }
  for (const [name, value] of Object.entries(linux)) {
    if (typeof value === "object") addGroup(`system.${name}`, value);
    else add(`system.${name}`, value);
  }
  // Halves and names of our own, and what the C library hides behind _LARGEFILE64_SOURCE on 64-bit machines.
  for (const own of ["fuse.UNIQUE_RESEND_HIGH", "system.O.LARGEFILE"]) all.delete(own);
  return all;
}

/** Fields are snake_case in C and camelCase with us; numbers keep their names. */
function spelled(name: string): string {
  const [, structure, field] = /^(fuse_\w+|system\.[a-z]\w*)\.(\w+)$/.exec(name) ?? [];
  if (structure === undefined || field === undefined) return name;
  return `${structure}.${field.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())}`;
}

function printed(text: string): Map<string, bigint> {
  const rows = text.trim().split("\n").map((line): [string, bigint] => {
    const [name = "", value = ""] = line.split(" ");
    return [spelled(name), BigInt(value)];
  });
  return new Map(rows);
}

/** What both name, and what differs. */
function differences(ours: Map<string, bigint>, theirs: Map<string, bigint>): string[] {
  return [...theirs].filter(([name, value]) => ours.get(name) !== value)
    .map(([name, value]) => `${name}: C says ${value}, we say ${ours.get(name)}`);
}

const golden = printed(Deno.readTextFileSync(`${FIXTURES}fuse_layout.golden`));

Deno.test({
  name: "layout constants agree with the header of Linux 6.18",
  // Four open flags differ on other architectures; there the machine's own header decides.
  ignore: Deno.build.arch !== "x86_64",
  fn(): void {
    assertEquals(differences(stated(), golden), []);
  },
});

Deno.test("layout states nothing that no header proves", () => {
  const unproved = [...stated().keys()].filter((name) => !golden.has(name));
  assertEquals(unproved, []);
});

const compiler = await new Deno.Command("sh", {
  args: ["-c", "command -v gcc && test -f /usr/include/linux/fuse.h"],
})
  .output();

Deno.test({
  name: "layout constants agree with this machine's own headers",
  ignore: !compiler.success,
  async fn(): Promise<void> {
    const folder = await Deno.makeTempDir();
    try {
      const program = `${folder}/verify`;
      const built = await new Deno.Command("gcc", {
        args: ["-Wall", "-o", program, `${FIXTURES}verify_fuse_layout.c`],
      }).output();
      assertEquals(new TextDecoder().decode(built.stderr), "");
      const { stdout } = await new Deno.Command(program).output();
      const own = printed(new TextDecoder().decode(stdout));
      own.delete("minor"); // Older headers are subsets of ours; newer ones only add.
      assertEquals(differences(stated(), own), []);
      assertEquals(own.size > 450, true, `only ${own.size} rows were compared`);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
