import { assertEquals } from "@std/assert";
import { Acknowledgement } from "./acknowledgement.ts";

Deno.test("Acknowledgement counts nothing that a copy says in mid-comparison, and all of it afterwards", () => {
  const peer = new Acknowledgement(0, true);
  peer.hear(111);
  peer.hear(112);
  assertEquals(peer.applied, 0, "100 to 110 are not compared yet");
  peer.compared();
  assertEquals(peer.applied, 112);
  peer.hear(113);
  assertEquals(peer.applied, 113);
});

Deno.test("Acknowledgement counts what a copy that replays says, and never goes back", () => {
  const peer = new Acknowledgement(7, false);
  assertEquals(peer.applied, 7);
  peer.hear(9);
  peer.hear(8);
  assertEquals(peer.applied, 9);
});
