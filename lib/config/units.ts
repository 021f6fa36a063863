/** Lengths of time and sizes as a person writes them. */

const MILLIS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const BYTES = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 } as const;

/** What {@link parseDuration} takes, as a regular expression for schemas. */
export const DURATION_PATTERN: RegExp = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$/;

/** What {@link parseSize} takes, as a regular expression for schemas. */
export const SIZE_PATTERN: RegExp = /^(\d{1,9})(B|KiB|MiB|GiB|TiB)$/;

/** Milliseconds of `250ms`, `5s`, `1.5m`, `2h`, `1d`; undefined when it is none of these. */
export function parseDuration(text: string): number | undefined {
  const match = DURATION_PATTERN.exec(text);
  if (match === null) return undefined;
  return Math.round(Number(match[1]) * MILLIS[match[2] as keyof typeof MILLIS]);
}

/** Bytes of `512KiB`, `64MiB`, `2GiB`; undefined when it is none of these. */
export function parseSize(text: string): number | undefined {
  const match = SIZE_PATTERN.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * BYTES[match[2] as keyof typeof BYTES];
}

const RATE_PATTERN = /^(\d{1,9}(?:\.\d{1,3})?)([KMG])(i?)B\/s$/;
const RATE_POWER = { K: 1, M: 2, G: 3 } as const;

/** Bytes a second of `50MB/s`, `1GiB/s`; undefined when it is none of these. */
export function parseRate(text: string): number | undefined {
  const match = RATE_PATTERN.exec(text);
  if (match === null) return undefined;
  const base = match[3] === "i" ? 1024 : 1000;
  return Math.round(Number(match[1]) * base ** RATE_POWER[match[2] as keyof typeof RATE_POWER]);
}

/** `1500` → `1.5s`: the shortest form that says the same. */
export function formatDuration(millis: number): string {
  if (millis < 1000) return `${millis}ms`;
  for (const unit of ["d", "h", "m"] as const) {
    if (millis % MILLIS[unit] === 0) return `${millis / MILLIS[unit]}${unit}`;
  }
  return `${millis / 1000}s`;
}

/** `67108864` → `64 MiB`, for people: at most one decimal. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = "B";
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${unit}`;
}
