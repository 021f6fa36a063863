import { assertEquals, assertMatch } from "@std/assert";

const UNITS = new URL("../../config/systemd/", import.meta.url);
const read = (name: string) => Deno.readTextFile(new URL(name, UNITS));

Deno.test("config/systemd holds units that systemd takes as they are, in an order without a circle", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const paths: string[] = [];
    for await (const { name } of Deno.readDir(UNITS)) {
      const path = `${folder}/${name}`;
      // The program need not be installed where it is tested.
      await Deno.writeTextFile(path, (await read(name)).replaceAll("/usr/local/bin/binome", "/bin/true"));
      paths.push(path);
    }
    const verify = new Deno.Command("systemd-analyze", { args: ["verify", ...paths.sort()] });
    const { code, stderr } = await verify.output();
    const said = new TextDecoder().decode(stderr).split("\n").filter((line) => line.includes("binome"));
    assertEquals([paths.length, code, said], [4, 0, []]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("config/systemd/binome-cover.service is done before any ordinary service and before the keeper", async () => {
  const unit = await read("binome-cover.service");
  // With the default dependencies it would itself wait for sysinit.target, which ordinary services wait for.
  assertMatch(unit, /^DefaultDependencies=no$/m);
  assertMatch(unit, /^Before=sysinit\.target binome-keeper\.service/m);
  assertMatch(unit, /^WantedBy=sysinit\.target$/m);
  // What comes after must find it done, not begun.
  assertMatch(unit, /^Type=oneshot$/m);
  assertMatch(unit, /^After=local-fs\.target$/m);
});
