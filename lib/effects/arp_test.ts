import { assertEquals, assertThrows } from "@std/assert";
import { addressBytes, announcements, ARP_SIZE, claimant, probe } from "./arp.ts";

const MAC = Uint8Array.of(2, 0, 0, 0x77, 0, 1);
const OTHER = Uint8Array.of(2, 0, 0, 0x77, 0, 2);

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

Deno.test("announcements() are a request and a reply that speak of the address itself", () => {
  const [request, reply] = announcements("10.77.0.100", MAC);
  assertEquals(hex(request), "0001080006040001" + "020000770001" + "0a4d0064" + "000000000000" + "0a4d0064");
  assertEquals(hex(reply), "0001080006040002" + "020000770001" + "0a4d0064" + "ffffffffffff" + "0a4d0064");
});

Deno.test("probe() does not tell who asks", () => {
  assertEquals(
    hex(probe("10.77.0.100", MAC)),
    "0001080006040001" + "020000770001" + "00000000" + "000000000000" + "0a4d0064",
  );
});

Deno.test("claimant() names who announces or answers the address", () => {
  for (const packet of announcements("10.77.0.100", OTHER)) {
    assertEquals(claimant(packet, "10.77.0.100", MAC), "02:00:00:77:00:02");
  }
});

Deno.test("claimant() takes a question for no claim: both nodes ask at once when they do not hear each other", () => {
  assertEquals(claimant(probe("10.77.0.100", OTHER), "10.77.0.100", MAC), null);
});

Deno.test("claimant() ignores ourselves, other addresses, and what is no ARP", () => {
  const [request] = announcements("10.77.0.100", MAC);
  assertEquals(claimant(request, "10.77.0.100", MAC), null);
  assertEquals(claimant(request, "10.77.0.101", OTHER), null);
  for (let cut = 0; cut < ARP_SIZE; cut++) {
    assertEquals(claimant(request.subarray(0, cut), "10.77.0.100", OTHER), null);
  }
  for (let at = 0; at < 6; at++) {
    const damaged = request.slice();
    damaged[at] = 0x55;
    assertEquals(claimant(damaged, "10.77.0.100", OTHER), null);
  }
});

Deno.test("addressBytes() refuses what is no dotted IPv4 address", () => {
  assertEquals([...addressBytes("10.0.0.255")], [10, 0, 0, 255]);
  for (const wrong of ["", "10.0.0", "10.0.0.256", "10.0.0.1.1", "fd77::1", "10.0.0.-1"]) {
    assertThrows(() => addressBytes(wrong), TypeError, "expected four numbers");
  }
});
