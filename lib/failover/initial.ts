/**
 * What is known before the first event.
 *
 * @module
 */

import { FORGIVEN } from "./readmission.ts";
import { NEVER } from "./turn.ts";
import type { ChannelView, DurableRecord, Settings, State } from "./types.ts";

/** A module never seen before. */
export function newRecord(bootId: string): DurableRecord {
  return {
    epoch: 0,
    primary: null,
    members: [],
    promised: 0,
    copy: "none",
    copyReason: "",
    started: false,
    running: false,
    intact: true,
    handover: false,
    memberAt: 0,
    took: false,
    confirmed: false,
    maintenance: false,
    bootId,
  };
}

/** A replicator nobody has talked to yet. */
export function noChannel(at: number): ChannelView {
  return {
    alive: false,
    role: "idle",
    epoch: 0,
    connected: false,
    late: false,
    since: at,
    caughtUp: false,
    sequence: 0n,
    acknowledged: 0n,
    history: [],
    copy: null,
    resync: null,
    wayBack: null,
  };
}

/** The state before the `boot` event, from what was written down. */
export function initialState(settings: Settings, record: DurableRecord, at: number): State {
  return {
    settings,
    record,
    phase: { kind: "stopped" },
    peer: { report: null, heardAt: at, echoedAt: at },
    channel: noChannel(at),
    authorityUntil: 0,
    readmission: FORGIVEN,
    proposal: 0,
    pairedAt: NEVER,
    overwrite: false,
    halting: false,
    inStep: false,
    silence: null,
    provenUntil: 0,
    witnessAt: 0,
    request: { number: 0, verb: "none" },
    requestTaken: 0,
    nextNumber: 1,
    bootedAt: at,
  };
}
