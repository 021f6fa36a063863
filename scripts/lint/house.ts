/**
 * The house rule of the linter, `house/no-ambient-world`: clocks, chance, timers and `Deno.` are named only where the
 * program touches the world. Everywhere else they come in as parameters, so that a test can hand in its own.
 *
 * @module
 */

const TIMERS = new Set([
  "setTimeout",
  "setInterval",
  "clearTimeout",
  "clearInterval",
  "setImmediate",
]);

const MEMBERS: Readonly<Record<string, ReadonlySet<string> | "all">> = {
  Deno: "all",
  performance: "all",
  Temporal: "all",
  Date: new Set(["now"]),
  Math: new Set(["random"]),
  crypto: new Set(["getRandomValues", "randomUUID"]),
};

/** Node's modules reach the same world as `Deno.`, save those that only compute on bytes handed to them. */
const COMPUTING = new Set(["node:buffer", "node:zlib"]);

const ROOT = new URL("../../", import.meta.url).pathname;

/** Whether a file may touch the world: all but `lib`, and in `lib` the tests and `lib/system`. */
export function mayTouchWorld(path: string): boolean {
  const inside = path.startsWith(ROOT) ? path.slice(ROOT.length) : path;
  if (!inside.startsWith("lib/") || inside.startsWith("lib/system/")) return true;
  return inside.endsWith("_test.ts") || inside.endsWith("_bench.ts");
}

function hint(what: string): string {
  return `${what} is named outside lib/system: take it as a parameter (an interface of the caller's)`;
}

/** The plugin, as `deno lint` loads it. */
const plugin: Deno.lint.Plugin = {
  name: "house",
  rules: {
    "no-ambient-world": {
      create(context): Deno.lint.LintVisitor {
        if (mayTouchWorld(context.filename)) return {};
        return {
          MemberExpression(node): void {
            // `globalThis.Deno` is the same world by another road.
            const object =
              node.object.type === "MemberExpression" && node.object.object.type === "Identifier" &&
                node.object.object.name === "globalThis" && node.object.property.type === "Identifier"
                ? node.object.property.name
                : node.object.type === "Identifier"
                ? node.object.name
                : "";
            const property = node.property.type === "Identifier" ? node.property.name : "";
            const forbidden = Object.hasOwn(MEMBERS, object) ? MEMBERS[object] : undefined;
            if (forbidden === undefined) return;
            if (forbidden === "all" || node.computed || forbidden.has(property)) {
              context.report({ node, message: hint(`${object}.${property}`) });
            }
          },
          NewExpression(node): void {
            // With arguments it is a conversion; without, it reads the clock.
            if (
              node.callee.type === "Identifier" && node.callee.name === "Date" && node.arguments.length === 0
            ) {
              context.report({ node, message: hint("new Date()") });
            }
          },
          CallExpression(node): void {
            const callee = node.callee;
            const name = callee.type === "Identifier"
              ? callee.name
              : callee.type === "MemberExpression" && callee.object.type === "Identifier" &&
                  callee.object.name === "globalThis" && callee.property.type === "Identifier"
              ? callee.property.name
              : "";
            if (TIMERS.has(name)) context.report({ node, message: hint(`${name}()`) });
          },
          ImportDeclaration(node): void {
            const from = node.source.value;
            if (!from.startsWith("node:") || COMPUTING.has(from)) return;
            // Hashes and ciphers compute too; what makes keys and numbers out of nothing does not.
            const computes = from === "node:crypto" &&
              node.specifiers.every((specifier) =>
                specifier.type === "ImportSpecifier" && specifier.imported.type === "Identifier" &&
                !/^(random|generate|webcrypto)/.test(specifier.imported.name)
              );
            if (!computes) context.report({ node, message: hint(`import of ${from}`) });
          },
        };
      },
    },
  },
};
export default plugin;
