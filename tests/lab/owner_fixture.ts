// Brings a lab up and never takes it down: for the test that kills its owner.
import { Lab } from "./lab.ts";

await Lab.up({ prefix: Deno.args[0] ?? "" });
Deno.stdout.writeSync(new TextEncoder().encode("up\n"));
await new Promise((resolve) => setTimeout(resolve, 60_000));
