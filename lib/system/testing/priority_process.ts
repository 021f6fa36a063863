/** A process that raises itself, starts two others, and prints everybody's nice value: a test must not keep its own. */
import { atOrdinaryPriority, raisePriority } from "../priority.ts";
import { ownEnvironment, reap, spawn } from "../process.ts";

const [output = ""] = Deno.args;

/** Field 19 of proc(5)'s stat. */
function niceOf(path: string): number {
  const stat = Deno.readTextFileSync(`${path}/stat`);
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16]);
}

async function run(start: <T>(work: () => T) => T): Promise<void> {
  const pid = start(() => spawn({ argv: ["nice"], environment: ownEnvironment(), output, directory: "/" }));
  for (let tries = 0; reap(pid) === null; tries++) {
    if (tries > 5000) throw new Error("nice(1) does not end");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

const warnings = raisePriority();
const threads = [...Deno.readDirSync("/proc/self/task")].map(({ name }) => niceOf(`/proc/self/task/${name}`));
await run((start) => start());
await run(atOrdinaryPriority);
const said = { warnings, threads: [...new Set(threads)], after: niceOf("/proc/self") };
Deno.writeTextFileSync(output, JSON.stringify(said), { append: true });
