import { assertEquals } from "@std/assert";
import { backing } from "./backing.ts";
import { cstring } from "./libc.ts";
import { AT, O } from "./linux.ts";
import { syncfs } from "./syncfs.ts";

Deno.test("syncfs() answers 0 for an open directory and −EBADF for a descriptor that is not open", () => {
  const path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "syncfs-" });
  const fd = backing.openat(AT.FDCWD, cstring(path), O.RDONLY | O.DIRECTORY, 0);
  assertEquals(syncfs(fd), 0);
  assertEquals(backing.close(fd), 0);
  Deno.removeSync(path);
  assertEquals(syncfs(-1), -9);
});
