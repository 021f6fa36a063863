/**
 * TLS 1.3 between the nodes of a cluster, by the system's OpenSSL: both sides show a certificate of the cluster's CA,
 * and the name in it must be the expected node's.
 *
 * TLS carries the handshake and the hellos, non-blocking on the main thread. When the connection is given to a worker,
 * both ends derive secrets from the TLS session and go on as a sealed stream (`sealed_stream.ts`), which costs less
 * (`scripts/bench-ffi`).
 *
 * @module
 */

import { AuthenticationError } from "../replication/network.ts";
import { StreamError, type StreamHandle } from "../replication/stream.ts";
import { cstring, errno } from "./libc.ts";
import { SealSecrets } from "./seal.ts";
import { closeSocket, setSocketOptions, shutdownSocket, socketReason } from "./socket.ts";
import { takeTlsErrors, type TlsLibrary, tlsLibrary, tlsText } from "./tls_library.ts";

export { TlsMissingError } from "./tls_library.ts";

/** `openssl/ssl.h` */
const SSL = {
  errorWantRead: 2,
  errorWantWrite: 3,
  errorSyscall: 5,
  errorZeroReturn: 6,
  ctrlMode: 33,
  ctrlSessionCacheMode: 44,
  ctrlMinProtocol: 123,
  ctrlMaxProtocol: 124,
  modeMovingWriteBuffer: 2n,
  modeAutoRetry: 4n,
  noCompression: 1n << 17n,
  noRenegotiation: 1n << 30n,
  version13: 0x0304n,
  verifyPeer: 1,
  verifyFailIfNone: 2,
  filetypePem: 1,
} as const;
const NID_COMMON_NAME = 13;
const X509_V_OK = 0n;

/** Exporter labels of our own (RFC 5705, section 4), by who sends under the secret. */
const EXPORTER = {
  client: "EXPERIMENTAL-binome-sealed-client",
  server: "EXPERIMENTAL-binome-sealed-server",
} as const;
type Side = keyof typeof EXPORTER;

/** Paths of PEM files: the cluster's CA, this node's certificate and its key. */
export interface TlsFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** What both directions of a connection share: certificates and rules. Main thread; close it when done. */
export class TlsContext {
  readonly #library: TlsLibrary;
  #context: bigint;

  /** Throws `TlsMissingError`, or an error naming the file that cannot be used. */
  constructor(files: TlsFiles) {
    this.#library = tlsLibrary();
    const { ssl } = this.#library;
    this.#context = ssl.SSL_CTX_new(ssl.TLS_method());
    if (this.#context === 0n) throw new Error(`Cannot prepare TLS: ${this.#reason()}`);
    try {
      this.#setRules();
      this.#load(files);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** A connection over a connected, non-blocking socket, which it owns from now on, even when this throws. */
  connection(fd: number, side: Side): TlsConnection {
    const { ssl } = this.#library;
    const object = this.#context === 0n ? 0n : ssl.SSL_new(this.#context);
    if (object === 0n || ssl.SSL_set_fd(object, fd) !== 1) {
      if (object !== 0n) ssl.SSL_free(object);
      closeSocket(fd);
      throw new Error(`Cannot start TLS: ${this.#reason()}`);
    }
    if (side === "server") ssl.SSL_set_accept_state(object);
    else ssl.SSL_set_connect_state(object);
    return new TlsConnection({ library: this.#library, ssl: object, fd, side });
  }

  /** Connections made before live on. */
  close(): void {
    if (this.#context !== 0n) this.#library.ssl.SSL_CTX_free(this.#context);
    this.#context = 0n;
  }

  #setRules(): void {
    const { ssl } = this.#library;
    const context = this.#context;
    ssl.SSL_CTX_ctrl(context, SSL.ctrlMinProtocol, SSL.version13, 0n);
    ssl.SSL_CTX_ctrl(context, SSL.ctrlMaxProtocol, SSL.version13, 0n);
    ssl.SSL_CTX_ctrl(context, SSL.ctrlMode, SSL.modeAutoRetry | SSL.modeMovingWriteBuffer, 0n);
    ssl.SSL_CTX_ctrl(context, SSL.ctrlSessionCacheMode, 0n, 0n);
    // No read-ahead: what follows the last TLS record belongs to the sealed stream.
    ssl.SSL_CTX_set_options(context, SSL.noCompression | SSL.noRenegotiation);
    ssl.SSL_CTX_set_verify(context, SSL.verifyPeer | SSL.verifyFailIfNone, 0n);
    // A ticket would be written by the server after the handshake, where the client no longer reads TLS.
    ssl.SSL_CTX_set_num_tickets(context, 0n);
    if (
      ssl.SSL_CTX_set_ciphersuites(context, cstring("TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256")) !== 1
    ) {
      throw new Error(`Cannot prepare TLS: AES-GCM is not available: ${this.#reason()}`);
    }
  }

  #load(files: TlsFiles): void {
    const { ssl } = this.#library;
    const context = this.#context;
    this.#need("the cluster's CA", files.ca, ssl.SSL_CTX_load_verify_file(context, cstring(files.ca)));
    this.#need(
      "this node's certificate",
      files.certificate,
      ssl.SSL_CTX_use_certificate_chain_file(context, cstring(files.certificate)),
    );
    this.#need(
      "this node's key",
      files.key,
      ssl.SSL_CTX_use_PrivateKey_file(context, cstring(files.key), SSL.filetypePem),
    );
    this.#need(`the pair of ${files.certificate} and`, files.key, ssl.SSL_CTX_check_private_key(context));
  }

  #need(what: string, path: string, result: number): void {
    if (result === 1) return;
    throw new Error(
      `Cannot use ${what} "${path}": ${this.#reason()}; it is written by "binome init" or "binome join"`,
    );
  }

  #reason(): string {
    return takeTlsErrors(this.#library)[0] ?? "OpenSSL gives no reason";
  }
}

/** What a non-blocking call needs before it can go on: the socket readable, or writable. */
export type Want = "read" | "write";

/** A TLS connection on the main thread: never blocks. */
export class TlsConnection {
  readonly fd: number;
  readonly #library: TlsLibrary;
  readonly #side: Side;
  #ssl: bigint;

  /** @internal made by {@link TlsContext.connection} */
  constructor(
    { library, ssl, fd, side }: {
      readonly library: TlsLibrary;
      readonly ssl: bigint;
      readonly fd: number;
      readonly side: Side;
    },
  ) {
    this.#library = library;
    this.#side = side;
    this.#ssl = ssl;
    this.fd = fd;
  }

  /** One step: null when the handshake is done. Throws {@link AuthenticationError} or {@link StreamError}. */
  handshakeStep(): Want | null {
    const { ssl } = this.#library;
    const result = ssl.SSL_do_handshake(this.#ssl);
    if (result === 1) return null;
    return this.#want(result, "shake hands");
  }

  /** The common name in the certificate the peer has proved to own. After the handshake. */
  peerName(): string {
    const { ssl, crypto } = this.#library;
    const certificate = ssl.SSL_get1_peer_certificate(this.#ssl);
    if (certificate === 0n) {
      throw new AuthenticationError("Cannot accept the peer: it has shown no certificate");
    }
    try {
      const text = new Uint8Array(256);
      const name = crypto.X509_get_subject_name(certificate);
      const length = crypto.X509_NAME_get_text_by_NID(name, NID_COMMON_NAME, text, text.length);
      const end = text.indexOf(0);
      // A NUL within the name would make C and us read two different names.
      if (length <= 0 || length !== end) {
        throw new AuthenticationError("Cannot accept the peer: its certificate carries no node name");
      }
      return new TextDecoder().decode(text.subarray(0, end));
    } finally {
      crypto.X509_free(certificate);
    }
  }

  /** `"TLSv1.3 TLS_AES_256_GCM_SHA384"` */
  cipher(): string {
    const { ssl } = this.#library;
    const name = tlsText(ssl.SSL_CIPHER_get_name(ssl.SSL_get_current_cipher(this.#ssl)));
    return `${tlsText(ssl.SSL_get_version(this.#ssl))} ${name}`;
  }

  /** Bytes read (at least 1), what to wait for, or 0 at the end of the stream. */
  read(address: number, max: number): number | Want {
    const got = this.#library.ssl.SSL_read(this.#ssl, BigInt(address), max);
    if (got > 0) return got;
    if (this.#library.ssl.SSL_get_error(this.#ssl, got) === SSL.errorZeroReturn) return 0;
    return this.#want(got, "read");
  }

  /** Bytes written, or what to wait for: then call again with the same bytes. */
  write(address: number, length: number): number | Want {
    const sent = this.#library.ssl.SSL_write(this.#ssl, BigInt(address), length);
    return sent > 0 ? sent : this.#want(sent, "write");
  }

  /**
   * Gives the connection away as a sealed stream: only the new owner may touch the socket from here, and TLS is over on
   * it. Throws {@link StreamError}, and keeps the connection, when the peer has sent more under TLS than was read.
   */
  describe(label: string): StreamHandle {
    const { ssl } = this.#library;
    if (ssl.SSL_has_pending(this.#ssl) !== 0) {
      throw new StreamError(
        "protocol",
        `Cannot go on with ${label}: it has sent more than its hello under TLS`,
      );
    }
    const secrets = this.#export();
    // Frees TLS's own keys. Says nothing to the peer: an alert would stand where it expects a sealed record.
    ssl.SSL_free(this.#ssl);
    this.#ssl = 0n;
    return { kind: "sealed", fd: this.fd, secrets: secrets.address, label };
  }

  /** One secret per direction. The peer derives the same, the other way round. */
  #export(): SealSecrets {
    const secrets = SealSecrets.allocate();
    const other = this.#side === "client" ? "server" : "client";
    try {
      this.#exportTo(secrets.send, EXPORTER[this.#side]);
      this.#exportTo(secrets.receive, EXPORTER[other]);
      return secrets;
    } catch (error) {
      secrets.free();
      throw error;
    }
  }

  #exportTo(bytes: Uint8Array<ArrayBuffer>, label: string): void {
    const text = cstring(label);
    // TLS 1.3 makes no difference between no context and an empty one (RFC 8446, section 7.5).
    const done = this.#library.ssl.SSL_export_keying_material(
      this.#ssl,
      bytes,
      BigInt(bytes.length),
      text,
      BigInt(text.length - 1),
      0n,
      0n,
      0,
    );
    if (done === 1) return;
    const reason = takeTlsErrors(this.#library).at(-1) ?? "OpenSSL gives no reason";
    throw new StreamError("system", `Cannot derive keys of the TLS session: ${reason}`);
  }

  /** Tells the peer if that goes without waiting, and frees everything. A second call does nothing. */
  close(): void {
    if (this.#ssl === 0n) return;
    end(this.#library, this.#ssl, this.fd);
    this.#ssl = 0n;
  }

  #want(result: number, action: string): Want {
    const code = errno();
    const kind = this.#library.ssl.SSL_get_error(this.#ssl, result);
    if (kind === SSL.errorWantRead) return "read";
    if (kind === SSL.errorWantWrite) return "write";
    throw failure({ library: this.#library, ssl: this.#ssl, kind, code, action: `${action} under TLS` });
  }
}

interface Failed {
  readonly library: TlsLibrary;
  readonly ssl: bigint;
  /** What `SSL_get_error` said. */
  readonly kind: number;
  /** `errno` right after the call. */
  readonly code: number;
  readonly action: string;
}

/** Words of OpenSSL that mean "the certificate", not "the line". */
const AUTHENTICATION = /certificate|unknown ca|bad signature|decrypt error|access denied/;

function failure({ library, ssl, kind, code, action }: Failed): Error {
  const reason = takeTlsErrors(library).at(-1) ?? null;
  if (kind === SSL.errorZeroReturn) {
    return new StreamError("closed", `Cannot ${action}: the peer has closed the connection`);
  }
  if (kind === SSL.errorSyscall) {
    // Without errno the line ended in the middle of what TLS expected.
    const words = code === 0 ? "the peer went away" : socketReason(code);
    return new StreamError("closed", `Cannot ${action}: ${words}`);
  }
  if (reason === "unexpected eof while reading") {
    return new StreamError("closed", `Cannot ${action}: the peer went away`);
  }
  if (reason !== null && AUTHENTICATION.test(reason)) {
    return new AuthenticationError(authentication(library, ssl, reason));
  }
  const hint = reason === "wrong version number" || reason === "http request"
    ? "; is encryption set alike on both nodes, and does a Binome replicator use that port?"
    : "";
  return new StreamError("protocol", `Cannot ${action}: ${reason ?? `SSL error ${kind}`}${hint}`);
}

function authentication(library: TlsLibrary, ssl: bigint, reason: string): string {
  const result = library.ssl.SSL_get_verify_result(ssl);
  const advice = 'are both nodes of one cluster? "binome join" gives a node the cluster\'s certificates';
  if (reason === "certificate verify failed" && result !== X509_V_OK) {
    const why = tlsText(library.crypto.X509_verify_cert_error_string(result));
    return `Cannot accept the peer's certificate: ${why}; ${advice}`;
  }
  return `Cannot pass as a node of the cluster: ${reason}; ${advice}`;
}

/** Says good-bye without ever waiting for it, then frees. */
function end(library: TlsLibrary, ssl: bigint, fd: number): void {
  setSocketOptions(fd, { sendTimeoutMs: 1 });
  library.ssl.SSL_shutdown(ssl);
  library.crypto.ERR_clear_error();
  library.ssl.SSL_free(ssl);
  shutdownSocket(fd);
  closeSocket(fd);
}
