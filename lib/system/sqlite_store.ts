/**
 * What the agent remembers: `STATE/agent.db`, by the SQLite built into the runtime.
 *
 * WAL. A record is on the disk when `save` returns (`synchronous=FULL`). An event is in the file when `append` returns, and
 * on the disk a moment later, by another thread: the loop that renews the authority must not wait for a busy disk to hold
 * what nothing depends on. A record saved after it takes it along.
 *
 * On a full disk records are saved in room set aside for them; events wait in memory, where they can be read all the same.
 *
 * @module
 */

import { DatabaseSync, type StatementSync } from "node:sqlite";
import { StoreFullError } from "../agent/seams.ts";
import type { EventRow } from "../agent_control.ts";
import type { DurableRecord } from "../failover/types.ts";
import { Reserve, withReserve } from "./reserve.ts";

/** Events kept; older ones are dropped in steps. */
const EVENTS_MAX = 20_000;
/** Events that wait for room on the disk; past it the oldest are dropped (the log has them). */
const WAITING_MAX = 1000;
/** Room set aside: what the log of the database takes before it is used anew, and more. */
const RESERVE_BYTES = 4 << 20;
const SCHEMA_VERSION = 1;
/** `sqlite3.h`. */
const SQLITE_FULL = 13;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS record (module TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, node TEXT NOT NULL, module TEXT NOT NULL,
    epoch INTEGER NOT NULL, level TEXT NOT NULL, what TEXT NOT NULL, why TEXT NOT NULL) STRICT;
`;

/** The agent's durable memory. */
export class SqliteStore {
  readonly #db: DatabaseSync;
  readonly #save: StatementSync;
  readonly #append: StatementSync;
  readonly #trim: StatementSync;
  readonly #reserve: Reserve;
  /** Oldest first, with the ids they will have. */
  #waiting: EventRow[] = [];
  #lastId: number;
  /** The write-ahead log. SQLite keeps its locks on other files: closing this descriptor frees none. */
  readonly #wal: Deno.FsFile;
  readonly #log: (line: string) => void;
  #syncing: Promise<void> | null = null;
  #unsynced = false;

  /** Opens or creates. A file of a later version is refused. */
  constructor(path: string, log: (line: string) => void, reserveBytes = RESERVE_BYTES) {
    this.#log = log;
    this.#reserve = new Reserve(`${path}.reserve`, reserveBytes);
    // Opening says no code that tells a full disk from others: whatever it was, more room does no harm.
    this.#db = withReserve(this.#reserve, () => true, () => open(path));
    this.#save = this.#db.prepare(
      "INSERT INTO record (module, json) VALUES (?, ?) ON CONFLICT (module) DO UPDATE SET json = excluded.json",
    );
    this.#append = this.#db.prepare(
      "INSERT INTO event (id, time, node, module, epoch, level, what, why) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    );
    this.#trim = this.#db.prepare("DELETE FROM event WHERE id <= ?");
    const newest = this.#db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'event'").get();
    this.#lastId = Number(newest?.["seq"] ?? 0);
    this.#wal = Deno.openSync(`${path}-wal`, { read: true });
  }

  /** Null: the module was never seen here. */
  load(module: string): DurableRecord | null {
    const row = this.#db.prepare("SELECT json FROM record WHERE module = ?").get(module);
    if (row === undefined) return null;
    return readRecord(module, String(row["json"]));
  }

  /**
   * Returns once it survives a power cut.
   *
   * @throws {StoreFullError} when the disk is full, the room set aside included.
   */
  save(module: string, record: DurableRecord): void {
    const json = JSON.stringify(record);
    try {
      withReserve(this.#reserve, isFull, () => this.#save.run(module, json));
    } catch (error) {
      if (!isFull(error)) throw error;
      throw new StoreFullError(`Cannot write the record of "${module}": no space left on the device`, {
        cause: error,
      });
    }
  }

  forget(module: string): void {
    this.#db.prepare("DELETE FROM record WHERE module = ?").run(module);
  }

  /** Returns once it survives the death of this process; a power cut soon after may take it. */
  append(event: Omit<EventRow, "id">): EventRow {
    const row = { id: ++this.#lastId, ...event };
    this.#waiting.push(row);
    if (this.#waiting.length > WAITING_MAX) this.#waiting.shift();
    this.#write();
    return row;
  }

  /** Oldest first; `since` 0 gives the latest `limit`. */
  events(since: number, limit: number): readonly EventRow[] {
    const order = since === 0 ? "DESC" : "ASC";
    const rows = this.#db.prepare(`SELECT * FROM event WHERE id > ? ORDER BY id ${order} LIMIT ?`).all(
      since,
      limit,
    );
    const written = rows.map((row): EventRow => ({
      id: Number(row["id"]),
      time: String(row["time"]),
      node: String(row["node"]),
      module: String(row["module"]),
      epoch: Number(row["epoch"]),
      level: readLevel(row["level"]),
      what: String(row["what"]),
      why: String(row["why"]),
    }));
    const waiting = this.#waiting.filter(({ id }) => id > since);
    if (since === 0) return [...written.reverse(), ...waiting].slice(-limit);
    return [...written, ...waiting].slice(0, limit);
  }

  async close(): Promise<void> {
    await this.#syncing;
    this.#wal.close();
    this.#db.close();
  }

  /** Writes the events that wait, as far as there is room. */
  #write(): void {
    this.#db.exec("PRAGMA synchronous=NORMAL");
    try {
      for (let row = this.#waiting[0]; row !== undefined; row = this.#waiting[0]) {
        const { id, time, node, module, epoch, level, what, why } = row;
        this.#append.run(id, time, node, module, epoch, level, what, why);
        this.#waiting.shift();
        if (id % 1000 === 0) this.#trim.run(id - EVENTS_MAX);
      }
    } catch (error) {
      // Room set aside is for what decisions depend on.
      if (!isFull(error)) throw error;
      return;
    } finally {
      this.#db.exec("PRAGMA synchronous=FULL");
      this.#unsynced = true;
      this.#syncing ??= this.#sync().finally(() => this.#syncing = null);
    }
    this.#reserve.take();
  }

  async #sync(): Promise<void> {
    while (this.#unsynced) {
      this.#unsynced = false;
      try {
        await this.#wal.syncData();
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        this.#log(`events: the last ones may not survive a power cut: ${why}`);
      }
    }
  }
}

function open(path: string): DatabaseSync {
  const db = new DatabaseSync(path);
  try {
    db.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=2000;");
    const version = Number(db.prepare("PRAGMA user_version").get()?.["user_version"] ?? 0);
    if (version > SCHEMA_VERSION) {
      throw new Error(
        `Cannot use "${path}": it was written by a later version of binome (schema ${version})`,
      );
    }
    // Not at each start: that would be a write, and a full disk must not keep an agent from starting.
    if (version < SCHEMA_VERSION) db.exec(`${SCHEMA} PRAGMA user_version=${SCHEMA_VERSION};`);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function isFull(error: unknown): boolean {
  const code = error instanceof Error && "errcode" in error ? Number(error.errcode) : 0;
  return (code & 0xff) === SQLITE_FULL;
}

function readRecord(module: string, json: string): DurableRecord {
  const value: unknown = JSON.parse(json);
  const complete = typeof value === "object" && value !== null && "epoch" in value && "promised" in value &&
    "copy" in value && "bootId" in value;
  // A guess here could serve a copy that is behind.
  if (!complete) throw new Error(`Cannot read what is known of module "${module}": its record is damaged`);
  return value as DurableRecord;
}

function readLevel(value: unknown): EventRow["level"] {
  return value === "warning" || value === "error" ? value : "info";
}
