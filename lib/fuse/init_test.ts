import { assertEquals, assertStringIncludes } from "@std/assert";
import { type Granted, INIT_OPTIONS, type InitOptions, negotiate, type Negotiation, WANTED } from "./init.ts";
import { INIT_IN, INIT_OUT } from "./layout.ts";
import { INIT } from "./opcode.ts";

/** Everything Linux 6.18 offers. */
const ALL = (1n << 43n) - 1n;

interface Kernel {
  readonly major: number;
  readonly minor: number;
  readonly flags: bigint;
  readonly length: number;
}

const LINUX_6_18: Kernel = { major: 7, minor: 45, flags: ALL, length: INIT_IN.sizeof };

/** Both sides stand at odd places of dirty buffers, as they do in a session. */
function ask(
  kernel: Kernel,
  options: InitOptions = INIT_OPTIONS,
): { output: DataView; negotiation: Negotiation } {
  const input = new DataView(new ArrayBuffer(128));
  input.setUint32(40 + INIT_IN.major, kernel.major, true);
  input.setUint32(40 + INIT_IN.minor, kernel.minor, true);
  input.setUint32(40 + INIT_IN.maxReadahead, 131072, true);
  input.setUint32(40 + INIT_IN.flags, Number(kernel.flags & 0xffff_ffffn), true);
  input.setUint32(40 + INIT_IN.flags2, Number(kernel.flags >> 32n), true);
  const dirty = new Uint8Array(128).fill(0xee);
  const negotiation = negotiate(input, 40, kernel.length, new DataView(dirty.buffer), 16, options);
  return { output: new DataView(dirty.buffer, 16), negotiation };
}

function granted(kernel: Kernel, options?: InitOptions): Granted {
  const { negotiation } = ask(kernel, options);
  if (negotiation.kind !== "granted") throw new Error(`was ${negotiation.kind}`);
  return negotiation.granted;
}

Deno.test("negotiate() takes from a current kernel everything we want", () => {
  const { output, negotiation } = ask(LINUX_6_18);
  assertEquals(negotiation.kind, "granted");
  assertEquals(output.getUint32(INIT_OUT.major, true), 7);
  assertEquals(output.getUint32(INIT_OUT.minor, true), 45);
  assertEquals(output.getUint32(INIT_OUT.maxReadahead, true), 131072);
  assertEquals(output.getUint32(INIT_OUT.flags, true), Number(WANTED & 0xffff_ffffn));
  assertEquals(output.getUint32(INIT_OUT.flags2, true), (1 << 4) | (1 << 7));
  assertEquals(output.getUint16(INIT_OUT.maxBackground, true), 64);
  assertEquals(output.getUint16(INIT_OUT.congestionThreshold, true), 48);
  assertEquals(output.getUint32(INIT_OUT.maxWrite, true), 1048576);
  assertEquals(output.getUint32(INIT_OUT.timeGran, true), 1);
  assertEquals(output.getUint16(INIT_OUT.maxPages, true), 256);
  assertEquals(output.getUint16(INIT_OUT.mapAlignment, true), 0);
});

Deno.test("negotiate() leaves nothing of an older message in its reply", () => {
  const { output } = ask(LINUX_6_18);
  for (let at = INIT_OUT.maxStackDepth; at < INIT_OUT.sizeof; at++) assertEquals(output.getUint8(at), 0);
  assertEquals(output.getUint8(INIT_OUT.sizeof), 0xee);
});

Deno.test("negotiate() says what was granted", () => {
  assertEquals(granted(LINUX_6_18), {
    minor: 45,
    flags: WANTED,
    resend: true,
    killpriv2: true,
    setxattrExt: true,
    posixAcl: true,
    dontMask: true,
    atomicTruncate: true,
    directMmap: true,
    writeback: false,
    tellsCloses: false,
    maxWrite: 1048576,
    maxRead: 1048576,
    requestBufferMin: 1048576 + 80,
  });
});

Deno.test("negotiate() never takes what was not offered", () => {
  for (let bit = 0n; bit < 43n; bit++) {
    const without = ALL & ~(1n << bit);
    assertEquals(granted({ ...LINUX_6_18, flags: without }).flags & (1n << bit), 0n, `bit ${bit}`);
  }
});

Deno.test("negotiate() never takes what was not wanted", () => {
  const options = { ...INIT_OPTIONS, want: ALL & ~INIT.HAS_RESEND };
  assertEquals(granted(LINUX_6_18, options).resend, false);
  assertEquals(granted(LINUX_6_18, { ...INIT_OPTIONS, want: WANTED | INIT.WRITEBACK_CACHE }).writeback, true);
});

Deno.test("negotiate() counts the upper flags only where both sides have INIT_EXT", () => {
  const offeredOnly = granted(LINUX_6_18, { ...INIT_OPTIONS, want: WANTED & ~INIT.INIT_EXT });
  assertEquals(offeredOnly.flags >> 32n, 0n);
  const wantedOnly = granted({ ...LINUX_6_18, flags: ALL & ~INIT.INIT_EXT });
  assertEquals(wantedOnly.flags >> 32n, 0n);
  assertEquals(wantedOnly.resend, false);
});

Deno.test("negotiate() reads the short INIT of kernels before 7.36 without looking behind it", () => {
  const old = granted({ major: 7, minor: 34, flags: ALL, length: INIT_IN.flags + 4 });
  assertEquals(old.flags >> 30n, 0n);
  assertEquals(old.minor, 34);
  assertEquals(old.killpriv2, true);
});

Deno.test("negotiate() keeps to 32 pages a request where MAX_PAGES is missing", () => {
  const old = granted({ ...LINUX_6_18, flags: ALL & ~INIT.MAX_PAGES });
  assertEquals(old.maxWrite, 131072);
  assertEquals(old.maxRead, 131072);
  assertEquals(old.requestBufferMin, 131072 + 80);
});

Deno.test("negotiate() counts max_pages in the kernel's pages", () => {
  const { output } = ask(LINUX_6_18, { ...INIT_OPTIONS, pageSize: 65536 });
  assertEquals(output.getUint16(INIT_OUT.maxPages, true), 16);
});

Deno.test("negotiate() asks a kernel of a newer major version to try again with ours", () => {
  const { output, negotiation } = ask({ ...LINUX_6_18, major: 8, minor: 0 });
  assertEquals(negotiation, { kind: "again", length: 64 });
  assertEquals(output.getUint32(INIT_OUT.major, true), 7);
});

Deno.test("negotiate() refuses kernels whose structures are shorter, and says which is needed", () => {
  const { negotiation } = ask({ ...LINUX_6_18, minor: 22 });
  assertEquals(negotiation.kind, "refused");
  if (negotiation.kind === "refused") {
    assertStringIncludes(negotiation.reason, "7.22, at least 7.23 is needed");
  }
});

Deno.test("negotiate() refuses an INIT that is cut", () => {
  assertEquals(ask({ ...LINUX_6_18, length: 12 }).negotiation.kind, "refused");
});
