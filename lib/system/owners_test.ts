import { assertEquals, assertMatch } from "@std/assert";
import { parseMountinfo } from "./mountinfo.ts";
import { objectionToMap, objectionToMount } from "./owners.ts";

const ROOT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw";
const MAPPED = "40 27 7:0 / /srv rw,relatime,idmapped shared:3 - ext4 /dev/loop0 rw";
const COVER = "50 40 7:0 /bms /srv/bms ro,relatime,idmapped - ext4 /dev/loop0 rw";

Deno.test("objectionToMap() takes a process whose ids are the host's", () => {
  assertEquals(objectionToMap("uid", "         0          0 4294967295\n"), null);
});

Deno.test("objectionToMap() refuses a user namespace, also one that maps root to root", () => {
  for (const map of ["0 100000 65536\n", "0 0 65536\n", "0 0 1000\n1000 100000 1\n", ""]) {
    assertMatch(objectionToMap("gid", map) ?? "", /user namespace here .*gid_map/);
  }
});

Deno.test("objectionToMount() refuses what an id-mapped mount shows, also beneath a cover of ours", () => {
  for (const lines of [[ROOT, MAPPED], [ROOT, MAPPED, COVER]]) {
    assertMatch(
      objectionToMount("/srv/bms", parseMountinfo(lines.join("\n"))) ?? "",
      /"\/srv" is an id-mapped mount/,
    );
  }
  assertEquals(objectionToMount("/home/x", parseMountinfo([ROOT, MAPPED].join("\n"))), null);
});
