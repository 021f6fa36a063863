/**
 * Where objects lie, in the words of whoever uses the mount: for people, and for the kernel.
 *
 * @module
 */

import { backing } from "../system/backing.ts";
import { descriptorPath } from "../system/descriptor_path.ts";
import type { Mount } from "./mounts.ts";
import type { Objects } from "./objects.ts";

/** A descriptor of a mount, and a file there as its kernel knows it. */
export interface KernelPlace {
  readonly fd: number;
  readonly nodeid: number;
}

/** Places of a module that is served. */
export class Places {
  readonly #objects: Objects;
  readonly #mounts: readonly Mount[];

  constructor(objects: Objects, mounts: readonly Mount[]) {
    this.#objects = objects;
    this.#mounts = mounts;
  }

  /** The path of an object; its number where it has none now. */
  pathOf(id: number): string {
    const held = this.#objects.get(id);
    const root = this.#mounts[held?.root ?? 0];
    const beneath = root === undefined ? undefined : descriptorPath(root.backing);
    const path = held === undefined ? undefined : descriptorPath(held.path);
    if (root === undefined || beneath === undefined || path?.startsWith(beneath) !== true) {
      return `object ${id} in ${root?.path ?? "an unknown directory"}`;
    }
    return root.path + path.slice(beneath.length);
  }

  /** Where the kernel has what it has of an object; the descriptor is the caller's to close. Null: it has nothing. */
  inKernel(id: number): KernelPlace | null {
    const fuse = this.#mounts[this.#objects.get(id)?.root ?? 0]?.fuse ?? null;
    // A copy: the mount's own may be closed, and its number another file's, when it is used.
    const fd = fuse === null ? -1 : backing.dup(fuse);
    return fd < 0 ? null : { fd, nodeid: id };
  }
}
