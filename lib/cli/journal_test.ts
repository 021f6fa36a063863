import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import type { LogFolder } from "../journal/inspect.ts";
import { folderWith, goldenBytes } from "../journal/testdata/files.ts";
import { NEWEST, SEALED, TORN } from "../journal/testdata/log_v1.ts";
import { journal } from "./journal.ts";
import { CliError, EXIT } from "./world.ts";

const WHOLE = folderWith(goldenBytes(SEALED), goldenBytes(NEWEST));
const TORN_LOG = folderWith(goldenBytes(SEALED), goldenBytes(TORN));
const NOTHING = folderWith();

/** Runs the command over a log; what it printed, and which folder it asked for. */
async function run(log: LogFolder, ...args: readonly string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const asked: string[] = [];
  const exit = await journal(args, {
    state: "/state",
    openLog: (folder) => {
      asked.push(folder);
      return log;
    },
    print: (line) => void out.push(line),
    complain: (line) => void err.push(line),
    sleep: () => Promise.resolve(),
  });
  return { exit, out, err, asked };
}

Deno.test("journal() prints a line a record, and what there is in all", async () => {
  const { exit, out, err, asked } = await run(WHOLE, "inspect", "bms");
  assertEquals([exit, err, asked], [EXIT.ok, [], ["/state/modules/bms/log"]]);
  const start = (line: string | undefined) =>
    line?.replace(/ {2,}/g, "  ").replace("fedcba9876543210", "GEN");
  assertEquals(out.slice(0, 8).map(start), [
    '4328719365  658188  GEN  applied  1972-04-20T13:17:39.790382856Z  create 513 "données\u00a0.db" in 1 mode 0100640 uid 26 gid 26',
    "4328719366  658188  GEN  applied  2023-11-14T22:13:20.123456789Z  write 513 offset 4096 length 3100",
    '4328719367  658188  GEN  applied  1969-12-31T23:59:59.999999995Z  setxattr 513 "user.color" length 4',
    "4328719368  658188  GEN  applied  2023-11-14T22:13:21.000000000Z  write 513 offset 1108152157446 length 700",
    "4328719369  658188  GEN  applied  2023-11-14T22:13:22.000000000Z  write 513 offset 65536 length 1048576 (hollow, drops setuid and setgid)",
    '4328719370  658188  GEN  void  -  unlink 600 "gone" in 1',
    '4328719371  658188  GEN  applied  2023-11-14T22:13:23.000000001Z  rename 513 "old\\xff\\x0a" in 1 to "new" in 1 over 600',
    "4328719372  658188  GEN  intention  -  write 513 offset 5 length 11",
  ]);
  assertEquals(out.slice(8, 11), [
    "",
    "2 segments, 16 KiB",
    "records 4328719365 to 4328719372: 6 applied, 1 void, 1 intention, 1 hollow",
  ]);
  assertMatch(out.join("\n"), /\nOPERATION +RECORDS +BYTES +PAYLOAD\n/);
  assertMatch(out.join("\n"), /\nwrite +4 +4195 +3811\n/);
  assertEquals(out.at(-1), "no damage");
});

Deno.test("journal() shows the records asked for, their payload too", async () => {
  const { out } = await run(
    WHOLE,
    "inspect",
    "./copy",
    "--from",
    "4328719372",
    "--to",
    "4328719372",
    "--payload",
  );
  assertEquals(
    out[1]?.trim(),
    "00000000  68 65 6c 6c 6f 20 77 6f 72 6c 64                 hello world",
  );
});

Deno.test("journal() answers programs with a JSON object a line, the last the summary", async () => {
  const { out } = await run(WHOLE, "inspect", "/copy", "--json", "--payload");
  const lines = out.map((line) => JSON.parse(line));
  assertEquals(lines.length, 9);
  assertEquals(lines[7], {
    sequence: 4328719372,
    epoch: 658188,
    generation: "fedcba9876543210",
    op: "write",
    state: "intention",
    id: 513,
    offset: 5,
    length: 11,
    notes: [],
    mtimeNs: "0",
    hollow: false,
    payloadLength: 11,
    segment: "log-0000000000000001.seg",
    at: 5216,
    payload: "68656c6c6f20776f726c64",
  });
  assertEquals(lines[8].summary.operations.unlink, { records: 1, bytes: 101, payload: 0 });
  assertEquals([lines[8].summary.damaged, lines[8].summary.torn], [0, null]);
});

Deno.test("journal() ends with 1 and names the place when the tail is torn", async () => {
  const { exit, out, err } = await run(TORN_LOG, "inspect", "bms");
  assertEquals(exit, EXIT.failed);
  const place = "torn tail: log-0000000000000001.seg at 5216, record 4328719372: ";
  assert(err[0]?.startsWith(place), err[0]);
  assert(out.includes("torn tail: the next start cuts the log there"));
  assert(out.at(-1)?.trim().startsWith(place));
});

Deno.test("journal() ends with 1 and names each damaged record", async () => {
  const damaged = goldenBytes(SEALED);
  damaged[5000] = (damaged[5000] ?? 0) ^ 1;
  const { exit, out, err } = await run(folderWith(damaged, goldenBytes(NEWEST)), "inspect", "bms");
  assertEquals(exit, EXIT.failed);
  assertEquals(err, [
    "damaged: log-0000000000000000.seg at 4208, record 4328719366: its checksum is wrong",
  ]);
  assertEquals(out.filter((line) => line.includes("applied  ")).length, 5);
});

Deno.test("journal() says what to do about a folder without a log, and about wrong words", async () => {
  const cases: [readonly string[], number, string][] = [
    [["inspect", "bms"], EXIT.failed, "Cannot read a log in /state/modules/bms/log"],
    [["inspect", "a b"], EXIT.usage, "a folder is written with a slash, as ./a b"],
    [["inspect"], EXIT.usage, "MODULE|FOLDER missing"],
    [["show", "bms"], EXIT.usage, "expected inspect"],
    [["inspect", "bms", "--from", "x"], EXIT.usage, "expected a sequence"],
  ];
  for (const [args, exit, message] of cases) {
    const error = await assertRejects(() => run(NOTHING, ...args), CliError, message);
    assertEquals(error.exit, exit);
  }
});
