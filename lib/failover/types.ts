/**
 * What the failover core knows, hears and answers, for one module on one node.
 *
 * Times (`at`, `…At`, `until`) are whole milliseconds of `CLOCK_BOOTTIME`, so that a suspended host notices that
 * time went by. Nothing here reads a clock: every event brings its own.
 *
 * @module
 */

import type { Readmission } from "./readmission.ts";

/** The state an operator sees. */
export type StateName = "stopped" | "waiting" | "alone" | "primary" | "secondary";
/** `transient`: on its way. `not-ready`: needs something, the reason says what. */
export type Readiness = "ready" | "transient" | "not-ready";
/** What this node's copy is worth. `none`: never initialised. `inconsistent`: part of a resync. `outdated`: a past state. */
export type Copy = "none" | "uptodate" | "inconsistent" | "outdated";

/** What a person can ask of a module. */
export type Verb =
  | "start"
  | "start-primary"
  | "start-secondary"
  | "stop"
  | "halt"
  | "restart"
  | "switchover"
  | "failback"
  | "force-primary"
  | "maintenance-on"
  | "maintenance-off";

/** All verbs, for parsers and tables. */
export const VERBS = [
  "start",
  "start-primary",
  "start-secondary",
  "stop",
  "halt",
  "restart",
  "switchover",
  "failback",
  "force-primary",
  "maintenance-on",
  "maintenance-off",
] as const satisfies readonly Verb[];

/** Who breaks a tie. `witness` and `etcd` have their place here, not their code yet. */
export type Arbiter =
  | { readonly kind: "ping"; readonly mode: "strict" | "auto" }
  | { readonly kind: "none" };

/** How long is long, in milliseconds. */
export interface Timings {
  readonly heartbeatMs: number;
  /** T_dead: silence after which the peer counts as silent. */
  readonly deadMs: number;
  /** T_wit: how long the witness may need. */
  readonly witnessMs: number;
  /** T_wd: after this long without authority a node has stopped serving, whatever hangs. */
  readonly watchdogMs: number;
  /** Bound for a peer whose replication channel is gone while it lives: then it is asked to stand back. */
  readonly peerMs: number;
  /** D: how long a primary may serve after its last echoed heartbeat. Below T_promote, with the keeper's grace. */
  readonly leaseMs: number;
}

/** What does not change while a module runs. */
export interface Settings {
  readonly module: string;
  readonly node: string;
  readonly peer: string;
  readonly arbiter: Arbiter;
  readonly timings: Timings;
  /** False: the secondary never takes over by itself. */
  readonly automatic: boolean;
  /** Node that `failback` gives the role to. Null: no preference. */
  readonly prefer: string | null;
  /** Whether there are virtual IPs: a module without has none that a rival could answer for. */
  readonly vips: boolean;
}

/** Who has every acknowledged write. The epoch grows at each change and is on disk before use. */
export interface Membership {
  readonly epoch: number;
  /** Null: never initialised. */
  readonly primary: string | null;
  /** One or two node names; the primary is one of them. */
  readonly members: readonly string[];
}

/** What a node must not forget, written before anything that depends on it is done. */
export interface DurableRecord extends Membership {
  /** This node never serves, nor counts as a member, at an epoch that is not above this one (I2), until a membership above it names it. */
  readonly promised: number;
  readonly copy: Copy;
  /** Why the copy is not uptodate, for a person. Empty when it is. */
  readonly copyReason: string;
  /** False: a person stopped the module; it stays stopped after a reboot. */
  readonly started: boolean;
  /** Was a primary with work unfinished, or a secondary that follows, when last heard of: a reboot then means a crash. */
  readonly running: boolean;
  /** False after a power cut: the disk may lack what was applied and not synced. True again once in step with a primary. */
  readonly intact: boolean;
  /** The membership was given to the peer and the peer has not confirmed yet. */
  readonly handover: boolean;
  /**
   * Epoch at which this copy last had everything, as a member; 0 once it is changed by a resync, failed, or lost power.
   * When the primary's own record still stands at that epoch, nothing was acknowledged without this copy.
   */
  readonly memberAt: number;
  /** Became primary by taking over from a silent peer. */
  readonly took: boolean;
  /** Alone because the peer has durably promised to stand back, not merely because it was silent. */
  readonly confirmed: boolean;
  /** No automatic takeover while a person works on the machines. */
  readonly maintenance: boolean;
  /** Random id of the boot that wrote this (`RUN/boot-id`). */
  readonly bootId: string;
}

/** What one node says about one module in every heartbeat. */
export interface Report extends Membership {
  readonly name: StateName;
  readonly readiness: Readiness;
  readonly copy: Copy;
  readonly promised: number;
  readonly intact: boolean;
  readonly handover: boolean;
  readonly memberAt: number;
  readonly took: boolean;
  /** Module is not stopped. */
  readonly started: boolean;
  /** Holds the mount and answers the application. */
  readonly serving: boolean;
  /** Lowest epoch the sender asks the receiver to promise; 0: none. */
  readonly proposal: number;
  /** Position of the copy. */
  readonly sequence: bigint;
  /** Position the peer must have applied before the membership makes it uptodate. */
  readonly pairedAt: bigint;
  /** Generations, newest first, at most {@link HISTORY_MAX}, as 16 hex digits. */
  readonly history: readonly string[];
  /** A person asked at the sender for something the receiver must do. */
  readonly request: PeerRequest;
  /** Number of the last request of the receiver that the sender has taken. */
  readonly requestTaken: number;
}

/** A wish carried by heartbeats until the other side has taken it. */
export interface PeerRequest {
  /** Grows by one with each wish; 0: none yet. */
  readonly number: number;
  readonly verb: "none" | "switchover" | "restart";
}

/** Generations a report carries at most. */
export const HISTORY_MAX = 8;

/** What is known of the peer. */
export interface PeerView {
  /** Latest authenticated report; null until one came since this agent started. */
  readonly report: Report | null;
  /** When the last heartbeat came, by our clock. */
  readonly heardAt: number;
  /** When we sent the latest heartbeat that the peer says it received. One-way loss makes it stand still. */
  readonly echoedAt: number;
}

/** What is known of the replicator on this node. */
export interface ChannelView {
  /** Its process answers. */
  readonly alive: boolean;
  readonly role: "idle" | "primary" | "secondary";
  readonly epoch: number;
  /** The replication channel to the peer stands. */
  readonly connected: boolean;
  /** It does not, because the peer held applications up for the peer bound. */
  readonly late: boolean;
  /** When `connected` last changed. */
  readonly since: number;
  /** The peer (seen from a primary) or we (seen from a secondary) lack nothing but what is in flight. */
  readonly caughtUp: boolean;
  readonly sequence: bigint;
  /** What the peer has acknowledged, seen from a primary; 0 from elsewhere. */
  readonly acknowledged: bigint;
  readonly history: readonly string[];
  /**
   * What the replicator itself wrote down of the copy; null while it says nothing for certain (a new copy, a power cut).
   * It knows what happened while no agent looked.
   */
  readonly copy: "uptodate" | "inconsistent" | "outdated" | null;
  /** Progress of a resync in words, null when none runs. */
  readonly resync: string | null;
  /** What the copy can go back to out of a resync, in words; null: nothing. Only a person's word makes it. */
  readonly wayBack: string | null;
}

/** What the probes found. Null: not asked. */
export interface Findings {
  readonly witness: boolean | null;
  /** An address of the peer answered ICMP, ARP or TCP, on any path. */
  readonly peer: boolean | null;
  /** Somebody else answered for a virtual IP. */
  readonly vip: boolean | null;
  /** What answered or failed, for the log. */
  readonly words: string;
}

/** Code of a replicator that refuses to become primary: its copy is part of a resync. */
export const INCONSISTENT = "inconsistent";

/** Code of work that ended, but what follows from it could not be written down: the disk is full. */
export const STORE_FULL = "store-full";

/** The two queues of slow work: each in order, beside each other. */
export type Lane = "data" | "service";

/** One step of slow work. */
export type Task =
  /** Have a replicator process, connected. Nothing when there is one. */
  | { readonly do: "replicator-start" }
  | { readonly do: "replicator-stop" }
  /** From whatever it is (mounted, plain, covered) to a read-only directory; a replicator that still is primary is demoted first. */
  | { readonly do: "cover" }
  | { readonly do: "mount" }
  /** Abort: what waits and what comes is answered EIO. */
  | { readonly do: "unmount" }
  /** Refused with {@link INCONSISTENT} by a copy that is no state that ever was, unless `force`: a person's word. */
  | { readonly do: "close"; readonly epoch: number; readonly force: boolean }
  | { readonly do: "serve"; readonly epoch: number; readonly members: 1 | 2 }
  | { readonly do: "follow"; readonly epoch: number; readonly primary: string; readonly overwrite: boolean }
  | { readonly do: "solo"; readonly epoch: number }
  | { readonly do: "pair"; readonly epoch: number }
  | { readonly do: "demote" }
  | { readonly do: "retire" }
  | { readonly do: "vip-add" }
  | { readonly do: "vip-remove" }
  | { readonly do: "service-start" }
  | { readonly do: "service-stop" };

/** What happens to a module on this node. `at`: `CLOCK_BOOTTIME` milliseconds. */
export type Event = { readonly at: number } & EventBody;

/** The kinds of {@link Event}. */
export type EventBody =
  /** The agent has started and looked around. `serving`: every path is mounted and the replicator is primary. */
  | { readonly kind: "boot"; readonly bootId: string; readonly serving: boolean; readonly following: boolean }
  | { readonly kind: "tick" }
  /** An authenticated, fresh heartbeat. `echoedAt`: see {@link PeerView}; null when it echoes nothing new. */
  | { readonly kind: "heard"; readonly report: Report; readonly echoedAt: number | null }
  /** What the replicator says of itself: polled with each heartbeat, and at each change. */
  | { readonly kind: "channel"; readonly channel: ChannelView }
  /** Both copies were written apart. */
  | { readonly kind: "diverged"; readonly detail: string }
  /** This node's replicator cannot apply what it receives (disk full, EIO). */
  | { readonly kind: "copy-failed"; readonly reason: string }
  /** The keeper's dead man's switch took the module down: the authority had lapsed. */
  | { readonly kind: "fenced"; readonly reason: string }
  | { readonly kind: "done"; readonly work: number; readonly sequence: bigint | null }
  | {
    readonly kind: "failed";
    readonly work: number;
    readonly task: Task["do"];
    readonly reason: string;
    /** For programs: {@link INCONSISTENT}, or what else the keeper or the replicator calls it. */
    readonly code: string;
  }
  | { readonly kind: "probed"; readonly round: number; readonly findings: Findings }
  | { readonly kind: "command"; readonly verb: Verb; readonly id: number; readonly force: boolean };

/**
 * What is to be done, in the order of the list: what is persisted is on disk before anything that follows it. It may be written
 * before all of them; where it cannot be written none is done, and the state stays as it was but for {@link learn}.
 */
export type Effect =
  | { readonly kind: "persist"; readonly record: DurableRecord }
  /** `until` 0: withdrawn, now. */
  | { readonly kind: "authority"; readonly until: number; readonly epoch: number }
  /** Put at the end of a lane. `now`: what the lane is doing is aborted and what waits in it is dropped first. */
  | {
    readonly kind: "work";
    readonly lane: Lane;
    readonly work: number;
    readonly tasks: readonly Task[];
    readonly now: boolean;
  }
  | { readonly kind: "probe"; readonly round: number; readonly ask: ProbeAsk; readonly deadlineMs: number }
  /** Send a heartbeat at once: the peer waits for what it says. */
  | { readonly kind: "send" }
  | {
    readonly kind: "notify";
    readonly level: "info" | "warning" | "error";
    readonly what: string;
    readonly why: string;
  }
  | { readonly kind: "reply"; readonly id: number; readonly ok: boolean; readonly message: string };

/** Which questions a probe round asks. */
export interface ProbeAsk {
  readonly witness: boolean;
  readonly peer: boolean;
  readonly vip: boolean;
}

/** What the module is doing: volatile, rebuilt at boot. */
export type Phase =
  | { readonly kind: "stopped" }
  | {
    readonly kind: "waiting";
    readonly ready: "transient" | "not-ready";
    readonly why: string;
    readonly hold: Hold;
    readonly since: number;
  }
  | { readonly kind: "following"; readonly work: number; readonly primary: string }
  | {
    readonly kind: "promoting";
    readonly step: "closing" | "opening";
    readonly work: number;
    readonly epoch: number;
    /** The peer has promised to stand back, or handed over. */
    readonly confirmed: boolean;
    readonly took: boolean;
  }
  | {
    readonly kind: "serving";
    readonly service: "starting" | "running" | "restarting" | "failed";
    /** Work of the service lane. */
    readonly work: number;
    /** Work of the data lane: a pairing or a parting under way, 0 when none. */
    readonly change: number;
    /** Going on alone failed: when it is tried again. Until it has succeeded nobody is told anew. */
    readonly againAt?: number;
    readonly why: string;
  }
  | {
    readonly kind: "demoting";
    readonly step: "service" | "data";
    readonly work: number;
    readonly then: AfterDemotion;
    readonly why: string;
  }
  | {
    readonly kind: "stopping";
    readonly step: "handover" | "data";
    readonly work: number;
    readonly since: number;
  };

/** What keeps a waiting node from electing itself. */
export type Hold =
  /** Nothing: elects as soon as it can tell. */
  | "none"
  /** Diverged or failed: a person decides. */
  | "person"
  /** `start --as secondary`: never leads. */
  | "secondary"
  /** Lost its authority; comes back when it is in contact again, or its witness answers and it was alone. */
  | "isolated";

/** What comes after a demotion. `elect`: the records decide. `isolated`, `person`: see {@link Hold}. */
export type AfterDemotion = "handover" | "handover-stop" | "stop" | "elect" | "isolated" | "person";

/** Everything the core knows. A plain value: saved by nobody but {@link DurableRecord}, compared by tests. */
export interface State {
  readonly settings: Settings;
  readonly record: DurableRecord;
  readonly phase: Phase;
  readonly peer: PeerView;
  readonly channel: ChannelView;
  /** Authority last given, 0 when none. */
  readonly authorityUntil: number;
  /** What a primary remembers of a peer it has dropped. */
  readonly readmission: Readmission;
  /** What we ask the peer to promise, 0 when nothing. */
  readonly proposal: number;
  readonly pairedAt: bigint;
  /** `start --as secondary`: the copy of this node may be overwritten (quarantined first). */
  readonly overwrite: boolean;
  /** It stops because the machine halts: it starts again with it. */
  readonly halting: boolean;
  /** Uninterrupted in step with the primary at last contact: the only way to become eligible. */
  readonly inStep: boolean;
  /** A silence is being judged. `round` 0: no probe is out. */
  readonly silence: {
    readonly since: number;
    readonly round: number;
    readonly judged: boolean;
  } | null;
  /** Alone because of silence: until then the witness must keep answering, since the peer may still decide. */
  readonly provenUntil: number;
  readonly witnessAt: number;
  readonly request: PeerRequest;
  readonly requestTaken: number;
  /** Number of the next work or probe round. */
  readonly nextNumber: number;
  readonly bootedAt: number;
}

/** What {@link step} answers. */
export interface Decision {
  readonly state: State;
  /** To be done in this order. */
  readonly effects: readonly Effect[];
}
