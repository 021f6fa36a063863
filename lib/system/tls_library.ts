/**
 * OpenSSL 3 of the system, loaded when first needed: a cluster without encryption does without it.
 *
 * @module
 */

import { openLibrary } from "./libc.ts";

/** Pointers are `usize`: plain numbers cross threads, and C never gives one out that we must not keep. */
const SSL_SYMBOLS = {
  /** `int OPENSSL_init_ssl(uint64_t opts, const OPENSSL_INIT_SETTINGS *settings)` */
  OPENSSL_init_ssl: { parameters: ["u64", "usize"], result: "i32" },
  /** `const SSL_METHOD *TLS_method(void)` */
  TLS_method: { parameters: [], result: "usize" },
  /** `SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)` */
  SSL_CTX_new: { parameters: ["usize"], result: "usize" },
  /** `void SSL_CTX_free(SSL_CTX *ctx)` */
  SSL_CTX_free: { parameters: ["usize"], result: "void" },
  /** `long SSL_CTX_ctrl(SSL_CTX *ctx, int cmd, long larg, void *parg)` */
  SSL_CTX_ctrl: { parameters: ["usize", "i32", "i64", "usize"], result: "i64" },
  /** `uint64_t SSL_CTX_set_options(SSL_CTX *ctx, uint64_t options)` */
  SSL_CTX_set_options: { parameters: ["usize", "u64"], result: "u64" },
  /** `int SSL_CTX_set_ciphersuites(SSL_CTX *ctx, const char *str)` */
  SSL_CTX_set_ciphersuites: { parameters: ["usize", "buffer"], result: "i32" },
  /** `int SSL_CTX_set_num_tickets(SSL_CTX *ctx, size_t num_tickets)` */
  SSL_CTX_set_num_tickets: { parameters: ["usize", "usize"], result: "i32" },
  /** `void SSL_CTX_set_verify(SSL_CTX *ctx, int mode, SSL_verify_cb callback)` */
  SSL_CTX_set_verify: { parameters: ["usize", "i32", "usize"], result: "void" },
  /** `int SSL_CTX_load_verify_file(SSL_CTX *ctx, const char *CAfile)` */
  SSL_CTX_load_verify_file: { parameters: ["usize", "buffer"], result: "i32" },
  /** `int SSL_CTX_use_certificate_chain_file(SSL_CTX *ctx, const char *file)` */
  SSL_CTX_use_certificate_chain_file: { parameters: ["usize", "buffer"], result: "i32" },
  /** `int SSL_CTX_use_PrivateKey_file(SSL_CTX *ctx, const char *file, int type)` */
  SSL_CTX_use_PrivateKey_file: { parameters: ["usize", "buffer", "i32"], result: "i32" },
  /** `int SSL_CTX_check_private_key(const SSL_CTX *ctx)` */
  SSL_CTX_check_private_key: { parameters: ["usize"], result: "i32" },
  /** `SSL *SSL_new(SSL_CTX *ctx)` */
  SSL_new: { parameters: ["usize"], result: "usize" },
  /** `void SSL_free(SSL *ssl)` */
  SSL_free: { parameters: ["usize"], result: "void" },
  /** `int SSL_set_fd(SSL *ssl, int fd)` */
  SSL_set_fd: { parameters: ["usize", "i32"], result: "i32" },
  /** `void SSL_set_accept_state(SSL *ssl)` */
  SSL_set_accept_state: { parameters: ["usize"], result: "void" },
  /** `void SSL_set_connect_state(SSL *ssl)` */
  SSL_set_connect_state: { parameters: ["usize"], result: "void" },
  /** `int SSL_do_handshake(SSL *ssl)` */
  SSL_do_handshake: { parameters: ["usize"], result: "i32" },
  /** `int SSL_get_error(const SSL *ssl, int ret)` */
  SSL_get_error: { parameters: ["usize", "i32"], result: "i32" },
  /** `int SSL_read(SSL *ssl, void *buf, int num)` */
  SSL_read: { parameters: ["usize", "usize", "i32"], result: "i32" },
  /** `int SSL_write(SSL *ssl, const void *buf, int num)` */
  SSL_write: { parameters: ["usize", "usize", "i32"], result: "i32" },
  /** `int SSL_has_pending(const SSL *ssl)` */
  SSL_has_pending: { parameters: ["usize"], result: "i32" },
  /** `int SSL_export_keying_material(SSL *, uchar *out, size_t, const char *label, size_t, const uchar *context, size_t, int)` */
  SSL_export_keying_material: {
    parameters: ["usize", "buffer", "usize", "buffer", "usize", "usize", "usize", "i32"],
    result: "i32",
  },
  /** `int SSL_shutdown(SSL *ssl)` */
  SSL_shutdown: { parameters: ["usize"], result: "i32" },
  /** `long SSL_get_verify_result(const SSL *ssl)` */
  SSL_get_verify_result: { parameters: ["usize"], result: "i64" },
  /** `X509 *SSL_get1_peer_certificate(const SSL *ssl)` */
  SSL_get1_peer_certificate: { parameters: ["usize"], result: "usize" },
  /** `const char *SSL_get_version(const SSL *ssl)` */
  SSL_get_version: { parameters: ["usize"], result: "pointer" },
  /** `const SSL_CIPHER *SSL_get_current_cipher(const SSL *ssl)` */
  SSL_get_current_cipher: { parameters: ["usize"], result: "usize" },
  /** `const char *SSL_CIPHER_get_name(const SSL_CIPHER *cipher)` */
  SSL_CIPHER_get_name: { parameters: ["usize"], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

const CRYPTO_SYMBOLS = {
  /** `unsigned long ERR_get_error(void)` */
  ERR_get_error: { parameters: [], result: "u64" },
  /** `void ERR_clear_error(void)` */
  ERR_clear_error: { parameters: [], result: "void" },
  /** `void ERR_error_string_n(unsigned long e, char *buf, size_t len)` */
  ERR_error_string_n: { parameters: ["u64", "buffer", "usize"], result: "void" },
  /** `const char *X509_verify_cert_error_string(long n)` */
  X509_verify_cert_error_string: { parameters: ["i64"], result: "pointer" },
  /** `X509_NAME *X509_get_subject_name(const X509 *x)` */
  X509_get_subject_name: { parameters: ["usize"], result: "usize" },
  /** `int X509_NAME_get_text_by_NID(X509_NAME *name, int nid, char *buf, int len)` */
  X509_NAME_get_text_by_NID: { parameters: ["usize", "i32", "buffer", "i32"], result: "i32" },
  /** `void X509_free(X509 *a)` */
  X509_free: { parameters: ["usize"], result: "void" },
  /** `const char *OpenSSL_version(int t)` */
  OpenSSL_version: { parameters: ["i32"], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

/** `void (*signal(int signum, void (*handler)(int)))(int)` */
const SIGNAL_SYMBOLS = { signal: { parameters: ["i32", "usize"], result: "usize" } } as const;

/** Functions of libssl, and of libcrypto beneath it. */
export interface TlsLibrary {
  readonly ssl: Deno.DynamicLibrary<typeof SSL_SYMBOLS>["symbols"];
  readonly crypto: Deno.DynamicLibrary<typeof CRYPTO_SYMBOLS>["symbols"];
}

/** `OPENSSL_INIT_NO_ATEXIT` of `openssl/crypto.h` */
const INIT_NO_ATEXIT = 0x0008_0000n;
const SIGPIPE = 13;
const SIG_IGN = 1n;

/** libssl.so.3 is not on this host. */
export class TlsMissingError extends Error {
  override readonly name = "TlsMissingError";
}

/** File names as the loader of shared libraries knows them. */
export interface TlsNames {
  readonly ssl: string;
  readonly crypto: string;
}

const NAMES: TlsNames = { ssl: "libssl.so.3", crypto: "libcrypto.so.3" };

let loaded: TlsLibrary | null = null;

/** OpenSSL, loaded once per thread. Throws {@link TlsMissingError}. */
export function tlsLibrary(names: TlsNames = NAMES): TlsLibrary {
  if (loaded !== null && names === NAMES) return loaded;
  const library = openBoth(names);
  // OpenSSL's exit handler frees what worker threads still use: at exit the kernel frees everything anyway.
  library.ssl.OPENSSL_init_ssl(INIT_NO_ATEXIT, 0n);
  // SSL_write writes without MSG_NOSIGNAL: a peer that went away must be an error, never the end of this process.
  openLibrary("libc.so.6", SIGNAL_SYMBOLS).signal(SIGPIPE, SIG_IGN);
  loaded = library;
  return library;
}

function openBoth(names: TlsNames): TlsLibrary {
  try {
    return { ssl: openLibrary(names.ssl, SSL_SYMBOLS), crypto: openLibrary(names.crypto, CRYPTO_SYMBOLS) };
  } catch (cause) {
    throw new TlsMissingError(
      `Cannot encrypt the replication channel: OpenSSL 3 (${names.ssl}) is not usable on this host; install the ` +
        'package libssl3, or set "encryption: off" for the module if its network is private',
      { cause },
    );
  }
}

const decoder = new TextDecoder();

/**
 * This thread's error queue in words, emptied: first where it went wrong ("No such file or directory"), last what that
 * meant ("certificate verify failed").
 */
export function takeTlsErrors({ crypto }: TlsLibrary): readonly string[] {
  const reasons: string[] = [];
  // OpenSSL keeps at most 16 entries (ERR_NUM_ERRORS).
  for (let code = crypto.ERR_get_error(); code !== 0n && reasons.length < 16; code = crypto.ERR_get_error()) {
    const text = new Uint8Array(256);
    crypto.ERR_error_string_n(code, text, BigInt(text.length));
    // "error:0A000086:SSL routines::certificate verify failed": the reason is what comes last.
    const whole = decoder.decode(text.subarray(0, text.indexOf(0)));
    reasons.push(whole.split(":").at(-1) ?? whole);
  }
  return reasons;
}

/** A C string OpenSSL owns. */
export function tlsText(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : Deno.UnsafePointerView.getCString(pointer);
}
