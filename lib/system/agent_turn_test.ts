import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { AgentTurn, endAgent } from "./agent_turn.ts";
import { startTime } from "./process.ts";

const never = new AbortController().signal;
const stopped = AbortSignal.abort();

/** A process that has the turn of `run` until it ends; it ends by SIGTERM. */
class Other implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
  }

  static async serve(run: string): Promise<Other> {
    const script = 'echo "$$ $(cut -d" " -f22 /proc/$$/stat)" >"$1"; echo ready; exec sleep 600';
    const args = [`${run}/agent.turn`, "sh", "-c", script, "sh", `${run}/agent.turn`];
    const child = new Deno.Command("flock", { args: ["-F", ...args], stdout: "piped" }).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    return new Other(child);
  }

  get alive(): boolean {
    return startTime(this.#child.pid) !== null;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.alive) this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}

async function inRun(work: (run: string) => Promise<void>): Promise<void> {
  const run = await Deno.makeTempDir();
  await work(run);
  await Deno.remove(run, { recursive: true });
}

Deno.test("AgentTurn.take() gives a free turn at once and names its holder", async () => {
  await inRun(async (run) => {
    const turn = await AgentTurn.announce({ run, spareOf: null });
    assertEquals(await turn.take(never), { late: false });
    const holder = `${Deno.pid} ${startTime(Deno.pid)}\n`;
    assertEquals(await Deno.readTextFile(`${run}/agent.turn`), holder);
    assertEquals(await Deno.readTextFile(`${run}/agent.unit`), holder);
    await turn.close();
  });
});

Deno.test("AgentTurn.take() gives the turn when who has it is killed", async () => {
  await inRun(async (run) => {
    await using other = await Other.serve(run);
    const spare = await AgentTurn.announce({ run, spareOf: Deno.ppid });
    const taken = spare.take(never);
    await other.kill();
    assertEquals(await taken, { late: true });
    await spare.close();
  });
});

Deno.test("AgentTurn.take() gives up where the agent that started this spare is gone and another serves", async () => {
  await inRun(async (run) => {
    await using other = await Other.serve(run);
    const spare = await AgentTurn.announce({ run, spareOf: 1 + Deno.ppid, parentMs: 1 });
    assertEquals(await spare.take(never), null);
    assertEquals(other.alive, true);
    await other.kill();
    await spare.close();
  });
});

Deno.test("AgentTurn.take() leaves what serves alone when a spare is told to stop", async () => {
  await inRun(async (run) => {
    await using other = await Other.serve(run);
    const spare = await AgentTurn.announce({ run, spareOf: Deno.ppid });
    assertEquals(await spare.take(stopped), null);
    assertEquals(other.alive, true);
    await other.kill();
    await spare.close();
  });
});

Deno.test("AgentTurn.take() ends what serves when the supervisor's process is told to stop", async () => {
  await inRun(async (run) => {
    await using other = await Other.serve(run);
    const unit = await AgentTurn.announce({ run, spareOf: null });
    assertEquals(await unit.take(stopped), null);
    assertEquals(other.alive, false);
    await unit.close();
  });
});

Deno.test("AgentTurn.announce() refuses a second process beside the supervisor's", async () => {
  await inRun(async (run) => {
    const first = await AgentTurn.announce({ run, spareOf: null });
    const error = await assertRejects(() => AgentTurn.announce({ run, spareOf: null, unitMs: 10 }), Error);
    assertMatch(
      error.message,
      new RegExp(`^Cannot start the agent: process ${Deno.pid} is the agent of .* already; stop it first`),
    );
    await first.close();
    await (await AgentTurn.announce({ run, spareOf: null })).close();
  });
});

Deno.test("endAgent() ends what serves, and is content where nothing does", async () => {
  await inRun(async (run) => {
    await endAgent(run);
    await using other = await Other.serve(run);
    await endAgent(run);
    assertEquals(other.alive, false);
  });
});
