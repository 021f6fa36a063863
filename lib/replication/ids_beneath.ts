/**
 * Ids as they stand on the objects of a directory beneath, and the map that finds the objects by them.
 *
 * @module
 */

import type { ObjectMap } from "../journal/mod.ts";
import type { Backing } from "../system/backing.ts";
import { Dirents, DT } from "../system/dirents.ts";
import type { FileHandle } from "../system/handle.ts";
import { O, S_IF } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { type Border, isLocal, serialOf, type Way } from "./border.ts";
import { printable, withoutNul } from "./bytes.ts";
import { CopyError } from "./copy.ts";
import { ownLevels } from "./own_names.ts";
import { FIRST_ID, type HandleMap, type Objects, type RootDirectory } from "./objects.ts";

/** In the type of an entry of the map, beside the root: its object stays on this node. */
const LOCAL_TYPE = 0x8000_0000;

/**
 * The object map, as {@link Objects} asks for it. Both kinds of ids are of one allocator, so each number is there once; but
 * where each node served alone for a time, the other one may have given a number to what is replicated that this one gave
 * to what is its own. Then the number is that of what is replicated.
 */
export function handleMap(map: ObjectMap): HandleMap {
  const find = (id: number) => {
    const found = map.get(serialOf(id));
    if (found === undefined) return undefined;
    return { ...found, local: (found.type & LOCAL_TYPE) !== 0 };
  };
  const taken = (id: number) => isLocal(id) && find(id)?.local === false;
  return {
    get(id: number, into: FileHandle): number | undefined {
      const found = find(id);
      if (found === undefined || found.local !== isLocal(id)) return undefined;
      into.set(found.type & 0xffff, found.bytes);
      return found.type & ~LOCAL_TYPE;
    },
    set(id: number, rootedType: number, bytes: Uint8Array): void {
      if (taken(id)) return;
      map.set(serialOf(id), isLocal(id) ? rootedType | LOCAL_TYPE : rootedType, bytes);
    },
    delete(id: number): void {
      if (find(id)?.local === isLocal(id)) map.delete(serialOf(id));
    },
    taken,
  };
}

/**
 * Builds the object map anew from the ids the objects carry. After a power cut the map may lack what the directory has.
 * Costs a look at every object, on this node alone.
 *
 * @returns how many objects were found.
 */
export function rebuildMap(backing: Backing, objects: Objects, roots: readonly RootDirectory[]): number {
  let found = 0;
  walk(backing, roots, (child, { root }) => {
    const id = objects.readId(child);
    if (id >= FIRST_ID && objects.remember(child, id, root) >= 0) found++;
  });
  return found;
}

/** No allocator of ours ever came so far: whatever counts higher is no id. */
const ID_END = 2 ** 48;

/** What {@link forgetForeignIds} needs. */
export interface Believing {
  readonly roots: readonly RootDirectory[];
  /** Lowest id that this copy never gave. */
  readonly nextId: number;
  /**
   * The copy is new, and the disk may have held one of this module before. Its ids are worth keeping, as the other node may
   * know the same objects by them; but nothing tells how far they go, nor which of this node's alone are another's by now.
   */
  readonly fresh: boolean;
}

/**
 * Takes ids away that cannot be an object's own: who edits a directory beneath may copy an object with its id, or bring one
 * from elsewhere. Two objects of one id would be one file to applications. Those without get a new one when they are looked up.
 * The same for what is excluded now and was not, or the reverse.
 *
 * @returns how many were taken away, and the lowest id above all that stay.
 * @throws when a file has names on both sides of the border.
 */
export function forgetForeignIds(
  backing: Backing,
  objects: Objects,
  { roots, nextId, fresh }: Believing,
): { readonly forgotten: number; readonly nextId: number } {
  const owners = new Map<number, number>();
  const stat = new Statx();
  const sides = new Map<string, boolean>();
  let forgotten = 0;
  let next = nextId;
  walk(backing, roots, (child, { root, local, name }) => {
    const id = objects.readId(child);
    if (backing.statx(child, stat) < 0) return;
    if (roots[root]?.border !== undefined && stat.nlink > 1 && (stat.mode & S_IF.MT) !== S_IF.DIR) {
      const side = sides.get(`${root} ${stat.ino}`);
      if (side !== undefined && side !== local) throw straddles(name);
      sides.set(`${root} ${stat.ino}`, local);
    }
    if (id < 0) return;
    const owner = owners.get(id);
    // A second name of the same object is a hard link.
    if (owner === stat.ino) return;
    const given = fresh ? !isLocal(id) && id < ID_END : serialOf(id) < nextId;
    const own = given && serialOf(id) >= FIRST_ID && isLocal(id) === local;
    if (owner === undefined && own) {
      next = Math.max(next, serialOf(id) + 1);
      owners.set(id, stat.ino);
      return;
    }
    const failed = objects.forgetId(child);
    if (failed < 0) {
      throw new Error(`Cannot take the id of another object from what was edited: errno ${-failed}`);
    }
    forgotten++;
  });
  return { forgotten, nextId: next };
}

function straddles(name: Uint8Array): Error {
  return new CopyError(
    `Cannot use what \`exclude\` says: a file has the name "${
      printable(name)
    }" and another one, of which only one is ` +
      `excluded; remove one of them (\`binome uncover\` opens the directory), or change \`exclude\``,
  );
}

interface Visited {
  readonly root: number;
  /** It stays on this node. */
  readonly local: boolean;
  readonly name: Uint8Array;
}

/** Every object beneath the roots, with each of its names. */
function walk(
  backing: Backing,
  roots: readonly RootDirectory[],
  visit: (child: number, found: Visited) => void,
): void {
  const entries = new Dirents(65536);
  interface Pending {
    readonly root: number;
    readonly fd: number;
    readonly border: Border | undefined;
    readonly way: Way;
    readonly local: boolean;
    /** Names in it, and so many levels further down, are our own; null: it is a root. */
    readonly own: number | null;
  }
  const pending: Pending[] = [];
  roots.forEach(({ fd, border }, root) =>
    pending.push({
      root,
      fd: backing.reopen(fd, O.RDONLY | O.DIRECTORY),
      border,
      way: border?.top ?? [],
      local: false,
      own: null,
    })
  );
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { root, fd, border, way, own } = next;
    while (fd >= 0 && backing.getdents(fd, entries) > 0) {
      while (entries.next()) {
        if (entries.isDot) continue;
        const { name } = entries;
        const child = backing.openat(fd, name, O.PATH | O.NOFOLLOW, 0);
        if (child < 0) continue;
        const bare = withoutNul(name);
        const local = next.local || ((own ?? 0) === 0 && border?.excludes(way, bare) === true);
        visit(child, { root, local, name });
        if (entries.type === DT.DIR) {
          pending.push({
            root,
            fd: backing.reopen(child, O.RDONLY | O.DIRECTORY),
            border,
            way: border?.below(way, bare) ?? [],
            local,
            own: own === null ? ownLevels(bare) : Math.max(0, own - 1),
          });
        }
        backing.close(child);
      }
    }
    if (fd >= 0) backing.close(fd);
  }
}
