/**
 * The cluster's own certificate authority: made at `init`, copied to every node that joins.
 *
 * ECDSA on P-256: small, fast to sign, known to every TLS library a node or a `curl` may use.
 *
 * The library that makes certificates is loaded by what makes one: an agent that has just died is waited for, and loading
 * it would be half of that time.
 */
import { decodePem, encodePem } from "./pem.ts";
import type { Pkcs10CertificateRequest } from "./x509.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY = 86_400_000;
/** Longer than the plant: nobody must find an expired authority on a Sunday in ten years. */
const AUTHORITY_DAYS = 365 * 40;
const NODE_DAYS = 365 * 20;

/** A certificate and its private key, PEM. */
export interface Credentials {
  readonly certificate: string;
  /** PKCS #8. For files of mode 0600 only. */
  readonly key: string;
}

/** A request for a certificate, and the key that never leaves the node. */
export interface CertificateRequest {
  readonly request: string;
  readonly key: string;
}

/** What a node's certificate says. */
export interface NodeIdentity {
  readonly node: string;
  /** IPv4 addresses; the node's name and the loopback address are added. */
  readonly addresses: readonly string[];
}

/**
 * Makes the cluster's authority.
 *
 * @param options.at now, milliseconds since 1970.
 */
export async function createAuthority(options: { cluster: string; at: number }): Promise<Credentials> {
  const {
    BasicConstraintsExtension,
    cryptoProvider,
    KeyUsageFlags,
    KeyUsagesExtension,
    X509CertificateGenerator,
  } = await import("./x509.ts");
  cryptoProvider.set(crypto);
  const keys = await newKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [`Binome ${options.cluster}`] }],
    // Nodes without a battery-backed clock may be behind: a day costs nothing.
    notBefore: new Date(options.at - DAY),
    notAfter: new Date(options.at + AUTHORITY_DAYS * DAY),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    ],
  });
  return { certificate: certificate.toString("pem"), key: await privatePem(keys.privateKey) };
}

/** Makes a node's key and the request the authority signs. */
export async function createRequest(node: string): Promise<CertificateRequest> {
  const { cryptoProvider, Pkcs10CertificateRequestGenerator } = await import("./x509.ts");
  cryptoProvider.set(crypto);
  const keys = await newKeys();
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [node] }],
    keys,
    signingAlgorithm: ALGORITHM,
  });
  return { request: request.toString("pem"), key: await privatePem(keys.privateKey) };
}

/**
 * Signs a node's request. Name and addresses come from the cluster's configuration, never from the request.
 *
 * @throws {TypeError} when the request is damaged or its signature is not by its own key.
 */
export async function issueCertificate(
  authority: Credentials,
  request: string,
  options: NodeIdentity & { readonly at: number },
): Promise<string> {
  const x509 = await import("./x509.ts");
  let parsed: Pkcs10CertificateRequest;
  try {
    parsed = new x509.Pkcs10CertificateRequest(request);
  } catch (cause) {
    throw new TypeError("Cannot sign the certificate request: it is no PKCS #10 request", { cause });
  }
  if (!await parsed.verify()) {
    throw new TypeError("Cannot sign the certificate request: its signature does not match its key");
  }
  const issuer = new x509.X509Certificate(authority.certificate);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: [{ CN: [options.node] }],
    issuer: issuer.subject,
    notBefore: new Date(options.at - DAY),
    notAfter: new Date(options.at + NODE_DAYS * DAY),
    signingAlgorithm: ALGORITHM,
    publicKey: parsed.publicKey,
    signingKey: await crypto.subtle.importKey("pkcs8", keyBytes(authority.key), ALGORITHM, false, ["sign"]),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([
        { type: "dns", value: options.node },
        { type: "dns", value: "localhost" },
        ...[...new Set([...options.addresses, "127.0.0.1"])].map((value) => ({ type: "ip" as const, value })),
      ]),
    ],
  });
  return certificate.toString("pem");
}

/** DER bytes of a certificate in PEM, the shorter form for a join token. Throws when it is none. */
export function certificateBytes(pem: string): Uint8Array<ArrayBuffer> {
  return decodePem(pem, "CERTIFICATE");
}

/** PEM of a certificate in DER. Throws when it is none. */
export function certificatePem(der: Uint8Array): string {
  return encodePem(der, "CERTIFICATE");
}

/** SHA-256 of a certificate in PEM, hexadecimal: what a person compares. */
export async function fingerprint(pem: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", certificateBytes(pem));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function newKeys(): Promise<CryptoKeyPair> {
  return await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

async function privatePem(key: CryptoKey): Promise<string> {
  return encodePem(new Uint8Array(await crypto.subtle.exportKey("pkcs8", key)), "PRIVATE KEY");
}

function keyBytes(pem: string): Uint8Array<ArrayBuffer> {
  return decodePem(pem, "PRIVATE KEY");
}
