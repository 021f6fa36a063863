/**
 * One FUSE connection: each request becomes a look at the directory beneath, answered at once, or a mutation, handed to
 * the data road and answered when every member has it. This file says which; the doing is in `looks.ts`, `directories.ts`,
 * `attributes.ts`, `contents.ts` and `names.ts`, on what they share, `exchange.ts`.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import { Attributes } from "./attributes.ts";
import { Contents } from "./contents.ts";
import { Directories } from "./directories.ts";
import { ERRNO } from "./errno.ts";
import { Exchange, type ExchangeOptions } from "./exchange.ts";
import { type Granted, INIT_OPTIONS, negotiate, WRITE_BACK } from "./init.ts";
import { CREATE_IN, MKDIR_IN, MKNOD_IN, OPEN_IN, OUT_HEADER, RENAME2_IN, RENAME_IN } from "./layout.ts";
import { Looks } from "./looks.ts";
import { Names } from "./names.ts";
import { FOPEN, INIT, OPCODE } from "./opcode.ts";
import { openOut, writeOut } from "./reply.ts";

/** What {@link FuseServer} needs. */
export interface FuseServerOptions extends ExchangeOptions {
  /** Called once INIT is answered. */
  readonly onGranted: (granted: Granted) => void;
  /** False: the kernel is not asked to send again what was not answered, although it could. */
  readonly resend?: boolean;
}

/** One connection of the kernel. */
export class FuseServer {
  readonly fd: number;
  readonly root: number;
  readonly #options: FuseServerOptions;
  readonly #exchange: Exchange;
  readonly #looks: Looks;
  readonly #directories: Directories;
  readonly #attributes: Attributes;
  readonly #contents: Contents;
  readonly #names: Names;

  constructor(options: FuseServerOptions) {
    this.fd = options.fd;
    this.root = options.root;
    this.#options = options;
    const exchange = new Exchange(options);
    this.#exchange = exchange;
    this.#looks = new Looks(exchange);
    this.#directories = new Directories(exchange);
    this.#attributes = new Attributes(exchange);
    this.#contents = new Contents(exchange);
    this.#names = new Names(exchange, this.#contents);
  }

  /** Whether INIT is done. */
  get granted(): Granted | undefined {
    return this.#exchange.granted;
  }

  /** Takes away some of the temporary files that applications of a former primary left. True: there are no more. */
  sweep(): boolean {
    return this.#exchange.nameless.sweep();
  }

  /** Closes what it opened. */
  close(): void {
    this.#directories.close();
  }

  /** Serves the request in the buffer. */
  handle(): void {
    const request = this.#exchange.request;
    this.#exchange.begin();
    if (request.resent && this.#answerFromLog()) return;
    switch (request.opcode) {
      case OPCODE.WRITE:
        return this.#contents.write();
      case OPCODE.READ:
        return this.#contents.read();
      case OPCODE.LOOKUP:
        return this.#looks.lookup();
      case OPCODE.GETATTR:
        return this.#looks.getattr();
      case OPCODE.FORGET:
        return this.#looks.forget(this.#exchange.id(), request.number(0));
      case OPCODE.BATCH_FORGET:
        return this.#looks.batchForget();
      case OPCODE.CREATE:
        return this.#names.create();
      case OPCODE.TMPFILE:
        return this.#names.tmpfile();
      case OPCODE.OPEN:
        return this.#contents.open();
      case OPCODE.RELEASE:
        return this.#contents.release();
      case OPCODE.FLUSH:
        return this.#contents.flush();
      case OPCODE.FSYNC:
      case OPCODE.FSYNCDIR:
        return this.#contents.fsync();
      case OPCODE.SETATTR:
        return this.#attributes.setattr();
      case OPCODE.MKDIR:
        return this.#names.make(
          OP.mkdir,
          MKDIR_IN.sizeof,
          request.u32(MKDIR_IN.mode),
          request.u32(MKDIR_IN.umask),
          0,
        );
      case OPCODE.MKNOD:
        return this.#names.make(
          OP.mknod,
          MKNOD_IN.sizeof,
          request.u32(MKNOD_IN.mode),
          request.u32(MKNOD_IN.umask),
          request.u32(MKNOD_IN.rdev),
        );
      case OPCODE.SYMLINK:
        return this.#names.symlink();
      case OPCODE.LINK:
        return this.#names.link();
      case OPCODE.UNLINK:
        return this.#names.unlink(OP.unlink);
      case OPCODE.RMDIR:
        return this.#names.unlink(OP.rmdir);
      case OPCODE.RENAME:
        return this.#names.rename(RENAME_IN.sizeof, 0);
      case OPCODE.RENAME2:
        return this.#names.rename(RENAME2_IN.sizeof, request.u32(RENAME2_IN.flags));
      case OPCODE.READLINK:
        return this.#looks.readlink();
      case OPCODE.OPENDIR:
        return this.#directories.opendir();
      case OPCODE.READDIR:
        return this.#directories.readdir(false);
      case OPCODE.READDIRPLUS:
        return this.#directories.readdir(true);
      case OPCODE.RELEASEDIR:
        return this.#directories.releasedir();
      case OPCODE.GETXATTR:
        return this.#attributes.getxattr();
      case OPCODE.LISTXATTR:
        return this.#attributes.listxattr();
      case OPCODE.SETXATTR:
        return this.#attributes.setxattr();
      case OPCODE.REMOVEXATTR:
        return this.#attributes.removexattr();
      case OPCODE.STATFS:
        return this.#looks.statfs();
      case OPCODE.FALLOCATE:
        return this.#contents.fallocate();
      case OPCODE.LSEEK:
        return this.#contents.lseek();
      case OPCODE.COPY_FILE_RANGE:
        return this.#contents.copy();
      case OPCODE.INIT:
        return this.#init();
      // An interrupt is a wish: what it is about is nearly done. It has no reply.
      case OPCODE.INTERRUPT:
        return;
      case OPCODE.IOCTL:
        return this.#looks.ioctl();
      // ERRNO.ENOSYS makes the kernel do it itself from now on.
      default:
        return this.#exchange.fail(-ERRNO.ENOSYS);
    }
  }

  /** A request that a former process had read: when the log says it was done, it is answered, not repeated. */
  #answerFromLog(): boolean {
    const request = this.#exchange.request;
    const logged = this.#exchange.road.logged(request.unique);
    if (logged === undefined) return false;
    switch (request.opcode) {
      case OPCODE.CREATE:
      case OPCODE.MKDIR:
      case OPCODE.MKNOD:
      case OPCODE.SYMLINK:
      case OPCODE.LINK: {
        const held = this.#exchange.objects.get(logged.id);
        if (held === undefined) return this.#exchange.fail(-ERRNO.ESTALE), true;
        if (request.opcode === OPCODE.CREATE) this.#exchange.opened(held, request.u32(CREATE_IN.flags));
        this.#exchange.commitEntry(held, request.opcode === OPCODE.CREATE);
        return true;
      }
      case OPCODE.TMPFILE: {
        const held = this.#exchange.objects.get(logged.id);
        if (held === undefined) return this.#exchange.fail(-ERRNO.ESTALE), true;
        this.#exchange.opened(held, request.u32(CREATE_IN.flags));
        this.#names.commitTmpfile(held);
        return true;
      }
      case OPCODE.SETATTR: {
        const held = this.#exchange.objects.get(logged.id);
        if (held === undefined) return this.#exchange.fail(-ERRNO.ESTALE), true;
        this.#exchange.commitAttr(held);
        return true;
      }
      case OPCODE.WRITE:
        this.#contents.writtenBefore(logged.length);
        return true;
      case OPCODE.COPY_FILE_RANGE:
        this.#exchange.commit(writeOut(this.#exchange.out, OUT_HEADER.sizeof, logged.length));
        return true;
      case OPCODE.OPEN: {
        const held = this.#exchange.objects.get(logged.id);
        if (held !== undefined) this.#exchange.opened(held, request.u32(OPEN_IN.flags));
        this.#exchange.commit(openOut(this.#exchange.out, OUT_HEADER.sizeof, 0, FOPEN.KEEP_CACHE));
        return true;
      }
      case OPCODE.UNLINK:
      case OPCODE.RMDIR:
      case OPCODE.RENAME:
      case OPCODE.RENAME2:
      case OPCODE.FALLOCATE:
      case OPCODE.SETXATTR:
      case OPCODE.REMOVEXATTR:
        this.#exchange.commit(0);
        return true;
      default:
        return false;
    }
  }

  #init(): void {
    const request = this.#exchange.request;
    const options = (this.#options.durability ?? "each-write") === "each-write" ? INIT_OPTIONS : WRITE_BACK;
    const result = negotiate(
      request.view,
      request.body,
      request.end - request.body,
      this.#exchange.out,
      OUT_HEADER.sizeof,
      this.#options.resend === false ? { ...options, want: options.want & ~INIT.HAS_RESEND } : options,
    );
    if (result.kind === "refused") {
      this.#options.log(result.reason);
      return this.#exchange.fail(-ERRNO.EPROTO);
    }
    this.#exchange.ok(result.length);
    if (result.kind === "granted") {
      const granted = { ...result.granted, tellsCloses: this.#exchange.durability === "fsync" };
      this.#exchange.granted = granted;
      this.#options.onGranted(granted);
    }
  }
}
