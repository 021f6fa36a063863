/**
 * Virtual IPv4 addresses: set, announced, taken away.
 *
 * An old owner that goes on announcing takes the address back from the new one: removing ends the announcements first.
 *
 * @module
 */

import { messageOf } from "../message.ts";
import type { VirtualIpConfig } from "../config/types.ts";
import { addressBytes, announcements, type Packet } from "./arp.ts";
import { EffectError, type PlacedVip, type VipEffects } from "./types.ts";

/**
 * When an address is announced, after it was set: soon and often for those who listen, later for a switch that was
 * just learning. The last one is past the 15 s in which a bridge may still be blocking a port.
 */
export const ANNOUNCE_AT_MS = [100, 500, 1_000, 5_000, 10_000, 15_000] as const;

/** An interface of this host. */
export interface VipLink {
  readonly index: number;
  readonly name: string;
  /** Six bytes, else the interface knows no ARP. */
  readonly mac: Uint8Array;
  readonly up: boolean;
}

/** An address of this host. */
export interface VipAddress {
  readonly index: number;
  readonly address: string;
  readonly prefix: number;
}

/** What this needs of the host. */
export interface VipWorld {
  links(): readonly VipLink[];
  addresses(): readonly VipAddress[];
  /** False: it is there already. */
  add(where: VipAddress): boolean;
  /** False: it was not there. */
  remove(where: VipAddress): boolean;
  /** Sends ARP packets as broadcast. */
  broadcast(index: number, packets: readonly Packet[]): void;
  /** Calls back once. Answers how to cancel it. */
  after(ms: number, action: () => void): () => void;
  log(line: string): void;
}

/** The real {@link VipEffects}, over a world. */
export class Vips implements VipEffects {
  /** How to end the announcements of an address. */
  readonly #announcing = new Map<string, () => void>();

  constructor(readonly world: VipWorld) {}

  place(vip: VirtualIpConfig): PlacedVip {
    const { name } = this.#link(vip);
    return { address: vip.address, prefix: vip.prefix, interface: name };
  }

  // deno-lint-ignore require-await -- what it throws must reach the caller as a rejection
  async add(vip: VirtualIpConfig): Promise<PlacedVip> {
    const link = this.#link(vip);
    if (!link.up) {
      throw new EffectError(
        `Cannot set virtual IP ${vip.address}: interface ${link.name} is down; bring it up first`,
      );
    }
    this.#attempt(`set virtual IP ${vip.address} on ${link.name}`, () => {
      this.world.add({ index: link.index, address: vip.address, prefix: vip.prefix });
    });
    this.#announce(vip.address, link);
    return { address: vip.address, prefix: vip.prefix, interface: link.name };
  }

  // deno-lint-ignore require-await -- as above
  async remove(vip: VirtualIpConfig): Promise<void> {
    this.#silence(vip.address);
    this.#attempt(`remove virtual IP ${vip.address}`, () => {
      // From wherever it is: the configuration may have named another interface when it was set.
      for (const where of [...this.world.addresses()]) {
        if (where.address === vip.address) this.world.remove(where);
      }
    });
  }

  has(vip: VirtualIpConfig): boolean {
    return this.world.addresses().some(({ address }) => address === vip.address);
  }

  close(): void {
    for (const address of [...this.#announcing.keys()]) this.#silence(address);
  }

  #announce(address: string, link: VipLink): void {
    this.#silence(address);
    // A loopback or tunnel has no neighbours to tell.
    if (link.mac.length !== 6 || link.mac.every((byte) => byte === 0)) return;
    const packets = announcements(address, link.mac);
    const send = () => {
      try {
        this.world.broadcast(link.index, packets);
      } catch (error) {
        // The address is set all the same, and the next announcement may succeed.
        this.world.log(`virtual IP ${address}: ${messageOf(error)}`);
      }
    };
    send();
    const cancels = ANNOUNCE_AT_MS.map((ms) => this.world.after(ms, send));
    this.#announcing.set(address, () => cancels.forEach((cancel) => cancel()));
  }

  #silence(address: string): void {
    this.#announcing.get(address)?.();
    this.#announcing.delete(address);
  }

  #link(vip: VirtualIpConfig): VipLink {
    const links = this.world.links();
    const index = findInterface(vip, links, this.world.addresses());
    const link = links.find((link) => link.index === index);
    if (link !== undefined) return link;
    throw new EffectError(
      vip.interface === null
        ? `Cannot place virtual IP ${vip.address}/${vip.prefix}: no interface has an address of that subnet; name one with "interface"`
        : `Cannot place virtual IP ${vip.address}: there is no interface ${vip.interface}; there are ${
          links.map(({ name }) => name).join(", ")
        }`,
    );
  }

  #attempt(action: string, call: () => void): void {
    try {
      call();
    } catch (cause) {
      throw new EffectError(`Cannot ${action}: ${messageOf(cause)}`, { cause });
    }
  }
}

/**
 * The interface a virtual IP belongs on: the named one, else the one whose own subnet holds it — of several the
 * narrowest subnet. Null: none.
 */
export function findInterface(
  vip: { readonly address: string; readonly interface: string | null },
  links: readonly VipLink[],
  addresses: readonly VipAddress[],
): number | null {
  if (vip.interface !== null) return links.find(({ name }) => name === vip.interface)?.index ?? null;
  const wanted = number(vip.address);
  let best: VipAddress | null = null;
  for (const own of addresses) {
    // Its own former self says nothing about where it belongs, nor does a single address about a subnet.
    if (own.address === vip.address || own.prefix >= 32) continue;
    const mask = own.prefix === 0 ? 0 : -1 << (32 - own.prefix);
    const within = (number(own.address) & mask) === (wanted & mask);
    if (within && (best === null || own.prefix > best.prefix)) best = own;
  }
  return best?.index ?? null;
}

function number(address: string): number {
  return addressBytes(address).reduce((value, byte) => value << 8 | byte, 0);
}
