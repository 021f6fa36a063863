import { assertEquals, assertThrows } from "@std/assert";
import { checked, ERRNO, errnoName, errnoText, SystemError } from "./errno.ts";

Deno.test("ERRNO has Linux's numbers", () => {
  assertEquals([
    ERRNO.EPERM,
    ERRNO.ENOENT,
    ERRNO.EIO,
    ERRNO.ENOSPC,
    ERRNO.ENOSYS,
    ERRNO.ENODATA,
    ERRNO.ESTALE,
  ], [
    1,
    2,
    5,
    28,
    38,
    61,
    116,
  ]);
});

Deno.test("ERRNO gives no two names to one number", () => {
  const numbers = Object.values(ERRNO);
  assertEquals(new Set(numbers).size, numbers.length);
});

Deno.test("errnoName() takes errno and −errno", () => {
  assertEquals(errnoName(28), "ENOSPC");
  assertEquals(errnoName(-28), "ENOSPC");
  assertEquals(errnoName(512), "errno 512");
});

Deno.test("errnoText() gives an operator words and the name to search for", () => {
  assertEquals(errnoText(-28), "no space left on the file system (ENOSPC)");
  assertEquals(errnoText(512), "errno 512");
});

Deno.test("checked() passes results on and throws what failed, with its number", () => {
  assertEquals(checked(0, "open"), 0);
  const error = assertThrows(() => checked(-2, 'open "/srv/data"'), SystemError);
  assertEquals(error.message, 'Cannot open "/srv/data": no such file or directory (ENOENT)');
  assertEquals(error.errno, 2);
});
