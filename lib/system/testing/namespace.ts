/**
 * Runs a script in mount and network namespaces of its own, so that a test can mount and set addresses without the
 * host noticing. What it leaves mounted goes with it.
 *
 * @module
 */

/** Why such scripts cannot run here; null: they can. */
export function namespaceObstacle(): string | null {
  if (Deno.uid() !== 0) return "needs root";
  const { success } = new Deno.Command("unshare", { args: ["--mount", "--net", "true"], stderr: "null" })
    .outputSync();
  return success ? null : "needs the right to make namespaces (unshare)";
}

/** Declares a test that is `script` run in namespaces; it fails when the script does, or takes longer than a minute. */
export function namespaceTest(name: string, script: string, scenario: string): void {
  const obstacle = namespaceObstacle();
  Deno.test({
    name: obstacle === null ? name : `${name} (skipped: ${obstacle})`,
    ignore: obstacle !== null,
    async fn() {
      const { code, text } = await runInNamespace(script, scenario);
      if (code !== 0) throw new Error(`${scenario} ended with ${code}:\n${text}`);
    },
  });
}

async function runInNamespace(script: string, scenario: string): Promise<{ code: number; text: string }> {
  const output = await new Deno.Command("timeout", {
    args: [
      ...[
        "--kill-after=1",
        "60",
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
      ],
      ...["--propagation", "private", Deno.execPath(), "run", "--quiet", "--allow-all", script, scenario],
    ],
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(output.stdout) + new TextDecoder().decode(output.stderr);
  return { code: output.code, text };
}
