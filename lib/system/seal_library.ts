/**
 * What a sealed stream needs of the system's OpenSSL 3: AES-256-GCM, HMAC, and memory that is wiped when freed.
 *
 * @module
 */

import { openLibrary, type Symbols } from "./libc.ts";

/** Pointers are `usize`: what is on the way of a record takes them as bigint, Deno's fast road. */
const SYMBOLS = {
  /** `int OPENSSL_init_crypto(uint64_t opts, const OPENSSL_INIT_SETTINGS *settings)` */
  OPENSSL_init_crypto: { parameters: ["u64", "usize"], result: "i32" },
  /** `void *CRYPTO_malloc(size_t num, const char *file, int line)` */
  CRYPTO_malloc: { parameters: ["usize", "usize", "i32"], result: "usize" },
  /** `void CRYPTO_clear_free(void *ptr, size_t num, const char *file, int line)` */
  CRYPTO_clear_free: { parameters: ["usize", "usize", "usize", "i32"], result: "void" },
  /** `EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void)` */
  EVP_CIPHER_CTX_new: { parameters: [], result: "usize" },
  /** `void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *ctx)`: wipes the key in it */
  EVP_CIPHER_CTX_free: { parameters: ["usize"], result: "void" },
  /** `const EVP_CIPHER *EVP_aes_256_gcm(void)` */
  EVP_aes_256_gcm: { parameters: [], result: "usize" },
  /** `int EVP_CipherInit_ex(EVP_CIPHER_CTX *, const EVP_CIPHER *, ENGINE *, const uchar *key, const uchar *iv, int enc)` */
  EVP_CipherInit_ex: { parameters: ["usize", "usize", "usize", "usize", "usize", "i32"], result: "i32" },
  /** `int EVP_CipherUpdate(EVP_CIPHER_CTX *ctx, uchar *out, int *outl, const uchar *in, int inl)` */
  EVP_CipherUpdate: { parameters: ["usize", "usize", "usize", "usize", "i32"], result: "i32" },
  /** `int EVP_CipherFinal_ex(EVP_CIPHER_CTX *ctx, uchar *out, int *outl)` */
  EVP_CipherFinal_ex: { parameters: ["usize", "usize", "usize"], result: "i32" },
  /** `int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *ctx, int type, int arg, void *ptr)` */
  EVP_CIPHER_CTX_ctrl: { parameters: ["usize", "i32", "i32", "usize"], result: "i32" },
  /** `const EVP_MD *EVP_sha384(void)` */
  EVP_sha384: { parameters: [], result: "usize" },
  /** `uchar *HMAC(const EVP_MD *, const void *key, int keylen, const uchar *d, size_t n, uchar *md, uint *mdlen)` */
  HMAC: { parameters: ["usize", "usize", "i32", "usize", "usize", "usize", "usize"], result: "usize" },
  /** `void ERR_clear_error(void)` */
  ERR_clear_error: { parameters: [], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Functions of libcrypto. */
export type SealLibrary = Symbols<typeof SYMBOLS>;

/** `OPENSSL_INIT_NO_ATEXIT` of `openssl/crypto.h`: at exit, worker threads may still use what OpenSSL would free. */
const INIT_NO_ATEXIT = 0x0008_0000n;

let loaded: SealLibrary | null = null;

/** libcrypto, loaded once per thread. A host without it never comes here: the handshake needs it before. */
export function sealLibrary(): SealLibrary {
  if (loaded !== null) return loaded;
  const library = openLibrary("libcrypto.so.3", SYMBOLS);
  library.OPENSSL_init_crypto(INIT_NO_ATEXIT, 0n);
  loaded = library;
  return library;
}
