/**
 * Certificates of a make-believe cluster, for tests.
 *
 * @module
 */

import * as x509 from "../../identity/x509.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 86_400_000;

/** Where the PEM files of one node are. */
export interface CertificateFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** Writes a CA and one certificate for each name below `directory`. Validity is around now. */
export async function writeCertificates(
  directory: string,
  names: readonly string[],
): Promise<ReadonlyMap<string, CertificateFiles>> {
  const validity = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + DAY_MS) };
  const caKeys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: "CN=test cluster",
    keys: caKeys,
    signingAlgorithm: ALGORITHM,
    ...validity,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  });
  const caPath = `${directory}/ca.crt`;
  await Deno.writeTextFile(caPath, ca.toString("pem"));
  const files = new Map<string, CertificateFiles>();
  for (const [index, name] of names.entries()) {
    const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: `1${index}`,
      subject: `CN=${name}`,
      issuer: ca.subject,
      publicKey: keys.publicKey,
      signingKey: caKeys.privateKey,
      signingAlgorithm: ALGORITHM,
      ...validity,
    });
    const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
    const paths = { ca: caPath, certificate: `${directory}/${name}.crt`, key: `${directory}/${name}.key` };
    await Deno.writeTextFile(paths.certificate, certificate.toString("pem"));
    await Deno.writeTextFile(paths.key, x509.PemConverter.encode(key, "PRIVATE KEY"));
    files.set(name, paths);
  }
  return files;
}
