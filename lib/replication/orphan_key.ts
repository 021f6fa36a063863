/** The keeper holds an orphan's descriptor under this and its id. */
export const ORPHAN_PREFIX = "orphan-";

/** The key of one orphan. */
export function orphanKey(id: number): string {
  return `${ORPHAN_PREFIX}${id}`;
}
