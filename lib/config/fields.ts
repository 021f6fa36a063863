/** The leaves both schemas are made of. The `error` of each is what was expected, in words. */
import { z } from "zod";
import {
  DURATION_PATTERN,
  formatDuration,
  formatSize,
  parseDuration,
  parseRate,
  parseSize,
  SIZE_PATTERN,
} from "./units.ts";

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$/;

/** An object with these keys and no other. */
export function strict<T extends z.core.$ZodLooseShape>(
  shape: T,
  expected = "a map",
): z.ZodObject<T, z.core.$strict> {
  const known = Object.keys(shape).join(", ");
  return z.strictObject(shape, {
    error: (issue) => issue.code === "unrecognized_keys" ? `one of ${known}` : expected,
  });
}

/** Name of a cluster, a node, a network. */
export function name(expected: string): z.ZodString {
  const error = `${expected}: letters, digits, "-" and ".", at most 63`;
  return z.string({ error }).regex(/^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$/, { error });
}

/** Name of a module: it names files, sockets and cgroups. */
export function moduleName(): z.ZodType<string, string> {
  const error = 'a name of lower-case letters, digits and "-", starting with a letter, at most 32';
  return z.string({ error }).regex(/^[a-z][a-z0-9-]{0,31}$/, { error })
    // RUN/keeper.sock would be taken twice
    .refine((value) => value !== "keeper" && value !== "agent", {
      error: `${error}, not "keeper" or "agent"`,
    });
}

/** An IPv4 address a host can have. */
export function address(expected = "an IPv4 address"): z.ZodString {
  const error = `${expected}, for example 10.0.0.11 (IPv6 is not supported yet)`;
  return z.string({ error }).regex(IPV4, { error });
}

/** A TCP or UDP port. */
export function port(): z.ZodInt {
  const error = "a port from 1 to 65535";
  return z.int({ error }).min(1, { error }).max(65535, { error });
}

/** A length of time between two bounds, as text; milliseconds in the value. */
export function duration(
  bounds: { readonly minMs: number; readonly maxMs: number },
): z.ZodType<number, string> {
  const error = `a time from ${formatDuration(bounds.minMs)} to ${
    formatDuration(bounds.maxMs)
  }, such as 250ms, 5s or 1m`;
  return z.string({ error }).regex(DURATION_PATTERN, { error }).transform((text, context) => {
    const millis = parseDuration(text);
    if (millis === undefined || millis < bounds.minMs || millis > bounds.maxMs) {
      context.addIssue({ code: "custom", message: error });
      return z.NEVER;
    }
    return millis;
  });
}

/** So many bytes in a second, as text; the number in the value. */
export function rate({ min }: { readonly min: number }): z.ZodType<number, string> {
  const error = "so much in a second, such as 50MB/s";
  return z.string({ error }).transform((text, context) => {
    const bytes = parseRate(text);
    if (bytes === undefined || bytes < min) {
      context.addIssue({ code: "custom", message: error });
      return z.NEVER;
    }
    return bytes;
  });
}

/** A size between two bounds, as text; bytes in the value. */
export function size(
  bounds: { readonly minBytes: number; readonly maxBytes: number },
): z.ZodType<number, string> {
  const error = `a size from ${formatSize(bounds.minBytes)} to ${
    formatSize(bounds.maxBytes)
  }, such as 64MiB or 2GiB`;
  return z.string({ error }).regex(SIZE_PATTERN, { error }).transform((text, context) => {
    const bytes = parseSize(text);
    if (bytes === undefined || bytes < bounds.minBytes || bytes > bounds.maxBytes) {
      context.addIssue({ code: "custom", message: error });
      return z.NEVER;
    }
    return bytes;
  });
}

/** An absolute path without `.`, `..`, `//` or an end in `/`; `/` itself is refused. */
export function absolutePath(expected = "an absolute path"): z.ZodType<string, string> {
  return pathOr(`${expected}: starting with "/", without "//", "." or "..", not ending in "/"`);
}

/** As {@link absolutePath}, where the whole sentence of what was expected is the caller's. */
export function pathOr(error: string): z.ZodType<string, string> {
  // deno-lint-ignore no-control-regex -- a path in a mount option or a log line must be printable
  return z.string({ error }).max(1024, { error }).regex(/^(?:\/[^/\u0000-\u001f]+)+$/, { error })
    .refine((path) => !path.split("/").some((part) => part === "." || part === ".."), { error });
}
