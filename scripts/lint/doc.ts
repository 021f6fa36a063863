/**
 * `deno doc --lint` over every `lib/**\/mod.ts`, held to the rule of the house: each export has a doc comment and a
 * written type. Two of its complaints are for published packages and are left out: a field of an interface without a
 * comment of its own, and a type that another module (or package) exports.
 *
 * @module
 */

/** The complaints that count, of what `deno doc --lint` printed. */
export function complaints(output: string): string[] {
  return output.split(/^(?=error\[)/m).filter((block) => block.startsWith("error[")).filter((block) => {
    if (block.startsWith("error[private-type-ref]")) return false;
    // An export stands at the margin; a field does not.
    return !block.startsWith("error[missing-jsdoc]") || /-->\s.*:\d+:1\n/.test(block);
  });
}

function* modules(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* modules(path);
    else if (entry.name === "mod.ts") yield path;
  }
}

function say(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}

/** Status 0 when every export is documented. */
async function main(): Promise<number> {
  const files = [...modules("lib")].sort();
  if (files.length === 0) return 0;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--lint", "--quiet", ...files],
    env: { NO_COLOR: "1" },
    stdout: "null",
    stderr: "piped",
  }).output();
  const output = new TextDecoder().decode(stderr);
  const found = complaints(output);
  for (const block of found) say(`${block.trimEnd()}\n\n`);
  if (found.length > 0) say(`doc: ${found.length} exports without a doc comment or a written type\n`);
  // It failed, yet complained of nothing: a file it cannot read, say.
  const failed = code !== 0 && !output.includes("error[");
  if (failed) say(output);
  return found.length > 0 || failed ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main());
