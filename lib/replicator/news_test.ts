import { assertEquals, assertMatch } from "@std/assert";
import { News } from "./news.ts";

/** A replicator of which only the words are looked at: everything that came of a message, in order. */
class Fake {
  readonly seen: string[] = [];
  /** What the data road answers; an error: it cannot. */
  answer: unknown = {};
  readonly news = new News({
    threads: {
      ask: (command) => {
        this.seen.push(`ask ${command.kind}`);
        return this.answer instanceof Error ? Promise.reject(this.answer) : Promise.resolve(this.answer);
      },
      tell: (command) => void this.seen.push(`tell ${JSON.stringify(command)}`),
    },
    link: {
      is: (session) => session === "s",
      lose: (session, reason) => this.#link(`lose ${session}: ${reason}`),
      loseAny: (reason) => this.#link(`lose any: ${reason}`),
      partWith: (session, reason, late) => this.#link(`part with ${session}: ${reason}, late ${late}`),
    },
    broadcast: (event, body) => void this.seen.push(`event ${event} ${JSON.stringify(body)}`),
    onGranted: (root) => void this.seen.push(`granted ${root}`),
    forgetPages: (fd, { nodeid, offset, length }) =>
      this.#link(`forget ${offset} to ${offset + length} of ${nodeid} by ${fd}`),
    die: (reason) => void this.seen.push(`die: ${reason}`),
    log: (line) => void this.seen.push(`log ${line}`),
  });

  #link(what: string): Promise<void> {
    this.seen.push(what);
    return Promise.resolve();
  }

  /** What has come of the messages so far. */
  async all(): Promise<readonly string[]> {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    return this.seen;
  }
}

Deno.test("News.fromRoad() ends the process with a data road that failed", () => {
  const fake = new Fake();
  fake.news.fromRoad({ kind: "road-failed", reason: "no log" });
  assertEquals(fake.seen, ["die: no log"]);
});

Deno.test("News.fromRoad() tells the agent what a secondary cannot apply, and ends the session", () => {
  const fake = new Fake();
  fake.news.fromRoad({ kind: "apply-failed", reason: "disk full", errno: 28 });
  assertEquals(fake.seen, [
    "log disk full",
    `event failed {"reason":"disk full","errno":28}`,
    "lose any: disk full",
  ]);
});

Deno.test("News.fromRoad() has the kernel forget what was repaired before it tells of it", async () => {
  const fake = new Fake();
  const range = { path: "/srv/f", offset: 4096, length: 100 };
  fake.news.fromRoad({
    kind: "rotten",
    ...range,
    outcome: "repaired",
    why: "",
    stale: { fd: 9, nodeid: 16 },
  });
  const told = `{"path":"/srv/f","offset":4096,"length":100,"outcome":"repaired","why":""}`;
  assertEquals(await fake.all(), [
    `log the disk has lost what it was given: ${told}`,
    "forget 4096 to 4196 of 16 by 9",
    `event rotten ${told}`,
  ]);
});

Deno.test("News.fromAcker() passes on what the peer has of what was lost, in this session", () => {
  const fake = new Fake();
  const good = { kind: "good", object: 16, block: 3, content: new Uint8Array([1, 2, 3]) } as const;
  fake.news.fromAcker({ ...good, session: "former" });
  fake.news.fromAcker({ ...good, session: "s" });
  assertEquals(fake.seen, [`tell {"kind":"good","object":16,"block":3,"content":"AQID"}`]);
});

Deno.test("News.fromAcker() parts with a peer that is slow, and says that it was late", () => {
  const fake = new Fake();
  fake.news.fromAcker({ kind: "peer-lost", session: "s", reason: "silent", late: true });
  fake.news.fromAcker({ kind: "peer-failed", session: "s", reason: "EIO" });
  assertEquals(fake.seen, ["part with s: silent, late true", "part with s: EIO, late false"]);
});

Deno.test("News.fromAcker() takes no difference of a session that is over, and ends one that tells nonsense", async () => {
  const fake = new Fake();
  fake.news.fromAcker({ kind: "difference", session: "former", difference: "{}" });
  assertEquals(await fake.all(), []);
  fake.news.fromAcker({ kind: "difference", session: "s", difference: "nonsense" });
  const [log, lost] = await fake.all();
  assertMatch(log ?? "", /^log Cannot take a difference/);
  assertMatch(lost ?? "", /^lose s: /);
});

Deno.test("News.fromDisk() tells the road that a checkpoint is done, and doubts the copy where the disk refused it", async () => {
  const fake = new Fake();
  fake.news.fromDisk({ kind: "checkpoint", token: 7, failed: 0 });
  assertEquals(await fake.all(), [`tell {"kind":"checkpointed","token":7,"failed":0}`]);
  fake.seen.length = 0;
  fake.answer = { news: true, secondary: true };
  fake.news.fromDisk({ kind: "checkpoint", token: 8, failed: 5 });
  assertEquals(await fake.all(), [
    `tell {"kind":"checkpointed","token":8,"failed":5}`,
    "ask doubt",
    `event failed {"reason":"the disk refused a sync: errno 5","errno":5}`,
    "lose any: the disk refused a sync: errno 5",
  ]);
});

Deno.test("News.fromDisk() ends the process where a doubt cannot be written down", async () => {
  const fake = new Fake();
  fake.answer = new Error("no room");
  fake.news.fromDisk({ kind: "disk-error", errno: 5, sequence: 3 });
  assertEquals(await fake.all(), [
    "ask doubt",
    "die: the disk refused a sync: errno 5, which could not be written down: no room",
  ]);
});
