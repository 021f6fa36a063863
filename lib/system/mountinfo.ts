/**
 * `/proc/PID/mountinfo` as values (proc(5)), and what can be told from it. Knows no files.
 *
 * @module
 */

/** One mount. */
export interface Mount {
  readonly id: number;
  readonly parent: number;
  /** Device of the file system, `8:1`. */
  readonly device: string;
  /** What of the file system is mounted: `/` or a path within it. */
  readonly root: string;
  readonly point: string;
  /** Of this mount alone, not of the file system. */
  readonly readOnly: boolean;
  /** It shows other owners than the file system has (`MOUNT_ATTR_IDMAP`, mount_setattr(2)). */
  readonly idmapped: boolean;
  readonly type: string;
  readonly source: string;
}

/** The mounts of one namespace, in the kernel's order: of two on one point, the later covers the earlier. */
export function parseMountinfo(text: string): Mount[] {
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const [before = "", after = ""] = line.split(" - ");
    const [id, parent, device = "", root = "", point = "", options = ""] = before.split(" ");
    const [type = "", source = ""] = after.split(" ");
    const flags = options.split(",");
    return {
      id: Number(id),
      parent: Number(parent),
      device,
      root: unescape(root),
      point: unescape(point),
      readOnly: flags.includes("ro"),
      idmapped: flags.includes("idmapped"),
      type,
      source: unescape(source),
    };
  });
}

/** Space, tab, newline and backslash are written in octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}

/** Whether `path` is `folder` or lies beneath it. */
export function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === "/" ? "/" : `${folder}/`);
}

/** The mounts on exactly this point, top first: each one's parent is the next. */
export function layers(mounts: readonly Mount[], point: string): Mount[] {
  const here = mounts.filter((mount) => mount.point === point);
  const covered = new Set(here.map((mount) => mount.parent));
  const stack: Mount[] = [];
  let top = here.find((mount) => !covered.has(mount.id));
  while (top !== undefined) {
    stack.push(top);
    const { parent } = top;
    top = here.find((mount) => mount.id === parent);
  }
  return stack;
}

/** The mount that shows `path`, when the mounts on top of `path` itself (`skip` of them) are taken away. */
export function mountBeneath(mounts: readonly Mount[], path: string, skip: number): Mount | undefined {
  const own = layers(mounts, path)[skip];
  if (own !== undefined) return own;
  const above = mounts.filter((mount) => mount.point !== path && isWithin(path, mount.point));
  const point = above.reduce((longest, { point }) => point.length > longest.length ? point : longest, "");
  return layers(above, point)[0];
}

/** Where a path of this namespace stands within its file system. */
export function pathInFileSystem(mount: Mount, path: string): string {
  const rest = path.slice(mount.point === "/" ? 0 : mount.point.length);
  return rest === "" ? mount.root : `${mount.root === "/" ? "" : mount.root}${rest}`;
}

/**
 * How many mounts on top of `path` are ours: a FUSE mount of ours, a read-only cover (the same place of the same file
 * system as what is beneath it), or one upon the other.
 */
export function ownLayers(mounts: readonly Mount[], path: string, fuseType: string): OwnLayers {
  const stack = layers(mounts, path);
  let count = 0;
  let fuse = stack[count]?.type === fuseType ? stack[count++] : undefined;
  // A mount whose keeper and replicator both died may lie beneath the next one.
  const dead: Mount[] = [];
  for (let next = stack[count]; fuse !== undefined && next?.type === fuseType; next = stack[++count]) {
    dead.push(next);
  }
  const cover = stack[count];
  if (cover !== undefined && isCover(mounts, cover, path, count)) {
    return { fuse, dead, cover, count: count + 1 };
  }
  fuse ??= undefined;
  return { fuse, dead, cover: undefined, count };
}

/** What of ours lies on a directory. */
export interface OwnLayers {
  readonly fuse: Mount | undefined;
  /** FUSE mounts beneath {@link OwnLayers.fuse}. */
  readonly dead: readonly Mount[];
  readonly cover: Mount | undefined;
  /** How many mounts these are. */
  readonly count: number;
}

function isCover(mounts: readonly Mount[], mount: Mount, path: string, index: number): boolean {
  const beneath = mountBeneath(mounts, path, index + 1);
  return mount.readOnly && beneath !== undefined && beneath.device === mount.device &&
    pathInFileSystem(beneath, path) === mount.root;
}
