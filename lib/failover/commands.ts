/**
 * What a person asks for, and what it needs to be granted.
 *
 * @module
 */

import { begin, demote, nextEpoch, promote, standBack } from "./transitions.ts";
import { type Turn, wait } from "./turn.ts";
import { consider } from "./waiting.ts";
import type { Event, Report } from "./types.ts";
import { unreachable } from "./view.ts";

type Command = Pick<Extract<Event, { kind: "command" }>, "verb" | "id" | "force">;

/** Grants or refuses a verb. */
export function onCommand(turn: Turn, command: Command): void {
  const { verb, id, force } = command;
  switch (verb) {
    case "start":
      return start(turn, id);
    case "start-primary":
      return startAsPrimary(turn, id, force);
    case "start-secondary":
      return startAsSecondary(turn, id);
    case "force-primary":
      return startAsPrimary(turn, id, true);
    case "stop":
    case "halt":
      turn.set({ halting: verb === "halt" });
      return stop(turn, id);
    case "restart":
      return restart(turn, id);
    case "switchover":
      return switchover(turn, id);
    case "failback":
      return failback(turn, id);
    case "maintenance-on":
    case "maintenance-off":
      return maintenance(turn, id, verb === "maintenance-on");
    default:
      return unreachable(verb);
  }
}

/** A verb given at the peer for what only we can do. Taken once; a number seen at our own start is not new. */
export function onPeerRequest(turn: Turn, peer: Report, first: boolean): void {
  const { request, requestTaken } = turn.state;
  if (request.verb !== "none" && peer.requestTaken === request.number) {
    turn.set({ request: { ...request, verb: "none" } });
  }
  const { number, verb } = peer.request;
  if (number === 0 || number === requestTaken) return;
  turn.set({ requestTaken: number });
  if (first || verb === "none") return;
  turn.info(`Does ${verb}`, `asked at ${turn.settings.peer}`);
  onCommand(turn, { verb, id: 0, force: false });
}

function start(turn: Turn, id: number): void {
  const { phase } = turn;
  if (phase.kind === "stopped") {
    turn.persist({ started: true });
    begin(turn, "started by a person");
    return turn.reply(id, true, "starting");
  }
  if (phase.kind === "waiting" && (phase.hold === "person" || phase.hold === "secondary")) {
    begin(turn, "started again by a person");
    return turn.reply(id, true, "starting again");
  }
  if (phase.kind === "stopping" || phase.kind === "demoting") {
    return turn.reply(id, false, "Cannot start: it is stopping; say it again when it is stopped");
  }
  turn.reply(id, true, "it is started already");
}

function startAsPrimary(turn: Turn, id: number, force: boolean): void {
  const { phase, record } = turn;
  if (phase.kind === "serving" || phase.kind === "promoting") {
    return turn.reply(id, true, "it is primary already");
  }
  if (phase.kind === "demoting" || phase.kind === "stopping") {
    return turn.reply(id, false, "Cannot start as primary: it is leaving service; say it again when it has");
  }
  const refusal = refusePrimary(turn, force);
  if (refusal !== null) return turn.reply(id, false, `Cannot start as primary: ${refusal}`);
  if (phase.kind === "stopped") {
    turn.persist({ started: true });
    begin(turn, "started as primary by a person");
  }
  const behind = record.copy !== "uptodate" && record.copy !== "none";
  const epoch = nextEpoch(turn);
  if (behind) {
    const { wayBack } = turn.channel;
    const what = record.copy === "inconsistent" && wayBack !== null
      ? `goes back to it ${wayBack}`
      : record.copyReason;
    turn.alarm("Serves a copy that is behind", `a person said so: ${record.copy}, ${what}`);
  }
  promote(turn, {
    epoch,
    confirmed: false,
    force,
    why: force ? "forced by a person" : "a person chose this node",
  });
  turn.reply(id, true, `becoming primary of epoch ${epoch}`);
}

/** I4: a copy that is behind never serves unless a person forces it, told what is lost. */
function refusePrimary(turn: Turn, force: boolean): string | null {
  const { peer, record, settings, phase } = turn;
  if (peer?.serving === true) {
    return `${settings.peer} is primary; \`switchover\` exchanges the roles`;
  }
  // A primary that is merely silent may still serve: a person may overrule that only by force.
  const following = phase.kind === "following" && record.copy === "uptodate" && turn.peer === null;
  if (force) return null;
  const forced = "`force-primary` serves it all the same";
  if (record.copy === "inconsistent") {
    const { wayBack } = turn.channel;
    if (wayBack !== null) {
      return `the copy is only partly resynchronised; \`force-primary\` serves it ${wayBack}: what was written since is missing`;
    }
    return `the copy is only partly resynchronised; ${forced}, damaged as it is`;
  }
  if (record.copy === "outdated") {
    return `the copy is outdated (${record.copyReason}): what ${settings.peer} answered since then is missing; ${forced}`;
  }
  if (following) {
    return `${settings.peer} is silent and may still serve; make sure it is off, then \`force-primary\``;
  }
  if (peer !== null && record.copy === "none" && peer.copy !== "none") {
    return `${settings.peer} holds the module's data (epoch ${peer.epoch}); ${forced}, empty or not`;
  }
  if (peer !== null && peer.epoch > record.epoch && peer.copy !== "none") {
    return `${settings.peer} knows a later membership (epoch ${peer.epoch}, here ${record.epoch}); ${forced}`;
  }
  return null;
}

function startAsSecondary(turn: Turn, id: number): void {
  const { phase, settings } = turn;
  if (phase.kind !== "stopped" && phase.kind !== "waiting") {
    const already = phase.kind === "following";
    return turn.reply(
      id,
      already,
      already ? "it is secondary already" : "Cannot start as secondary: stop it first",
    );
  }
  turn.set({ overwrite: true });
  turn.persist({ started: true });
  begin(turn, `started as secondary of ${settings.peer}`);
  wait(turn, "transient", `waits for ${settings.peer} to be primary`, "secondary");
  turn.reply(id, true, `will follow ${settings.peer}; what this copy has of its own goes to quarantine`);
  consider(turn);
}

function stop(turn: Turn, id: number): void {
  const { phase, record, settings } = turn;
  switch (phase.kind) {
    case "stopped":
      // A person who stops it means it to stay stopped; a halt changes nothing for what a person has stopped.
      if (!turn.state.halting) turn.persist({ started: false });
      return turn.reply(id, true, "it is stopped already");
    case "stopping":
      return turn.reply(id, true, "it is stopping");
    case "serving":
    case "promoting":
      demote(
        turn,
        peerReady(turn) ? "handover-stop" : "stop",
        turn.state.halting ? "the machine halts" : "stopped by a person",
      );
      break;
    case "demoting":
      turn.become({ ...phase, then: phase.then.startsWith("handover") ? "handover-stop" : "stop" });
      break;
    case "following":
      if (record.copy === "uptodate") {
        standBack(turn, record.epoch + 1, `stopped while ${settings.peer} was primary`);
      }
      turn.persist({ started: false });
      leave(turn);
      break;
    case "waiting":
      turn.persist({ started: false });
      leave(turn);
      break;
    default:
      unreachable(phase);
  }
  turn.reply(id, true, "stopping");
}

function leave(turn: Turn): void {
  const tasks = [{ do: "cover" }, { do: "retire" }, { do: "replicator-stop" }] as const;
  const work = turn.work("data", tasks);
  turn.become({ kind: "stopping", step: "data", work, since: turn.at });
  turn.set({ silence: null, proposal: 0 });
  turn.send();
}

function restart(turn: Turn, id: number): void {
  const { phase, settings } = turn;
  if (phase.kind === "following" && id !== 0 && turn.peer !== null) return ask(turn, id, "restart");
  if (phase.kind !== "serving") {
    return turn.reply(
      id,
      false,
      `Cannot restart: the service runs on the primary; this node is ${phase.kind}`,
    );
  }
  const work = turn.work("service", [{ do: "service-stop" }, { do: "service-start" }], true);
  turn.become({ ...phase, service: "restarting", work });
  turn.info("Restarts the service", `on ${settings.node}, asked by a person`);
  turn.send();
  turn.reply(id, true, "restarting the service here; the role stays");
}

function switchover(turn: Turn, id: number): void {
  const { phase, settings } = turn;
  if (phase.kind === "following" && id !== 0) {
    const ready = turn.peer !== null && turn.record.copy === "uptodate";
    if (ready) return ask(turn, id, "switchover");
    return turn.reply(
      id,
      false,
      `Cannot switch over: this copy is ${turn.record.copy}; wait until it is uptodate`,
    );
  }
  if (phase.kind !== "serving") {
    return turn.reply(id, false, `Cannot switch over: this node is ${phase.kind}, not primary`);
  }
  if (!peerReady(turn)) {
    return turn.reply(
      id,
      false,
      `Cannot switch over: ${settings.peer} is not ready to take over; see \`status\``,
    );
  }
  demote(turn, "handover", `switches over to ${settings.peer}`);
  turn.reply(id, true, `switching over to ${settings.peer}`);
}

function failback(turn: Turn, id: number): void {
  const { settings, phase, record } = turn;
  if (settings.prefer === null) {
    return turn.reply(
      id,
      false,
      "Cannot fail back: the module prefers no node; set `failover.prefer`, or `switchover`",
    );
  }
  if (record.primary === settings.prefer && (phase.kind === "serving" || phase.kind === "following")) {
    return turn.reply(id, true, `${settings.prefer} is primary already`);
  }
  switchover(turn, id);
}

function maintenance(turn: Turn, id: number, on: boolean): void {
  turn.persist({ maintenance: on });
  turn.info(
    on ? "Maintenance on" : "Maintenance off",
    on ? "nothing takes over by itself here" : "takes over again",
  );
  turn.reply(
    id,
    true,
    on ? "no automatic takeover on this node until `maintenance off`" : "automatic takeover is back",
  );
}

function ask(turn: Turn, id: number, verb: "switchover" | "restart"): void {
  // The time of boot makes numbers of a new agent differ from those of the one before.
  turn.set({ request: { number: turn.at, verb } });
  turn.send();
  turn.reply(id, true, `asked ${turn.settings.peer}, which is primary`);
}

/** The peer has everything and has said so under this membership. */
export function peerReady(turn: Turn): boolean {
  const { peer, record, channel } = turn;
  return peer !== null && record.members.length === 2 && peer.name === "secondary" &&
    peer.copy === "uptodate" &&
    peer.epoch === record.epoch && peer.promised <= record.epoch && channel.connected;
}
