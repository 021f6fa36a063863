import { assertEquals, assertThrows } from "@std/assert";
import { Mailbox, Post } from "./shared.ts";

function harness() {
  const memory = new SharedArrayBuffer(1024);
  const later: (() => void)[] = [];
  const post = new Post({
    mailbox: new Mailbox(memory),
    wake: () => {},
    later: (work) => void later.push(work),
  });
  return { post, thread: new Mailbox(memory), pass: () => later.splice(0).forEach((work) => work()) };
}

Deno.test("Post.send() keeps the order of commands for a thread that takes them late", () => {
  const { post, thread, pass } = harness();
  post.send("detach");
  post.send("attach");
  pass();
  assertEquals(thread.take(), "detach");
  assertEquals(thread.take(), undefined);
  pass();
  assertEquals(thread.take(), "attach");
});

Deno.test("Post.send() refuses to wait without end", () => {
  const { post } = harness();
  assertThrows(() => {
    for (let i = 0; i < 1000; i++) post.send(i);
  });
});
