/** What the command line touches, handed in: a test gives its own. */
import type { Ambient, StateFiles } from "../identity/mod.ts";
import type { LogFolder } from "../journal/inspect.ts";
import type { HttpsClient } from "../system/https.ts";
import type { UpgradeWorld } from "../upgrade/upgrade.ts";

/** The world of one command. */
export interface World {
  /** Absolute path of the state directory. */
  readonly state: string;
  readonly version: string;
  readonly files: StateFiles;
  readonly ambient: Ambient;
  hostname(): string;
  /** IPv4 addresses of this machine. */
  addresses(): readonly string[];
  /** One line on standard output. */
  print(line: string): void;
  /** One line on standard error. */
  complain(line: string): void;
  /** A file the person named. */
  readFile(path: string): Promise<string>;
  /** The first line of standard input, without its end. */
  readLine(): Promise<string>;
  /** A folder of log segments, for reading only. */
  openLog(folder: string): LogFolder;
  connect(authority: string): HttpsClient;
  /**
   * Makes a directory read-only for everybody. False: it is.
   *
   * @throws {Error} whose message is the whole sentence.
   */
  cover(path: string): Promise<boolean>;
  /** What an upgrade touches; loaded for that alone. */
  upgrade(options: UpgradeOptions): Promise<UpgradeWorld>;
  /** Milliseconds. */
  sleep(millis: number): Promise<void>;
}

/** How an upgrade speaks, and to whom. */
export interface UpgradeOptions {
  /** The installed program; found by what runs when left out. */
  readonly program: string | undefined;
  readonly say: (line: string) => void;
  readonly agentAnswers: () => Promise<boolean>;
}

/** Exit codes; `status -q` has its own, see {@link QUIET_STATUS}. */
export const EXIT = { ok: 0, failed: 1, usage: 2, noAgent: 3 } as const;

/** Exit codes of `binome status -q MODULE`; errors are 10 higher than elsewhere, so that no code means two things. */
export const QUIET_STATUS = { stopped: 0, waiting: 1, alone: 2, primary: 3, secondary: 4 } as const;
/** See {@link QUIET_STATUS}. */
export const QUIET_ERROR = 10;

/** A command that cannot be done. `message` is the whole sentence. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exit: number;

  constructor(exit: number, message: string, cause?: unknown) {
    super(message, { cause });
    this.exit = exit;
  }
}

/** A command written wrongly. */
export function usage(message: string): CliError {
  return new CliError(EXIT.usage, message);
}
