import { assertEquals } from "@std/assert";
import { layers, mountBeneath, ownLayers, parseMountinfo, pathInFileSystem } from "./mountinfo.ts";

const ROOT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard";
const SRV = "40 27 7:0 / /srv rw - ext4 /dev/loop0 rw";
const COVER = "50 40 7:0 /bms /srv/bms ro,relatime - ext4 /dev/loop0 rw";
const FUSE = "51 50 0:77 / /srv/bms rw,relatime - fuse.binome binome:bms rw,user_id=0";

function mounts(...lines: string[]) {
  return parseMountinfo(lines.join("\n") + "\n");
}

Deno.test("parseMountinfo() reads optional fields and octal escapes", () => {
  const [mount] = mounts("36 35 98:0 /mnt1 /mnt\\0402 ro,noatime master:1 shared:2 - ext3 /dev/root rw");
  assertEquals(mount, {
    id: 36,
    parent: 35,
    device: "98:0",
    root: "/mnt1",
    point: "/mnt 2",
    readOnly: true,
    idmapped: false,
    type: "ext3",
    source: "/dev/root",
  });
});

Deno.test("layers() gives the mounts of a point from the top, in whatever order they are listed", () => {
  assertEquals(layers(mounts(ROOT, FUSE, SRV, COVER), "/srv/bms").map(({ id }) => id), [51, 50]);
});

Deno.test("ownLayers() knows a cover and the FUSE mount on it", () => {
  const all = ownLayers(mounts(ROOT, SRV, COVER, FUSE), "/srv/bms", "fuse.binome");
  assertEquals([all.fuse?.id, all.cover?.id, all.count], [51, 50, 2]);
  const cover = ownLayers(mounts(ROOT, SRV, COVER), "/srv/bms", "fuse.binome");
  assertEquals([cover.fuse?.id, cover.cover?.id, cover.count], [undefined, 50, 1]);
});

Deno.test("ownLayers() leaves alone what is not ours: the directory's own mount, also when it is read-only", () => {
  const own = "50 27 7:0 / /srv/bms ro - ext4 /dev/loop0 ro";
  assertEquals(ownLayers(mounts(ROOT, own), "/srv/bms", "fuse.binome").count, 0);
  const covered = "51 50 7:0 / /srv/bms ro - ext4 /dev/loop0 ro";
  assertEquals(ownLayers(mounts(ROOT, own, covered), "/srv/bms", "fuse.binome").count, 1);
});

Deno.test("ownLayers() counts a dead FUSE mount beneath another", () => {
  const second = "52 51 0:78 / /srv/bms rw - fuse.binome binome:bms rw";
  const { fuse, dead, cover } = ownLayers(mounts(ROOT, SRV, COVER, FUSE, second), "/srv/bms", "fuse.binome");
  assertEquals([fuse?.id, dead.map(({ id }) => id), cover?.id], [52, [51], 50]);
});

Deno.test("pathInFileSystem() finds a directory through the mount that shows it", () => {
  const all = mounts(ROOT, SRV, COVER, FUSE);
  const beneath = mountBeneath(all, "/srv/bms", 2);
  assertEquals(beneath?.id, 40);
  assertEquals(beneath && pathInFileSystem(beneath, "/srv/bms"), "/bms");
});
