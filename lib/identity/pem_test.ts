import { assertEquals, assertThrows } from "@std/assert";
import { createAuthority } from "./certificate.ts";
import { decodePem, encodePem } from "./pem.ts";
import { X509Certificate } from "./x509.ts";

const authority = await createAuthority({ cluster: "plant", at: Date.UTC(2026, 0, 1) });

Deno.test("decodePem() and encodePem() agree with the library that makes certificates", () => {
  const der = decodePem(`text before\n${authority.certificate}\n`, "CERTIFICATE");
  assertEquals(der, new Uint8Array(new X509Certificate(authority.certificate).rawData));
  assertEquals(encodePem(der, "CERTIFICATE"), new X509Certificate(der).toString("pem"));
  assertEquals(
    encodePem(decodePem(authority.key, "PRIVATE KEY"), "PRIVATE KEY").trim(),
    authority.key.trim(),
  );
});

Deno.test("decodePem() refuses another label, and no block at all", () => {
  for (const text of ["", "certificate", authority.key]) {
    assertThrows(() => decodePem(text, "CERTIFICATE"), TypeError, "no PEM block of it");
  }
});

Deno.test("encodePem() refuses bytes that are cut anywhere, or followed by more", () => {
  const der = decodePem(authority.certificate, "CERTIFICATE");
  for (let length = 0; length < der.length; length++) {
    assertThrows(() => encodePem(der.subarray(0, length), "CERTIFICATE"), TypeError, "it is damaged");
  }
  assertThrows(() => encodePem(new Uint8Array([...der, 0]), "CERTIFICATE"), TypeError, "it is damaged");
});

Deno.test("decodePem() refuses a block that is not base64 of DER", () => {
  const block = (body: string) => `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----`;
  assertThrows(() => decodePem(block("!!!!"), "CERTIFICATE"), Error);
  assertThrows(() => decodePem(block(btoa("hello")), "CERTIFICATE"), TypeError, "it is damaged");
});
