/**
 * PEM (RFC 7468): base64 of DER between two marks. What only carries a certificate needs no more than this; the library
 * that understands one takes as long to load as the rest of the agent.
 */
/** Characters of a line; RFC 7468 wants 64. */
const LINE = 64;
/** Tag of the SEQUENCE that every certificate and key is. */
const SEQUENCE = 0x30;

/** What a block holds. */
export type PemLabel = "CERTIFICATE" | "PRIVATE KEY";

/**
 * The bytes of the first block of this label.
 *
 * @throws {TypeError} when there is none, or what it holds is cut or no DER.
 */
export function decodePem(text: string, label: PemLabel): Uint8Array<ArrayBuffer> {
  const [, body] = new RegExp(`-----BEGIN ${label}-----([^-]*)-----END ${label}-----`).exec(text) ?? [];
  if (body === undefined) throw new TypeError(`Cannot read the ${label.toLowerCase()}: no PEM block of it`);
  const der = Uint8Array.from(atob(body.replace(/\s+/g, "")), (char) => char.charCodeAt(0));
  checkDer(der, label);
  return der;
}

/**
 * A block of this label.
 *
 * @throws {TypeError} when the bytes are cut or no DER.
 */
export function encodePem(der: Uint8Array, label: PemLabel): string {
  checkDer(der, label);
  let binary = "";
  for (const byte of der) binary += String.fromCharCode(byte);
  const lines = btoa(binary).match(new RegExp(`.{1,${LINE}}`, "g")) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`].join("\n");
}

/** One SEQUENCE that is as long as it says. */
function checkDer(der: Uint8Array, label: PemLabel): void {
  const [tag, first = 0] = der;
  const more = first < 0x80 ? 0 : first - 0x80;
  const length = more === 0 ? first : der.slice(2, 2 + more).reduce((sum, byte) => sum * 256 + byte, 0);
  if (tag !== SEQUENCE || more > 3 || der.length !== 2 + more + length) {
    throw new TypeError(`Cannot read the ${label.toLowerCase()}: it is damaged`);
  }
}
