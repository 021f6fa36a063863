/**
 * A round of the arbiter's questions, all at once, within one deadline.
 *
 * @module
 */

import { messageOf } from "../message.ts";
import type { Findings, ProbeAsk } from "../failover/types.ts";
import type { Probes } from "../monitor/probe_types.ts";

/** Whom to ask. */
export interface ProbeTargets {
  /** Null: the arbiter has no witness. */
  readonly witness: string | null;
  readonly peerAddresses: readonly string[];
  readonly peerPort: number;
  readonly vips: readonly { readonly address: string; readonly interface: string | null }[];
}

/** Asks. Never rejects: what could not be asked is `null`, which counts as a doubt. */
export async function probeRound(
  probes: Probes,
  targets: ProbeTargets,
  ask: ProbeAsk,
  deadlineMs: number,
): Promise<Findings> {
  const words: string[] = [];
  const [witness, peer, vip] = await Promise.all([
    ask.witness && targets.witness !== null ? askWitness(probes, targets.witness, deadlineMs, words) : null,
    ask.peer ? askPeer(probes, targets, deadlineMs, words) : null,
    ask.vip ? askVips(probes, targets, deadlineMs, words) : null,
  ]);
  return { witness, peer, vip, words: words.join(", ") };
}

async function askWitness(
  probes: Probes,
  address: string,
  deadlineMs: number,
  words: string[],
): Promise<boolean> {
  try {
    const answers = await probes.ping(address, { deadlineMs });
    words.push(`witness ${address} ${answers ? "answers" : "is silent"}`);
    return answers;
  } catch (error) {
    words.push(`witness ${address} cannot be asked (${messageOf(error)})`);
    return false;
  }
}

/** Every path and every kind of answer: one is enough to say that the host lives. */
async function askPeer(
  probes: Probes,
  targets: ProbeTargets,
  deadlineMs: number,
  words: string[],
): Promise<boolean | null> {
  let asked = 0;
  const answered: string[] = [];
  const note = async (what: string, question: Promise<boolean>): Promise<void> => {
    try {
      if (await question) answered.push(what);
      asked += 1;
    } catch (error) {
      // With a direct cable the peer's power cut takes our own link down: no answer can come by that path.
      words.push(`${what} cannot be asked (${messageOf(error)})`);
    }
  };
  await Promise.all(targets.peerAddresses.flatMap((address) => [
    note(`ping ${address}`, probes.ping(address, { deadlineMs })),
    note(`arp ${address}`, probes.arp(address, null, { deadlineMs }).then((mac) => mac !== null)),
    note(
      `tcp ${address}:${targets.peerPort}`,
      probes.tcp(address, targets.peerPort, { deadlineMs }).then((answer) => answer !== "silent"),
    ),
  ]));
  words.push(answered.length > 0 ? `peer answers (${answered.join(", ")})` : "peer is silent on every path");
  if (answered.length > 0) return true;
  return asked > 0 ? false : null;
}

async function askVips(
  probes: Probes,
  targets: ProbeTargets,
  deadlineMs: number,
  words: string[],
): Promise<boolean | null> {
  let doubt = false;
  const answers = await Promise.all(targets.vips.map(async ({ address, interface: name }) => {
    try {
      const mac = await probes.arp(address, name, { deadlineMs });
      if (mac !== null) words.push(`virtual IP ${address} is at ${mac}`);
      return mac !== null;
    } catch (error) {
      doubt = true;
      words.push(`virtual IP ${address} cannot be asked for (${messageOf(error)})`);
      return false;
    }
  }));
  if (answers.includes(true)) return true;
  return doubt ? null : false;
}
