import { assertEquals, assertThrows } from "@std/assert";
import { crc32 } from "node:zlib";
import { MemoryStream } from "../../tests/sim/data_road.ts";
import { Memory } from "../../tests/sim/memory.ts";
import { HEADER_BYTES, OFFSET, OP, type RecordFields } from "../journal/record.ts";
import { cbytes } from "./bytes.ts";
import { dataFrames, FRAME_MAX, FrameReader, kinds } from "./frame.ts";
import { creates, decodeMutation, fillFields, Mutation, MUTATIONS, SETATTR } from "./mutation.ts";
import { Wire } from "./wire.ts";

function sample(op: number): Mutation {
  const mutation = new Mutation().reset(op, 2 ** 40 + 5);
  mutation.a = 2 ** 45 + 3;
  mutation.c = 77;
  mutation.time = -1_500_000_001n;
  mutation.timeOther = 1_700_000_000_123_456_789n;
  if (creates(op)) {
    mutation.uid = 0xffff_fffe;
    mutation.gid = 0x8000_0001;
  } else mutation.b = 2 ** 33 + 1;
  if (op <= OP.rename || op === OP.setxattr || op === OP.removexattr) mutation.name = cbytes("name \u00e9");
  if (op === OP.symlink || op === OP.rename) mutation.other = cbytes("other");
  if (op === OP.rename) mutation.displaced = 2 ** 41;
  if (op === OP.setattr) mutation.name = new Uint8Array(SETATTR.bytes).fill(3);
  if (op === OP.copy) mutation.name = new Uint8Array(8).fill(1);
  return mutation;
}

/** Sends by the wire, reads by the frame reader. */
function travel(
  mutation: Mutation,
  payload: Uint8Array | null,
): { got: Mutation; reader: FrameReader; memory: Memory } {
  const memory = new Memory();
  const stream = new MemoryStream(memory);
  const fields: RecordFields = {
    op: mutation.op,
    sequence: 9,
    epoch: 2,
    generation: 3n,
    unique: 0,
    id: 0,
    a: 0,
    b: 0,
    c: 0,
  };
  fillFields(fields, mutation);
  mutation.payloadLength = payload?.length ?? 0;
  new Wire({ stream, crc32, addressOf: memory.addressOf }).record(fields, mutation, payload);
  const bytes = new Uint8Array(2 * FRAME_MAX);
  stream.grain = 7;
  const reader = new FrameReader({
    stream,
    layout: dataFrames(crc32, kinds(MUTATIONS)),
    bytes,
    address: memory.addressOf(bytes),
  });
  while (!reader.next());
  const got = new Mutation();
  decodeMutation(reader.bytes, reader.view, reader.offset, memory.addressOf(bytes), got);
  return { got, reader, memory };
}

for (const [name, op] of Object.entries(OP)) {
  Deno.test(`decodeMutation() reads a ${name} as Wire.record() sent it`, () => {
    const sent = sample(op);
    const { got } = travel(sent, null);
    assertEquals(got, sent);
  });
}

Deno.test("decodeMutation() tells where the payload lies", () => {
  const payload = Uint8Array.of(5, 6, 7);
  const { got, memory, reader } = travel(sample(OP.setxattr), payload);
  assertEquals([...memory.at(got.payloadAddress + reader.offset, got.payloadLength)], [5, 6, 7]);
});

Deno.test("decodeMutation() refuses names that are not of the operation", () => {
  const { reader } = travel(sample(OP.setattr), null);
  const { bytes, view, offset } = reader;
  bytes[offset + OFFSET.op] = OP.copy;
  assertThrows(
    () => decodeMutation(bytes, view, offset, 0, new Mutation()),
    RangeError,
    "do not fit operation",
  );
  bytes[offset + OFFSET.op] = OP.mkdir;
  bytes.fill(1, offset + HEADER_BYTES, offset + HEADER_BYTES + SETATTR.bytes);
  assertThrows(() => decodeMutation(bytes, view, offset, 0, new Mutation()), RangeError, "has no end");
});

for (const name of ["/etc/cron.d/x", "../x", "..", ".", ""]) {
  Deno.test(`decodeMutation() refuses the name "${name}"`, () => {
    for (const op of [OP.create, OP.mkdir, OP.link, OP.unlink, OP.rename]) {
      const mutation = sample(op);
      mutation.name = cbytes(name);
      assertThrows(() => travel(mutation, null), RangeError);
    }
    const mutation = sample(OP.rename);
    mutation.other = cbytes(name);
    assertThrows(() => travel(mutation, null), RangeError);
  });
}
