/**
 * The op log, the durable activity set, the object map, and what a node knows about its own data.
 *
 * @module
 */

export * from "./activity.ts";
export * from "./cursor.ts";
export * from "./history.ts";
export * from "./inspect.ts";
export * from "./journal.ts";
export * from "./meta.ts";
export * from "./object_map.ts";
export * from "./record.ts";
export type { Cut, Recovery } from "./recovery.ts";
export {
  type Identity,
  type ScanResult,
  type Segment,
  SEGMENT_HEADER_BYTES,
  type SegmentFault,
  segmentName,
} from "./segment.ts";
export * from "./storage.ts";
export { RECENT } from "./unique_index.ts";
