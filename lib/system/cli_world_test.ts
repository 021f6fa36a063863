import { assertEquals } from "@std/assert";
import { harmless } from "./cli_world.ts";

Deno.test("harmless() leaves text and takes what commands a terminal", () => {
  assertEquals(harmless("é\ta\nb \x1b[2Jc\r\x9bd"), "é\ta\nb \ufffd[2Jc\ufffd\ufffdd");
});
