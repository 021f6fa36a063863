/**
 * One direction of a sealed stream: numbered records under AES-256-GCM. The argument is in `lib/replication/DESIGN.md`.
 *
 * | offset | size | field      | meaning                                                             |
 * | -----: | ---: | ---------- | ------------------------------------------------------------------- |
 * |      0 |    4 | length     | of the ciphertext, little-endian, 1 to `recordMax`; associated data |
 * |      4 |    n | ciphertext |                                                                     |
 * |  4 + n |   16 | tag        |                                                                     |
 *
 * The nonce is the base XOR the record's number under its key, as in RFC 8446, section 5.3. Key, base and the secret
 * that follows come from the secret as in sections 7.2 and 7.3. Both ends count, so nobody says when keys change.
 *
 * @module
 */

import { StreamError } from "../replication/stream.ts";
import { addressOf, lastingAddress, memoryAt } from "./libc.ts";
import { type SealLibrary, sealLibrary } from "./seal_library.ts";

/** Bytes before the ciphertext, and after it. */
export const SEAL_HEADER = 4;
/** Bytes of the tag. */
export const SEAL_TAG = 16;
/** What a record is longer than its data. */
export const SEAL_OVERHEAD: number = SEAL_HEADER + SEAL_TAG;
/** Bytes of the secret of one direction: as long as SHA-384's output. */
export const SEAL_SECRET = 48;

/** Both ends must have the same: they decide where a record ends and a key begins. */
export interface SealLimits {
  /** Bytes of data in one record. */
  readonly recordMax: number;
  /** Records under one key; below 2^32, so that half of the counter is all of it. */
  readonly keyRecords: number;
  /** Bytes of data under one key; a record may begin below it. */
  readonly keyBytes: number;
}

/**
 * RFC 8446, section 5.5 allows AES-GCM 2^24.5 full TLS records under one key: 2^38.5 bytes. 64 GiB (2^36) stays below
 * that whatever the size of records. Records of 64 KiB (`scripts/bench-ffi`): 16 KiB costs more where much is written at
 * once, and 256 KiB spares little and makes the reader wait for all of it.
 */
export const SEAL_LIMITS: SealLimits = { recordMax: 64 * 1024, keyRecords: 2 ** 22, keyBytes: 2 ** 36 };

/** `openssl/evp.h`: `EVP_CTRL_AEAD_GET_TAG`, `EVP_CTRL_AEAD_SET_TAG` */
const GET_TAG = 0x10;
const SET_TAG = 0x11;

/** Where things stand in a seal's own memory. */
const CELL = { secret: 0, derived: 48, base: 96, nonce: 112, count: 128, sizeof: 132 } as const;
const KEY = 32;
const NONCE = 12;

/** What is given to HMAC, where C finds it. */
interface Info {
  readonly address: bigint;
  readonly length: bigint;
}

/** `HkdfLabel` of RFC 8446, section 7.1 with an empty context, and the block number of HKDF-Expand: one block does. */
function hkdfLabel(label: string, length: number): Info {
  const text = new TextEncoder().encode(`tls13 ${label}`);
  const bytes = new Uint8Array([length >> 8, length & 0xff, text.length, ...text, 0, 1]);
  return { address: lastingAddress(bytes), length: BigInt(bytes.length) };
}

const LABEL_KEY = hkdfLabel("key", KEY);
const LABEL_BASE = hkdfLabel("iv", NONCE);
const LABEL_NEXT = hkdfLabel("traffic upd", SEAL_SECRET);

/**
 * An address as C takes it. At the ends of a record there are four, and from one record to the next most stay: to make
 * them anew costs as much as the calls they are for.
 */
class Address {
  #number = 0;
  #bigint = 0n;

  of(address: number): bigint {
    if (address !== this.#number) {
      this.#number = address;
      this.#bigint = BigInt(address);
    }
    return this.#bigint;
  }
}

/** What a seal is made of. */
export interface SealOptions {
  readonly direction: "send" | "receive";
  /** {@link SEAL_SECRET} bytes, copied; the caller wipes its own. */
  readonly secret: Uint8Array;
  readonly limits: SealLimits;
}

/** Seals the records of one direction, or opens them. One thread. */
export class Seal {
  readonly #c: SealLibrary = sealLibrary();
  readonly #cell: Uint8Array<ArrayBuffer> = new Uint8Array(CELL.sizeof);
  readonly #view: DataView<ArrayBuffer> = new DataView(this.#cell.buffer);
  readonly #address: number = addressOf(this.#cell);
  readonly #nonce: bigint = BigInt(this.#address + CELL.nonce);
  readonly #count: bigint = BigInt(this.#address + CELL.count);
  readonly #record: Address = new Address();
  readonly #body: Address = new Address();
  readonly #tag: Address = new Address();
  readonly #data: Address = new Address();
  readonly #encrypts: 0 | 1;
  readonly #keyRecords: number;
  readonly #keyBytes: number;
  #context: bigint;
  /** The last 32 bits of the base, which a record's number changes. */
  #baseLow = 0;
  #records = 0;
  #bytes = 0;

  constructor({ direction, secret, limits }: SealOptions) {
    if (secret.length !== SEAL_SECRET || limits.keyRecords >= 2 ** 32) {
      throw new RangeError(
        `Cannot make a seal: the secret has ${secret.length} bytes, keys are for ${limits.keyRecords} records`,
      );
    }
    this.#encrypts = direction === "send" ? 1 : 0;
    this.#keyRecords = limits.keyRecords;
    this.#keyBytes = limits.keyBytes;
    this.#cell.set(secret, CELL.secret);
    this.#context = this.#c.EVP_CIPHER_CTX_new();
    if (this.#context === 0n) throw this.#broken("no memory");
    this.#useSecret();
  }

  /**
   * Seals `length` bytes at `data` into the record at `record`, where the length stands already; the rest of the record
   * is written.
   */
  seal(record: number, data: number, length: number): void {
    const c = this.#c;
    const context = this.#begin();
    const body = record + SEAL_HEADER;
    const count = this.#count;
    if (
      c.EVP_CipherUpdate(context, 0n, count, this.#record.of(record), SEAL_HEADER) !== 1 ||
      c.EVP_CipherUpdate(context, this.#body.of(body), count, this.#data.of(data), length) !== 1 ||
      // GCM has nothing left to write; it must have a place all the same.
      c.EVP_CipherFinal_ex(context, this.#nonce, count) !== 1 ||
      c.EVP_CIPHER_CTX_ctrl(context, GET_TAG, SEAL_TAG, this.#tag.of(body + length)) !== 1
    ) {
      throw this.#broken("a record could not be sealed");
    }
    this.#counted(length);
  }

  /** Opens the record at `record` to `data`: false when it is not what the peer sealed at this place. */
  open(record: number, data: number, length: number): boolean {
    const c = this.#c;
    const context = this.#begin();
    const body = record + SEAL_HEADER;
    const count = this.#count;
    if (
      c.EVP_CIPHER_CTX_ctrl(context, SET_TAG, SEAL_TAG, this.#tag.of(body + length)) !== 1 ||
      c.EVP_CipherUpdate(context, 0n, count, this.#record.of(record), SEAL_HEADER) !== 1 ||
      c.EVP_CipherUpdate(context, this.#data.of(data), count, this.#body.of(body), length) !== 1
    ) {
      throw this.#broken("a record could not be opened");
    }
    if (c.EVP_CipherFinal_ex(context, this.#nonce, count) !== 1) {
      c.ERR_clear_error();
      return false;
    }
    this.#counted(length);
    return true;
  }

  /** Wipes secret and key. A second call does nothing. */
  close(): void {
    this.#cell.fill(0);
    this.#baseLow = 0;
    if (this.#context !== 0n) this.#c.EVP_CIPHER_CTX_free(this.#context);
    this.#context = 0n;
  }

  /** The next record's nonce into the cipher, after a new key where one is due. */
  #begin(): bigint {
    if (this.#context === 0n) throw new StreamError("closed", "Cannot use a seal: it is closed");
    if (this.#records >= this.#keyRecords || this.#bytes >= this.#keyBytes) this.#ratchet();
    this.#view.setUint32(CELL.nonce + NONCE - 4, (this.#baseLow ^ this.#records) >>> 0);
    if (this.#c.EVP_CipherInit_ex(this.#context, 0n, 0n, 0n, this.#nonce, this.#encrypts) !== 1) {
      throw this.#broken("a nonce was not taken");
    }
    return this.#context;
  }

  #counted(length: number): void {
    this.#records++;
    this.#bytes += length;
  }

  /** The next secret takes the place of this one, which nothing leads back to. */
  #ratchet(): void {
    this.#derive(LABEL_NEXT);
    this.#cell.copyWithin(CELL.secret, CELL.derived, CELL.derived + SEAL_SECRET);
    this.#useSecret();
  }

  #useSecret(): void {
    const key = this.#derive(LABEL_KEY);
    const c = this.#c;
    if (c.EVP_CipherInit_ex(this.#context, c.EVP_aes_256_gcm(), 0n, key, 0n, this.#encrypts) !== 1) {
      throw this.#broken("AES-256-GCM is not available");
    }
    this.#derive(LABEL_BASE);
    this.#cell.copyWithin(CELL.base, CELL.derived, CELL.derived + NONCE);
    this.#cell.copyWithin(CELL.nonce, CELL.base, CELL.base + NONCE);
    this.#baseLow = this.#view.getUint32(CELL.base + NONCE - 4);
    this.#cell.fill(0, CELL.derived, CELL.derived + SEAL_SECRET);
    this.#records = this.#bytes = 0;
  }

  /** HKDF-Expand-Label of the secret, in the place for what is derived; answers its address. */
  #derive(info: Info): bigint {
    const c = this.#c;
    const derived = BigInt(this.#address + CELL.derived);
    const secret = BigInt(this.#address + CELL.secret);
    const hash = c.EVP_sha384();
    const done = c.HMAC(hash, secret, SEAL_SECRET, info.address, info.length, derived, this.#count);
    if (done === 0n) throw this.#broken("HMAC-SHA-384 is not available");
    return derived;
  }

  #broken(reason: string): StreamError {
    this.close();
    this.#c.ERR_clear_error();
    return new StreamError("system", `Cannot encrypt the replication channel: OpenSSL: ${reason}`);
  }
}

/**
 * Memory outside V8's heap for the two secrets of a stream on its way to the thread that will own it: first of what is
 * sent, then of what is received.
 */
export class SealSecrets {
  /** What a handle carries. */
  readonly address: number;

  private constructor(address: number) {
    this.address = address;
  }

  /** New memory; its content is whatever was there. */
  static allocate(): SealSecrets {
    const address = Number(sealLibrary().CRYPTO_malloc(BigInt(2 * SEAL_SECRET), 0n, 0));
    if (address === 0) throw new StreamError("system", "Cannot encrypt the replication channel: no memory");
    return new SealSecrets(address);
  }

  /** What another thread allocated, and gave away. */
  static at(address: number): SealSecrets {
    return new SealSecrets(address);
  }

  get send(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(memoryAt(this.address, SEAL_SECRET));
  }

  get receive(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(memoryAt(this.address + SEAL_SECRET, SEAL_SECRET));
  }

  /** Wipes and frees it: once, by whoever owns it. */
  free(): void {
    sealLibrary().CRYPTO_clear_free(BigInt(this.address), BigInt(2 * SEAL_SECRET), 0n, 0);
  }
}
