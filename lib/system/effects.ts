/**
 * Virtual addresses, services and probes of this host, ready for the agent.
 *
 * @module
 */

import type { ServiceEffects, VipEffects } from "../effects/types.ts";
import { Services } from "../effects/service.ts";
import { Vips } from "../effects/vip.ts";
import { type Connecting, NetworkProbes } from "../monitor/probe.ts";
import type { Probes } from "../monitor/probe_types.ts";
import { libc } from "./libc.ts";
import { openArpSocket, openIcmpSocket } from "./raw_socket.ts";
import { addAddress, listAddresses, listLinks, removeAddress } from "./rtnetlink.ts";
import { openServiceWorld } from "./service_world.ts";
import { closeSocket, finishConnect, SOCKET_ERRNO, SocketError, startConnect } from "./socket.ts";
import { POLL } from "./worker_io.ts";

/** Virtual IPv4 addresses, by rtnetlink and packet sockets. */
export function openVips(log: (line: string) => void): VipEffects {
  return new Vips({
    links: listLinks,
    addresses: listAddresses,
    add: addAddress,
    remove: removeAddress,
    broadcast(index, packets) {
      const socket = openArpSocket(index);
      try {
        packets.forEach((packet) => socket.send(packet));
      } finally {
        socket.close();
      }
    },
    after(ms, action) {
      const timer = setTimeout(action, ms);
      return () => clearTimeout(timer);
    },
    log,
  });
}

/** Services, in control groups. `state`: logs go to its `log` folder. */
export function openServices(state: string): ServiceEffects {
  return new Services(openServiceWorld(state));
}

/** Probes, by raw sockets. */
export function openProbes(): Probes {
  return new NetworkProbes({
    links: listLinks,
    addresses: listAddresses,
    openIcmp: openIcmpSocket,
    openArp: openArpSocket,
    connect,
    nowMs: () => performance.now(),
    delay: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    random: (below) => Math.floor(Math.random() * below),
  });
}

function connect(address: string, port: number): Connecting {
  const endpoint = { address, port };
  let fd = -1;
  let failure: SocketError | null = null;
  const attempt = (call: () => void) => {
    try {
      call();
    } catch (error) {
      if (!(error instanceof SocketError)) throw error;
      failure = error;
    }
  };
  attempt(() => fd = startConnect(endpoint));
  return {
    answer() {
      if (failure === null) {
        if (!writable(fd)) return null;
        attempt(() => finishConnect(fd, endpoint));
      }
      if (failure === null) return "accepted";
      return failure.errno === SOCKET_ERRNO.ECONNREFUSED ? "refused" : "unreachable";
    },
    close() {
      if (fd >= 0) closeSocket(fd);
      fd = -1;
    },
  };
}

/** Whether a connecting socket has come to an end, good or bad. Looks only. */
function writable(fd: number): boolean {
  const entry = new Uint8Array(8); // struct pollfd
  const view = new DataView(entry.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, POLL.OUT, true);
  return libc.poll(entry, 1, 0) > 0;
}
