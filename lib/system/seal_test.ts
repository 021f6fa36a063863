import { assert, assertEquals, assertThrows } from "@std/assert";
import { createCipheriv, createHmac } from "node:crypto";
import { StreamError } from "../replication/stream.ts";
import { addressOf } from "./libc.ts";
import { Seal, SEAL_LIMITS, SEAL_OVERHEAD, SEAL_SECRET, type SealLimits } from "./seal.ts";
import { sealLibrary } from "./seal_library.ts";

// Loaded for the life of the process: the first test must not look as if it leaked it.
sealLibrary();

const SECRET = new Uint8Array(SEAL_SECRET).map((_, index) => index);

/** RFC 8446, section 7.1, by other means than ours. */
function expandLabel(secret: Uint8Array, label: string, length: number): Uint8Array {
  const name = new TextEncoder().encode(`tls13 ${label}`);
  const info = new Uint8Array([0, length, name.length, ...name, 0, 1]);
  return new Uint8Array(createHmac("sha384", secret).update(info).digest()).subarray(0, length);
}

function expectedRecord(secret: Uint8Array, number: number, data: Uint8Array): Uint8Array {
  const nonce = expandLabel(secret, "iv", 12);
  const view = new DataView(nonce.buffer, nonce.byteOffset, 12);
  view.setBigUint64(4, view.getBigUint64(4) ^ BigInt(number));
  const header = new Uint8Array(4);
  new DataView(header.buffer).setUint32(0, data.length, true);
  const cipher = createCipheriv("aes-256-gcm", expandLabel(secret, "key", 32), nonce);
  cipher.setAAD(header);
  const body = cipher.update(data);
  cipher.final();
  return new Uint8Array([...header, ...body, ...cipher.getAuthTag()]);
}

function seals(limits: SealLimits = SEAL_LIMITS) {
  const sender = new Seal({ direction: "send", secret: SECRET, limits });
  const receiver = new Seal({ direction: "receive", secret: SECRET, limits });
  return {
    sender,
    receiver,
    sealed(data: Uint8Array): Uint8Array {
      const record = new Uint8Array(data.length + SEAL_OVERHEAD);
      new DataView(record.buffer).setUint32(0, data.length, true);
      sender.seal(addressOf(record), addressOf(data), data.length);
      return record;
    },
    /** What was sealed, or null. */
    opened(record: Uint8Array): Uint8Array | null {
      const data = new Uint8Array(record.length - SEAL_OVERHEAD);
      return receiver.open(addressOf(record), addressOf(data), data.length) ? data : null;
    },
    [Symbol.dispose]() {
      sender.close();
      receiver.close();
    },
  };
}

Deno.test("Seal.seal() makes what node:crypto makes of the same key, nonce and length", () => {
  using pair = seals();
  for (const [number, length] of [1, 15, 16, 17, 4192, 65536].entries()) {
    const data = crypto.getRandomValues(new Uint8Array(length));

    const record = pair.sealed(data);

    assertEquals(record, expectedRecord(SECRET, number, data));
    assertEquals(pair.opened(record), data);
  }
});

Deno.test("Seal changes its key after so many records, at both ends at once", () => {
  using pair = seals({ ...SEAL_LIMITS, keyRecords: 3 });
  const data = new Uint8Array(100).fill(9);
  let secret: Uint8Array = SECRET;
  for (let number = 0; number < 12; number++) {
    if (number > 0 && number % 3 === 0) secret = expandLabel(secret, "traffic upd", SEAL_SECRET);

    const record = pair.sealed(data);

    assertEquals(record, expectedRecord(secret, number % 3, data));
    assertEquals(pair.opened(record), data);
  }
});

Deno.test("Seal changes its key after so many bytes, at both ends at once", () => {
  using pair = seals({ ...SEAL_LIMITS, keyBytes: 150 });
  const data = new Uint8Array(100).fill(9);
  const next = expandLabel(SECRET, "traffic upd", SEAL_SECRET);

  const records = [pair.sealed(data), pair.sealed(data), pair.sealed(data)];

  assertEquals(records[1], expectedRecord(SECRET, 1, data));
  assertEquals(records[2], expectedRecord(next, 0, data));
  assertEquals(records.map((record) => pair.opened(record)), [data, data, data]);
});

Deno.test("Seal.open() refuses a record with any byte changed", () => {
  for (let at = 0; at < 40 + SEAL_OVERHEAD; at++) {
    using pair = seals();
    const record = pair.sealed(new Uint8Array(40));
    record[at] = (record[at] ?? 0) ^ (1 << (at % 8));
    // The length as well: the caller goes by it, and it is part of what the tag vouches for.

    assertEquals(pair.opened(record), null, `byte ${at}`);
  }
});

Deno.test("Seal.open() refuses a record that comes again, or before its turn", () => {
  const data = new Uint8Array(40);
  {
    using pair = seals();
    const record = pair.sealed(data);
    assertEquals(pair.opened(record), data);
    assertEquals(pair.opened(record), null);
  }
  using pair = seals();
  pair.sealed(data);
  assertEquals(pair.opened(pair.sealed(data)), null);
});

Deno.test("Seal never seals two records alike", () => {
  using pair = seals({ ...SEAL_LIMITS, keyRecords: 4 });
  const seen = new Set(Array.from({ length: 64 }, () => pair.sealed(new Uint8Array(16)).toString()));

  assertEquals(seen.size, 64);
});

Deno.test("Seal refuses to be used once closed", () => {
  const pair = seals();
  const record = pair.sealed(new Uint8Array(10));
  pair.sender.close();
  pair.sender.close();
  pair.receiver.close();

  assertThrows(() => pair.sealed(new Uint8Array(10)), StreamError, "it is closed");
  assertThrows(() => pair.opened(record), StreamError, "it is closed");
});

Deno.test("Seal stays within what RFC 8446 allows a key of AES-GCM", () => {
  assert(SEAL_LIMITS.keyRecords <= 2 ** 24.5);
  // 2^24.5 records of 2^14 bytes.
  assert(SEAL_LIMITS.keyBytes + SEAL_LIMITS.recordMax <= 2 ** 38.5);
  assertThrows(
    () => new Seal({ direction: "send", secret: SECRET, limits: { ...SEAL_LIMITS, keyRecords: 2 ** 32 } }),
    RangeError,
  );
});
