import { assertEquals } from "@std/assert";
import { jsonSchema } from "./config.ts";

Deno.test("jsonSchema() describes what a person writes, not what the program holds", () => {
  const schema = JSON.parse(JSON.stringify(jsonSchema("module")));
  assertEquals(schema.required, ["module", "kind", "replicate"]);
  assertEquals(schema.additionalProperties, false);
  assertEquals(schema.properties.peer_timeout.type, "string");
});

Deno.test("jsonSchema() covers the cluster too", () => {
  const schema = JSON.parse(JSON.stringify(jsonSchema("cluster")));
  assertEquals(schema.required, ["cluster", "nodes"]);
});
