import { assertEquals } from "@std/assert";

Deno.test("raisePriority() raises every thread; atOrdinaryPriority() starts a child without it", async () => {
  const output = await Deno.makeTempFile();
  const program = new URL("testing/priority_process.ts", import.meta.url).pathname;
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", program, output],
    stderr: "piped",
  }).output();
  assertEquals(success, true, new TextDecoder().decode(stderr));
  const [inherited, ordinary, said] = (await Deno.readTextFile(output)).split("\n");
  assertEquals([inherited, ordinary], ["-10", "0"]);
  assertEquals(JSON.parse(said ?? ""), { warnings: [], threads: [-10], after: -10 });
  await Deno.remove(output);
});
