import { assertEquals } from "@std/assert";
import { memoryFiles } from "../identity/memory_files.ts";
import { parseCluster } from "./cluster.ts";
import { forgetModule, GENERATIONS_KEPT, loadModules, saveModule } from "./store.ts";

const cluster = parseCluster(`
cluster: plant
nodes:
  - { name: node1, addresses: { lan: 10.0.0.11 } }
  - { name: node2, addresses: { lan: 10.0.0.12 } }
`);
const text = (name: string, port = 9020) =>
  `module: ${name}\nkind: directory\nport: ${port}\nreplicate: [{ path: /srv/${name} }]\n`;

Deno.test("loadModules() takes the highest generation", async () => {
  const files = memoryFiles();
  await saveModule(files, { name: "bms", generation: 1, text: text("bms") });
  await saveModule(files, { name: "bms", generation: 2, text: text("bms", 9030) });
  const { modules } = await loadModules(files, cluster);
  assertEquals(modules.map(({ name, generation, config }) => [name, generation, config.port]), [[
    "bms",
    2,
    9030,
  ]]);
});

Deno.test("loadModules() reports a broken module and loads the others", async () => {
  const files = memoryFiles();
  await saveModule(files, { name: "bad", generation: 1, text: "module: bad\n" });
  await saveModule(files, { name: "good", generation: 1, text: text("good") });
  const { modules, broken } = await loadModules(files, cluster);
  assertEquals(modules.map(({ name }) => name), ["good"]);
  assertEquals(broken.map(({ name, generation }) => [name, generation]), [["bad", 1]]);
});

Deno.test("loadModules() ignores a log beside the generations", async () => {
  const files = memoryFiles();
  await files.write("modules/bms/log/meta.json", new Uint8Array(1), 0o600);
  assertEquals(await loadModules(files, cluster), { modules: [], broken: [] });
});

Deno.test("saveModule() keeps a bounded number of generations", async () => {
  const files = memoryFiles();
  for (let generation = 1; generation <= GENERATIONS_KEPT + 5; generation++) {
    await saveModule(files, { name: "bms", generation, text: text("bms") });
  }
  const kept = await files.list("modules/bms/generations");
  assertEquals([kept.length, kept[0]], [GENERATIONS_KEPT, "000006.yaml"]);
});

Deno.test("forgetModule() leaves nothing to load", async () => {
  const files = memoryFiles();
  await saveModule(files, { name: "bms", generation: 1, text: text("bms") });
  await forgetModule(files, "bms");
  assertEquals((await loadModules(files, cluster)).modules, []);
});
