/**
 * Two nodes, the line between them, and a membership that is decided by the test: who serves, who follows, and from when on both
 * have everything. The scheduler is chance, so that a seed is a history.
 *
 * @module
 */

import { beginMachine, passTime, SOCKET, socketPair } from "./machine.ts";
import { Ended, type NodeOptions, PowerNode, type Reply } from "./node.ts";

/** Rounds in which an answer must have come. */
const PATIENCE = 20_000;

/** Two nodes. */
export class Plant {
  readonly a: PowerNode;
  readonly b: PowerNode;
  epoch = 1;
  /** Who serves, or did. */
  leader: PowerNode;
  /** Both are members: an answer needs both. */
  paired = false;
  /** Rounds done. */
  rounds = 0;
  /** In which of them {@link Ended} is thrown. */
  endsAt: number = Number.MAX_SAFE_INTEGER;
  /** Why sessions ended by themselves. */
  readonly lost: string[] = [];
  readonly #options: NodeOptions;
  #session = "";
  #sessions = 0;
  #unique = 2;

  /** Nobody serves yet. */
  constructor(options: NodeOptions) {
    this.#options = options;
    beginMachine(options.dice);
    this.a = new PowerNode("a", options);
    this.b = new PowerNode("b", options);
    this.leader = this.a;
  }

  /** Who does not serve. */
  get other(): PowerNode {
    return this.leader === this.a ? this.b : this.a;
  }

  /** There is a session between them. */
  get connected(): boolean {
    return this.#session !== "";
  }

  /** One serves, the other follows. False: this one may not serve. */
  lead(leader: PowerNode): boolean {
    this.unlink();
    if (!leader.mayServe(this.epoch + 1)) return false;
    this.epoch++;
    this.paired = false;
    this.leader = leader;
    leader.serve(this.epoch);
    this.other.follow(this.epoch);
    return true;
  }

  /** The line is cut. */
  unlink(): void {
    for (const node of [this.a, this.b]) node.detach(this.#session);
    this.#session = "";
  }

  /** Whoever serves goes on alone. */
  solo(): void {
    this.unlink();
    const wasPaired = this.paired;
    // Decided: also if it ends in the middle of that, the other may not lead.
    this.paired = false;
    if (wasPaired) this.leader.primary.solo(++this.epoch);
  }

  /** A node's process is killed; the next one has its role. */
  kill(node: PowerNode): void {
    // Who is dead parts from nobody.
    (node === this.a ? this.b : this.a).detach(this.#session);
    this.#session = "";
    node.kill(this.epoch, this.paired ? 2 : 1);
  }

  /** The process of whoever serves is killed when it is decided that it goes on alone, and it has not heard of it. */
  killAlone(): void {
    this.other.detach(this.#session);
    this.#session = "";
    this.paired = false;
    this.leader.kill(++this.epoch, 1);
  }

  /** Begins a session. Throws when the primary does not let the other in. */
  connect(): void {
    const { leader, other } = this;
    const position = other.secondary.hello() as { readonly last: number; readonly overwrite: boolean };
    const verdict = leader.decide(position);
    if (!verdict.accept && verdict.code === "diverged" && !position.overwrite) {
      // It was lost with the first record of its last membership under way: nobody but a person knows that it was not alone.
      other.follow(this.epoch, true);
      return this.connect();
    }
    if (!verdict.accept) throw new Error(`${other.name} was not let in: ${verdict.reason}`);
    const [data, ack, sync] = [0, 0, 0].map(() => socketPair(SOCKET.stream));
    const ends = ([0, 1] as const).map((end) => ({
      data: data?.[end] ?? -1,
      ack: ack?.[end] ?? -1,
      sync: sync?.[end] ?? -1,
    }));
    const [ours, theirs] = ends;
    if (ours === undefined || theirs === undefined) return;
    const session = `00000000-0000-4000-8000-${String(++this.#sessions).padStart(12, "0")}`;
    this.#session = session;
    const sides = [
      () => leader.attach(session, verdict.plan, position.last, ours),
      () => other.join(session, verdict.plan, theirs),
    ];
    if (this.#options.dice(2) === 0) sides.reverse();
    for (const side of sides) side();
  }

  /** Everything does a little. Throws {@link Ended}. */
  round(): void {
    if (++this.rounds >= this.endsAt) throw new Ended("");
    const { dice } = this.#options;
    passTime(dice(4_000_000));
    for (const node of [this.a, this.b]) {
      // Some hours last a second: checkpoints come.
      node.now += dice(20) === 0 ? dice(4_000_000_000) : dice(20_000_000);
      node.fs.now += BigInt(1 + dice(5_000_000));
    }
    const work = [...this.a.threads, ...this.b.threads];
    const first = dice(work.length);
    for (let at = 0; at < work.length; at++) if (dice(4) > 0) work[(first + at) % work.length]?.();
    this.#decide();
  }

  /** One request of an application, until it is answered. */
  call(opcode: number, nodeid: number, content: Uint8Array): Reply {
    const unique = this.#unique += 2;
    this.leader.request(opcode, nodeid, unique, content);
    for (let i = 0; i < PATIENCE; i++) {
      this.round();
      // Those of requests whose application is gone are nobody's.
      for (let reply = this.leader.reply(); reply !== null; reply = this.leader.reply()) {
        if (reply.unique === unique) return reply;
      }
    }
    throw new Error(`No answer to request ${opcode}: ${this.#state()}`);
  }

  /** A request that is not answered. */
  tell(opcode: number, nodeid: number, content: Uint8Array): void {
    this.leader.request(opcode, nodeid, this.#unique += 2, content);
  }

  /** Brings the two together, and lets all that is under way come to its end. */
  settle(): void {
    for (let i = 0; !(this.paired && this.connected); i++) {
      if (i > PATIENCE) throw new Error(`They do not come together: ${this.#state()}`);
      if (!this.connected) this.connect();
      this.round();
    }
    for (let i = 0; i < 40; i++) {
      if (!this.connected) return this.settle();
      const { sequencer, outgoing } = this.leader.primary;
      while (this.leader.reply() !== null);
      sequencer.tellTimes();
      outgoing.flushNow();
      this.round();
    }
  }

  #decide(): void {
    const { leader, other } = this;
    for (const node of [leader, other]) {
      for (const message of node.said.splice(0)) {
        if (message.kind === "rotten") throw new Error(`Nothing rots here: ${JSON.stringify(message)}`);
        if (message.kind !== "link-lost" && message.kind !== "apply-failed") continue;
        this.lost.push(`${node.name}: ${message.reason}`);
        this.solo();
      }
    }
    if (this.paired && !this.connected) this.connect();
    if (this.paired || !this.connected || !other.secondary.caughtUp) return;
    if (leader.primary.status()["caughtUp"] !== true) return;
    leader.primary.pair(++this.epoch);
    other.secondary.accept(this.epoch);
    this.paired = true;
  }

  #state(): string {
    const { leader, other, lost } = this;
    return JSON.stringify({
      leader: leader.role?.status(),
      other: other.role?.status(),
      lost: lost.slice(-3),
    });
  }
}
