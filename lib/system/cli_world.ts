/** The command line's world: this machine. */
import type { World } from "../cli/world.ts";
import { openHttpsClient } from "./https.ts";
import { openLogFolder } from "./log_folder.ts";
import { openStateFiles } from "./state_files.ts";

/** A configuration is a page or two. */
const INPUT_MAX = 1024 * 1024;

/** The real {@link World}. */
export function openWorld(
  options: { readonly state: string; readonly run: string; readonly version: string },
): World {
  return {
    ...options,
    files: openStateFiles(options.state),
    ambient: ambient(),
    hostname: () => Deno.hostname(),
    addresses: () =>
      Deno.networkInterfaces().filter(({ family }) => family === "IPv4").map(({ address }) => address),
    print: (line) => writeLine(Deno.stdout, line),
    complain: (line) => writeLine(Deno.stderr, line),
    async readFile(path) {
      try {
        const { size, isFile } = await Deno.stat(path);
        if (!isFile) throw new Error("it is not a file");
        if (size > INPUT_MAX) throw new Error(`it has ${size} bytes`);
        return await Deno.readTextFile(path);
      } catch (cause) {
        const why = cause instanceof Deno.errors.NotFound
          ? "there is no such file"
          : cause instanceof Error
          ? cause.message
          : String(cause);
        throw new Error(`Cannot read ${path}: ${why}`, { cause });
      }
    },
    async readLine() {
      let text = "";
      const decoder = new TextDecoder();
      for await (const chunk of Deno.stdin.readable.values({ preventCancel: true })) {
        text += decoder.decode(chunk, { stream: true });
        if (text.includes("\n") || text.length > INPUT_MAX) break;
      }
      return text.split("\n")[0] ?? "";
    },
    openLog: openLogFolder,
    connect: openHttpsClient,
    cover: async (path) => (await import("./cover.ts")).coverDirectory(path),
    upgrade: async (upgrade) =>
      (await import("./upgrade_world.ts")).openUpgradeWorld({
        ...upgrade,
        state: options.state,
        run: options.run,
      }),
    sleep: (millis) => new Promise((resolve) => setTimeout(resolve, millis)),
  };
}

/** The real clock and chance. */
export function ambient(): World["ambient"] {
  return {
    now: () => Date.now(),
    randomBytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
  };
}

function writeLine(stream: { writeSync(bytes: Uint8Array): number }, line: string): void {
  const bytes = new TextEncoder().encode(`${harmless(line)}\n`);
  try {
    for (let at = 0; at < bytes.byteLength;) at += stream.writeSync(bytes.subarray(at));
  } catch (error) {
    // `binome events | head`: nobody reads any more
    if (error instanceof Deno.errors.BrokenPipe) Deno.exit(0);
    throw error;
  }
}

/** What services and other processes said may be in a line: nothing of it may command the terminal. */
export function harmless(line: string): string {
  // deno-lint-ignore no-control-regex
  return line.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, "\ufffd");
}
