import { assertEquals, assertRejects } from "@std/assert";
import { openStateFiles } from "./state_files.ts";

Deno.test("openStateFiles() replaces a file whole, with its mode, leaving nothing else behind", async () => {
  const root = await Deno.makeTempDir();
  const files = openStateFiles(root);
  await files.write("a/key", new Uint8Array([1]), 0o600);
  await files.write("a/key", new Uint8Array([2, 3]), 0o600);
  assertEquals(await files.read("a/key"), new Uint8Array([2, 3]));
  assertEquals((await Deno.stat(`${root}/a/key`)).mode, 0o100600);
  assertEquals((await Deno.stat(`${root}/a`)).mode, 0o40700);
  assertEquals((await Array.fromAsync(Deno.readDir(`${root}/a`))).map(({ name }) => name), ["key"]);
  await Deno.remove(root, { recursive: true });
});

Deno.test("openStateFiles() reads null for what is not there", async () => {
  const root = await Deno.makeTempDir();
  const files = openStateFiles(root);
  assertEquals(await files.read("none"), null);
  assertEquals(await files.list("none"), []);
  await files.remove("none");
  await Deno.remove(root);
});

Deno.test("openStateFiles() says which file cannot be written", async () => {
  const root = await Deno.makeTempDir();
  await Deno.mkdir(`${root}/taken`);
  const error = await assertRejects(
    () => openStateFiles(root).write("taken", new Uint8Array(1), 0o600),
    Error,
  );
  assertEquals(error.message.startsWith(`Cannot write ${root}/taken: `), true);
  assertEquals((await Array.fromAsync(Deno.readDir(root))).map(({ name }) => name), ["taken"]);
  await Deno.remove(root, { recursive: true });
});
