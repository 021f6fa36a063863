/**
 * What the agent remembers: `STATE/agent.db`, by the SQLite built into the runtime.
 *
 * WAL with `synchronous=FULL`: a record that was saved is there after a power cut.
 *
 * @module
 */

import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { EventRow } from "../agent_control.ts";
import type { DurableRecord } from "../failover/types.ts";

/** Events kept; older ones are dropped in steps. */
const EVENTS_MAX = 20_000;
const SCHEMA_VERSION = 1;

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

  /** Opens or creates. A file of a later version is refused. */
  constructor(path: string) {
    this.#db = new DatabaseSync(path);
    this.#db.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=2000;");
    const version = Number(this.#db.prepare("PRAGMA user_version").get()?.["user_version"] ?? 0);
    if (version > SCHEMA_VERSION) {
      throw new Error(
        `Cannot use "${path}": it was written by a later version of binome (schema ${version})`,
      );
    }
    this.#db.exec(`${SCHEMA} PRAGMA user_version=${SCHEMA_VERSION};`);
    this.#save = this.#db.prepare(
      "INSERT INTO record (module, json) VALUES (?, ?) ON CONFLICT (module) DO UPDATE SET json = excluded.json",
    );
    this.#append = this.#db.prepare(
      "INSERT INTO event (time, node, module, epoch, level, what, why) VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    this.#trim = this.#db.prepare("DELETE FROM event WHERE id <= ?");
  }

  /** Null: the module was never seen here. */
  load(module: string): DurableRecord | null {
    const row = this.#db.prepare("SELECT json FROM record WHERE module = ?").get(module);
    if (row === undefined) return null;
    return readRecord(module, String(row["json"]));
  }

  /** Returns once it survives a power cut. */
  save(module: string, record: DurableRecord): void {
    this.#save.run(module, JSON.stringify(record));
  }

  forget(module: string): void {
    this.#db.prepare("DELETE FROM record WHERE module = ?").run(module);
  }

  append(event: Omit<EventRow, "id">): EventRow {
    const { time, node, module, epoch, level, what, why } = event;
    const { lastInsertRowid } = this.#append.run(time, node, module, epoch, level, what, why);
    const id = Number(lastInsertRowid);
    if (id % 1000 === 0) this.#trim.run(id - EVENTS_MAX);
    return { id, ...event };
  }

  /** Oldest first; `since` 0 gives the latest `limit`. */
  events(since: number, limit: number): readonly EventRow[] {
    const order = since === 0 ? "DESC" : "ASC";
    const rows = this.#db.prepare(`SELECT * FROM event WHERE id > ? ORDER BY id ${order} LIMIT ?`).all(
      since,
      limit,
    );
    const events = rows.map((row): EventRow => ({
      id: Number(row["id"]),
      time: String(row["time"]),
      node: String(row["node"]),
      module: String(row["module"]),
      epoch: Number(row["epoch"]),
      level: readLevel(row["level"]),
      what: String(row["what"]),
      why: String(row["why"]),
    }));
    return since === 0 ? events.reverse() : events;
  }

  close(): void {
    this.#db.close();
  }
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
