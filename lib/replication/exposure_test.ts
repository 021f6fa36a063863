import { assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import { OP } from "../journal/record.ts";
import { S_IF } from "../system/linux.ts";
import { cbytes } from "./bytes.ts";
import { concealed, withoutRights } from "./exposure.ts";
import { Mutation, SETATTR, SETATTR_BITS } from "./mutation.ts";
import { absentState, type ObjectState } from "./object_state.ts";

const CAPABILITY = { name: cbytes("security.capability"), value: new Uint8Array(4) };
const ACL = { name: cbytes("system.posix_acl_access"), value: new Uint8Array(4) };
const DEFAULT_ACL = { name: cbytes("system.posix_acl_default"), value: new Uint8Array(4) };
const XATTRS = [CAPABILITY, ACL, DEFAULT_ACL];

function state(mode: number): ObjectState {
  return { ...absentState(20), mode, uid: 1000, gid: 100, xattrs: XATTRS };
}

function setattr(bits: number, mode: number): Mutation {
  const mutation = new Mutation().reset(OP.setattr, 20);
  mutation.a = bits;
  mutation.name = new Uint8Array(SETATTR.bytes);
  new DataView(mutation.name.buffer).setUint32(SETATTR.mode, mode, true);
  return mutation;
}

Deno.test("concealed() leaves a file to root alone, with none of the rights it will have", () => {
  const file = concealed(state(S_IF.REG | 0o4755));
  assertEquals([file.uid, file.gid, file.mode], [0, 0, S_IF.REG | 0o600]);
  assertEquals(file.xattrs, [DEFAULT_ACL]);
});

Deno.test("concealed() leaves a directory what new objects inherit", () => {
  const directory = concealed(state(S_IF.DIR | 0o3777));
  assertEquals([directory.uid, directory.gid, directory.mode], [0, 100, S_IF.DIR | 0o3700]);
  assertEquals(directory.xattrs, [DEFAULT_ACL]);
});

Deno.test("withoutRights() does the rest of a setattr, nothing where there is none", () => {
  const { mode, uid, gid, size } = SETATTR_BITS;
  assertEquals(withoutRights(setattr(mode | uid | gid, 0o4755), S_IF.REG), null);
  assertEquals(withoutRights(setattr(mode | size, 0o4755), S_IF.REG)?.a, size);
  const resize = setattr(size, 0);
  assertStrictEquals(withoutRights(resize, S_IF.REG)?.name, resize.name);
  const directory = setattr(mode | uid | gid, 0o2777);
  const left = withoutRights(directory, S_IF.DIR);
  assertNotStrictEquals(left?.name, directory.name);
  assertEquals(left?.a, mode | gid);
  assertEquals(new DataView(left?.name.buffer ?? new ArrayBuffer(40)).getUint32(0, true) & 0o7777, 0o2700);
});

Deno.test("withoutRights() holds back ACLs and capabilities, no other xattr, and nothing of a device", () => {
  const set = new Mutation().reset(OP.setxattr, 20);
  for (const { name } of [CAPABILITY, ACL]) {
    set.name = name;
    assertEquals(withoutRights(set, S_IF.REG), null);
  }
  set.name = DEFAULT_ACL.name;
  assertEquals(withoutRights(set, S_IF.DIR)?.name, DEFAULT_ACL.name);
  const device = setattr(SETATTR_BITS.mode, 0o666);
  assertStrictEquals(withoutRights(device, S_IF.CHR)?.name, device.name);
});
