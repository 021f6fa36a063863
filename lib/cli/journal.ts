/** `binome journal inspect`: what is in a module's log, for people and programs. */
import { type Fault, type Found, inspect, type RecordView } from "../journal/mod.ts";
import { Mutation } from "../replication/mutation.ts";
import { opName, RecordError, recordLine, recordWords, timeText } from "../replication/record_words.ts";
import { Arguments } from "./arguments.ts";
import { formatSize } from "../config/units.ts";
import { table } from "./table.ts";
import { CliError, EXIT, usage, type World } from "./world.ts";

/** For a writer to finish the record it is at. */
const PAUSE_MS = 50;

/** Damaged places told in full in the summary; each is told where it is met, too. */
const FAULTS_SHOWN = 20;

/** Bytes of payload on a line. */
const SHOWN_COLUMNS = 16;

/** What the command needs of it. */
export type JournalWorld = Pick<World, "state" | "openLog" | "print" | "complain" | "sleep">;

/** `binome journal inspect MODULE|FOLDER [--from N] [--to N] [--payload]` */
export async function journal(args: readonly string[], world: JournalWorld): Promise<number> {
  const given = new Arguments(args, { text: ["from", "to"], flag: ["json", "payload"] });
  const [verb = "", where = ""] = given.expect("inspect", "MODULE|FOLDER");
  if (verb !== "inspect") {
    throw usage(`Cannot understand journal ${JSON.stringify(verb)}: expected inspect`);
  }
  const from = sequenceOf(given, "from");
  const to = sequenceOf(given, "to");
  const folder = folderOf(where, world);
  const output = given.flag("json") ? asJson : asText;
  const tally = new Tally();
  const found = inspect({
    folder: world.openLog(folder),
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  });
  for (const one of found) {
    if (one.kind === "pause") await world.sleep(PAUSE_MS);
    else if (one.kind === "record") {
      const words = tally.record(one);
      for (const line of output.record(one, words, given.flag("payload"))) world.print(line);
    } else if (one.kind === "fault") {
      tally.fault(one);
      world.complain(faultLine(one));
    } else if (one.kind === "end") tally.end(one);
  }
  if (tally.segments === 0 && tally.faults === 0) {
    throw new CliError(
      EXIT.failed,
      `Cannot read a log in ${folder}: it has no file log-N.seg; give the module's name, or the folder that holds them`,
    );
  }
  for (const line of output.summary(tally)) world.print(line);
  return tally.faults === 0 ? EXIT.ok : EXIT.failed;
}

function sequenceOf(given: Arguments, name: string): number | undefined {
  const text = given.text(name);
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw usage(`Cannot understand --${name} ${text}: expected a sequence`);
  return Number(text);
}

/** A word is a module, what has a slash in it is a folder. */
function folderOf(where: string, world: JournalWorld): string {
  if (where.includes("/") || where === "." || where === "..") return where;
  if (!/^[a-z0-9][a-z0-9_-]*$/i.test(where)) {
    throw usage(
      `Cannot find module ${JSON.stringify(where)}: a folder is written with a slash, as ./${where}`,
    );
  }
  return `${world.state}/modules/${where}/log`;
}

type RecordFound = Found & { readonly kind: "record" };

/** A record in words, or why it has none. */
type Words = ReturnType<typeof recordWords> | string;

/** Counts what goes by. */
class Tally {
  segments = 0;
  dropped = 0;
  spares = 0;
  bytes = 0;
  first = 0;
  last = 0;
  records = 0;
  hollow = 0;
  faults = 0;
  torn: Fault | null = null;
  readonly faultsShown: string[] = [];
  readonly states = new Map<string, number>();
  readonly operations = new Map<number, { records: number; bytes: number; payload: number }>();
  readonly #mutation = new Mutation();

  record(found: RecordFound): Words {
    const { record } = found;
    if (this.records === 0) this.first = record.sequence;
    this.last = record.sequence;
    this.records++;
    if (record.hollow) this.hollow++;
    const of = this.operations.get(record.op) ?? { records: 0, bytes: 0, payload: 0 };
    of.records++;
    of.bytes += record.length;
    of.payload += record.payloadLength;
    this.operations.set(record.op, of);
    try {
      const words = recordWords(record, this.#mutation);
      this.states.set(words.state, (this.states.get(words.state) ?? 0) + 1);
      return words;
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      this.#note(`${found.segment} at ${found.at}: record ${record.sequence}: ${error.message}`);
      return error.message;
    }
  }

  fault(fault: Fault): void {
    if (fault.torn) this.torn = fault;
    this.#note(faultLine(fault));
  }

  end(end: Found & { readonly kind: "end" }): void {
    this.segments = end.segments;
    this.dropped = end.dropped;
    this.spares = end.spares;
    this.bytes = end.bytes;
  }

  #note(line: string): void {
    this.faults++;
    if (this.faultsShown.length < FAULTS_SHOWN) this.faultsShown.push(line);
  }
}

const WHY = {
  short: "the file ends within a record",
  magic: "no record starts there",
  length: "its lengths cannot be",
  checksum: "its checksum is wrong",
  op: "its operation is not known",
  flags: "its flags cannot be",
  state: "its state is not known",
  reserved: "reserved bytes are not zero",
  sequence: "it is of another sequence",
  "segment page": "the file's first page is damaged",
  "segment missing": "the file before it is missing",
  "segment size": "the file's length or number is not what its first page says",
  "other log": "the file belongs to another log than the one before it",
  seal: "its records do not end where its first page says",
} as const satisfies Record<Fault["reason"], string>;

function faultLine(fault: Fault): string {
  const what = fault.torn ? "torn tail" : "damaged";
  const place = fault.sequence === 0 ? "" : `, record ${fault.sequence}`;
  return `${what}: ${fault.segment} at ${fault.at}${place}: ${WHY[fault.reason]}`;
}

/** One way to print. */
interface Output {
  record(found: RecordFound, words: Words, payload: boolean): readonly string[];
  summary(tally: Tally): readonly string[];
}

function generationText(record: RecordView): string {
  return record.generation.toString(16).padStart(16, "0");
}

const asText: Output = {
  record({ record }, words, payload) {
    const state = typeof words === "string" ? "UNREADABLE" : words.state;
    const time = record.mtimeNs === 0n ? "-" : timeText(record.mtimeNs);
    const text = typeof words === "string" ? words : recordLine(words);
    const head = `${String(record.sequence).padStart(10)}  ${record.epoch}  ${generationText(record)}`;
    const line = `${head}  ${state.padEnd(9)}  ${time.padEnd(30)}  ${text}`;
    return payload ? [line, ...dump(record.payload)] : [line];
  },

  summary(tally) {
    const { segments, spares, dropped } = tally;
    const files = [
      `${segments} segments`,
      formatSize(tally.bytes),
      ...(spares > 0 ? [`${spares} made ahead`] : []),
      ...(dropped > 0 ? [`${dropped} given up by the replicator meanwhile`] : []),
    ];
    const states = [...tally.states].map(([state, count]) => `${count} ${state}`);
    const rows = [...tally.operations].sort(([a], [b]) => a - b).map((
      [op, { records, bytes, payload }],
    ) => [opName(op), String(records), String(bytes), String(payload)]);
    return [
      "",
      files.join(", "),
      tally.records === 0
        ? "no records"
        : `records ${tally.first} to ${tally.last}: ${[...states, `${tally.hollow} hollow`].join(", ")}`,
      ...(rows.length === 0 ? [] : table([["OPERATION", "RECORDS", "BYTES", "PAYLOAD"], ...rows])),
      ...(tally.torn === null ? [] : [
        "torn tail: the next start cuts the log there",
      ]),
      tally.faults === 0 ? "no damage" : `${tally.faults} damaged places, the first:`,
      ...tally.faultsShown.map((line) => `  ${line}`),
    ];
  },
};

/** Sixteen bytes a line, as `xxd` has them. */
function* dump(bytes: Uint8Array): Generator<string> {
  for (let at = 0; at < bytes.length; at += SHOWN_COLUMNS) {
    const row = bytes.subarray(at, at + SHOWN_COLUMNS);
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = Array.from(row, (byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".");
    yield `            ${at.toString(16).padStart(8, "0")}  ${hex.padEnd(47)}  ${text.join("")}`;
  }
}

const asJson: Output = {
  record({ segment, at, record }, words, payload) {
    return [JSON.stringify({
      sequence: record.sequence,
      epoch: record.epoch,
      generation: generationText(record),
      ...(typeof words === "string" ? { op: opName(record.op), unreadable: words } : words),
      mtimeNs: String(record.mtimeNs),
      hollow: record.hollow,
      payloadLength: record.payloadLength,
      segment,
      at,
      ...(payload ? { payload: record.payload.toHex() } : {}),
    })];
  },

  summary(tally) {
    const { segments, dropped, spares, bytes, records, first, last, hollow, torn } = tally;
    const operations = [...tally.operations].map(([op, counts]) => [opName(op), counts]);
    return [JSON.stringify({
      summary: {
        segments,
        dropped,
        spares,
        bytes,
        records,
        first,
        last,
        hollow,
        states: Object.fromEntries(tally.states),
        operations: Object.fromEntries(operations),
        torn,
        damaged: tally.faults,
        faults: tally.faultsShown,
      },
    })];
  },
};
