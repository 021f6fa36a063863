import { assertEquals } from "@std/assert";
import { parseCluster, parseModule } from "../../lib/config.ts";

const CONFIG = new URL("../../config/", import.meta.url);
const read = (name: string) => Deno.readTextFile(new URL(name, CONFIG));

Deno.test("config/cluster.yaml is what the program takes, and says its defaults", async () => {
  const cluster = parseCluster(await read("cluster.yaml"));
  const least = parseCluster("cluster: c\nnodes: [{ name: a, addresses: { lan: 10.0.0.1 } }]\n");
  assertEquals([cluster.timings, cluster.ports], [least.timings, least.ports]);
});

for (const name of ["directory.yaml", "postgresql.yaml"]) {
  Deno.test(`config/${name} is what the program takes`, async () => {
    const cluster = parseCluster(await read("cluster.yaml"));
    const module = parseModule(await read(name), { file: name, cluster });
    assertEquals(module.nodes, ["node1", "node2"]);
  });
}

Deno.test("config/postgresql.yaml names every key a module can have", async () => {
  const { jsonSchema } = await import("../../lib/config.ts");
  const { properties } = jsonSchema("module") as { properties: Record<string, unknown> };
  const text = await read("postgresql.yaml");
  assertEquals(Object.keys(properties).filter((key) => !new RegExp(`^${key}:`, "m").test(text)), []);
});
