// The check of `promises.py` on a plain directory: what is as promised passes, and each way to break a promise is found.
import { assertEquals, assertMatch } from "@std/assert";
import { must, run } from "./lab.ts";

const PROGRAM = new URL("promises.py", import.meta.url).pathname;
const CHANGES = "120";

interface Made {
  readonly folder: string;
  readonly run: string;
  readonly journal: string;
}

/** What the load leaves behind. */
async function made(durability: string, work: (made: Made) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "binome-promises-" });
  try {
    await Deno.mkdir(`${folder}/data`);
    const load = ["python3", PROGRAM, `${folder}/data`, durability, "1", `${folder}/j`, "--pause-ms", "0"];
    await must([...load, "--changes", CHANGES], { timeoutMs: 60_000 });
    await work({ folder: `${folder}/data`, run: `${folder}/data/run-1`, journal: `${folder}/j-1` });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What the check says is wrong. */
async function wrong({ folder, journal }: Made, durability: string): Promise<string> {
  const argv = ["python3", PROGRAM, folder, durability, "--check", journal.replace(/-1$/, "")];
  const { code, stdout, stderr } = await run(argv, { timeoutMs: 60_000 });
  assertEquals(stderr, "");
  const [about = "", ...rest] = stdout.split("\n");
  assertEquals(JSON.parse(about).runs, 1);
  assertEquals(code, rest.join("") === "" ? 0 : 1);
  return rest.join("\n");
}

const lose = (journal: string): Promise<void> =>
  Deno.writeTextFile(journal, '{"lost": true}\n', { append: true });

/** The names there are, each with what the file holds. */
async function files(folder: string): Promise<{ path: string; bytes: Uint8Array }[]> {
  const found = [];
  for await (const { name } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    found.push({ path, bytes: await Deno.readFile(path) });
  }
  return found.sort((a, b) => a.path < b.path ? -1 : 1);
}

async function longest(folder: string): Promise<{ path: string; bytes: Uint8Array }> {
  const [first] = (await files(folder)).sort((a, b) => b.bytes.length - a.bytes.length);
  if (first === undefined) throw new Error("the load has left no file");
  return first;
}

/** Overwrites in place: the file, its size and its attributes stay. */
async function overwrite(path: string, at: number, bytes: Uint8Array): Promise<void> {
  using file = await Deno.open(path, { write: true });
  await file.seek(at, Deno.SeekMode.Start);
  await file.write(bytes);
}

for (const durability of ["each-write", "fsync", "relaxed"]) {
  Deno.test(`promises.py finds nothing wrong with what nobody has touched, in ${durability}`, async () => {
    await made(durability, async (made) => {
      assertEquals(await wrong(made, durability), "");
      await lose(made.journal);
      assertEquals(await wrong(made, durability), "");
    });
  });
}

Deno.test("promises.py finds a cell that no change has written", async () => {
  for (const lost of [false, true]) {
    await made("each-write", async (made) => {
      const { path, bytes } = await longest(made.run);
      if (lost) {
        using file = await Deno.open(path, { read: true });
        await file.sync();
        await lose(made.journal);
      }
      await overwrite(path, bytes.length - 100, new Uint8Array(50).fill(7));
      assertMatch(
        await wrong(made, "each-write"),
        /run 1, (one node lived|all lost power): f\d+: cell \d+ is not of change/,
      );
    });
  }
});

Deno.test("promises.py finds a name that is missing, and one that no change has left", async () => {
  await made("fsync", async (made) => {
    const { path } = await longest(made.run);
    await Deno.rename(path, `${made.run}/other`);
    assertMatch(await wrong(made, "fsync"), /other is there, and no change left it/);
    await Deno.remove(`${made.run}/other`);
    assertMatch(await wrong(made, "fsync"), /f\d+ is missing/);
  });
});

Deno.test("promises.py finds the last change undone where it returned, which relaxed may lose", async () => {
  await made("relaxed", async (made) => {
    // A last change that returned, and of which nothing is there.
    const lines = (await Deno.readTextFile(made.journal)).trim().split("\n").map((line) => JSON.parse(line));
    const done = lines.findLast((line) => "done" in line);
    const kept = lines.filter((line) => !("n" in line) || line.n <= done.done);
    const name = kept.some((line) => line.name === "f99") ? "f98" : "f99";
    const change = { n: done.done + 1, op: "create", name, cells: 1 };
    const text = [...kept, change, { done: done.done + 1, ms: done.ms + 10 }];
    await Deno.writeTextFile(made.journal, text.map((line) => `${JSON.stringify(line)}\n`).join(""));
    assertMatch(await wrong(made, "fsync"), new RegExp(`${name} is missing`));
    assertEquals(await wrong(made, "relaxed"), "");
    // Five seconds of changes are more than it may lose.
    const again = [change, { done: change.n, ms: done.ms + 10 }, {
      ...change,
      n: change.n + 1,
      name: `${name}x`,
    }];
    const all = [...kept, ...again, { done: change.n + 1, ms: done.ms + 5000 }];
    await Deno.writeTextFile(made.journal, all.map((line) => `${JSON.stringify(line)}\n`).join(""));
    assertMatch(await wrong(made, "relaxed"), /it is 4990 ms behind, 2 changes/);
  });
});

Deno.test("promises.py finds that a synced file is gone after all lost power", async () => {
  await made("each-write", async (made) => {
    const lines = (await Deno.readTextFile(made.journal)).trim().split("\n").map((line) => JSON.parse(line));
    const next = lines.findLast((line) => "n" in line).n + 1;
    const whole = lines.filter((line) => !("n" in line) || lines.some(({ done }) => done === line.n));
    const sync = { n: next, op: "fsync", name: "." };
    const text = [...whole, sync, { done: next, ms: 0 }];
    await Deno.writeTextFile(made.journal, text.map((line) => `${JSON.stringify(line)}\n`).join(""));
    await lose(made.journal);
    const { path } = await longest(made.run);
    await Deno.remove(path);
    assertMatch(await wrong(made, "each-write"), /all lost power: f\d+ is missing, promised: \d+/);
  });
});
