/**
 * The names that a directory beneath has.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { O } from "../system/linux.ts";
import { refusal } from "./content_target.ts";
import { nameKey, OWN_NAMES } from "./limbo.ts";
import { FIRST_ID, type Held, type Objects } from "./objects.ts";

/** Each name, by its key and with its entry in hand; the node's own are left out, in a root and where `exclude` says so. Throws `ApplyError` when the disk refuses. */
export function* namesIn(
  backing: Backing,
  objects: Objects,
  held: Held,
): Generator<{ key: string; ino: number; name: Uint8Array }> {
  const entries = new Dirents(32768);
  const fd = backing.reopen(held.path, O.RDONLY | O.DIRECTORY);
  if (fd < 0) throw refusal("list", held.id, fd);
  try {
    for (;;) {
      const got = backing.getdents(fd, entries);
      if (got < 0) throw refusal("list", held.id, got);
      if (got === 0) return;
      while (entries.next()) {
        if (entries.isDot) continue;
        const { name, ino } = entries;
        const key = nameKey(name);
        if (held.id < FIRST_ID && OWN_NAMES.includes(key)) continue;
        if (objects.excludes(held, name)) continue;
        yield { key, ino, name };
      }
    }
  } finally {
    backing.close(fd);
  }
}

/** Those that are not among `names`. */
export function namesBut(
  backing: Backing,
  objects: Objects,
  held: Held,
  names: ReadonlySet<string>,
): Uint8Array[] {
  const others: Uint8Array[] = [];
  for (const { key, name } of namesIn(backing, objects, held)) if (!names.has(key)) others.push(name.slice());
  return others;
}
