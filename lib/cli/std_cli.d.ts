/** The one function of `@std/cli` used: the npm package carries no types. */
export function parseArgs(
  args: readonly string[],
  options: {
    readonly string?: readonly string[];
    readonly boolean?: readonly string[];
    readonly collect?: readonly string[];
    readonly alias?: Readonly<Record<string, string>>;
    readonly unknown?: (arg: string, key?: string) => unknown;
  },
): { readonly _: readonly (string | number)[] } & Readonly<Record<string, unknown>>;
