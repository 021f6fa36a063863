import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EffectError } from "./types.ts";
import { ANNOUNCE_AT_MS, findInterface, type VipAddress, Vips, type VipWorld } from "./vip.ts";

const LINKS = [
  { index: 1, name: "lo", mac: new Uint8Array(6), up: true },
  { index: 2, name: "eth0", mac: Uint8Array.of(2, 0, 0, 0, 0, 2), up: true },
  { index: 3, name: "eth1", mac: Uint8Array.of(2, 0, 0, 0, 0, 3), up: false },
];
const VIP = { address: "10.0.0.100", prefix: 24, interface: null };

/** A host with three interfaces, whose timers are fired by the test. */
class Host implements VipWorld {
  readonly had: VipAddress[] = [
    { index: 1, address: "127.0.0.1", prefix: 8 },
    { index: 2, address: "10.0.0.11", prefix: 24 },
    { index: 3, address: "192.168.0.11", prefix: 24 },
  ];
  readonly done: string[] = [];
  readonly timers = new Map<number, () => void>();
  #next = 1;

  links() {
    return LINKS;
  }
  addresses() {
    return this.had;
  }
  add(where: VipAddress) {
    if (this.had.some(({ index, address }) => index === where.index && address === where.address)) {
      return false;
    }
    this.had.push(where);
    this.done.push(`add ${where.address} to ${where.index}`);
    return true;
  }
  remove(where: VipAddress) {
    const at = this.had.findIndex(({ index, address }) => index === where.index && address === where.address);
    if (at < 0) return false;
    this.had.splice(at, 1);
    this.done.push(`remove ${where.address} from ${where.index}`);
    return true;
  }
  broadcast(index: number, packets: readonly Uint8Array[]) {
    this.done.push(`announce ${packets.length} on ${index}`);
  }
  after(_ms: number, action: () => void) {
    const id = this.#next++;
    this.timers.set(id, action);
    return () => void this.timers.delete(id);
  }
  log() {}
}

Deno.test("Vips.add() sets the address on the interface of its subnet, announces it, and goes on announcing", async () => {
  const host = new Host();
  const vips = new Vips(host);
  assertEquals(await vips.add(VIP), { address: "10.0.0.100", prefix: 24, interface: "eth0" });
  assertEquals(host.done, ["add 10.0.0.100 to 2", "announce 2 on 2"]);
  assertEquals(host.timers.size, ANNOUNCE_AT_MS.length);
  for (const fire of host.timers.values()) fire();
  assertEquals(host.done.length, 2 + ANNOUNCE_AT_MS.length);
});

Deno.test("Vips.add() a second time keeps the address and does not double the announcements", async () => {
  const host = new Host();
  const vips = new Vips(host);
  await vips.add(VIP);
  await vips.add(VIP);
  assertEquals(host.done, ["add 10.0.0.100 to 2", "announce 2 on 2", "announce 2 on 2"]);
  assertEquals(host.timers.size, ANNOUNCE_AT_MS.length);
});

Deno.test("Vips.remove() ends the announcements and takes the address from wherever it is", async () => {
  const host = new Host();
  const vips = new Vips(host);
  await vips.add(VIP);
  host.had.push({ index: 3, address: "10.0.0.100", prefix: 32 });
  assertEquals(vips.has(VIP), true);
  await vips.remove(VIP);
  assertEquals(vips.has(VIP), false);
  assertEquals(host.timers.size, 0);
  await vips.remove(VIP);
});

Deno.test("Vips.place() says what to do when there is no interface for the address", () => {
  const vips = new Vips(new Host());
  assertThrows(() => vips.place({ ...VIP, address: "172.16.0.1" }), EffectError, 'name one with "interface"');
  assertThrows(() => vips.place({ ...VIP, interface: "eth7" }), EffectError, "there are lo, eth0, eth1");
});

Deno.test("Vips.add() refuses an interface that is down", async () => {
  await assertRejects(() => new Vips(new Host()).add({ ...VIP, interface: "eth1" }), EffectError, "is down");
});

Deno.test("findInterface() prefers the narrowest subnet, and the address itself does not count", () => {
  const addresses = [
    { index: 1, address: "10.0.0.1", prefix: 8 },
    { index: 2, address: "10.0.0.2", prefix: 24 },
    { index: 3, address: "10.0.0.100", prefix: 25 },
    { index: 3, address: "10.0.0.99", prefix: 32 },
  ];
  assertEquals(findInterface(VIP, LINKS, addresses), 2);
  assertEquals(findInterface({ address: "11.0.0.1", interface: null }, LINKS, addresses), null);
});
