"""A client of the file system: changes files at random, in every way there is, until it is killed.

    churn.py FOLDER SEED RECEIPTS [--pause-ms 5]
    churn.py FOLDER --check RECEIPTS

Beside it keeps receipts, files of their own: written, synced, directory synced, and only then noted in the file RECEIPTS,
which lies outside the replicated directory and outlives a power cut of this host. `keep N` is a promise that receipt N
is there with its content, `drop N` (noted before the removal) ends it. --check reads the notes and names what is missing.
"""

import argparse
import errno
import hashlib
import os
import random
import sys
import time

RECEIPTS_MAX = 200
FILES_MAX = 60
SIZE_MAX = 200_000


def content(number):
    """What receipt `number` holds: 64 bytes to about 20 KiB, told by the number alone."""
    block = hashlib.sha256(b"receipt %d" % number).hexdigest().encode()
    return block * (1 + number * 37 % 320)


class Notes:
    """The file RECEIPTS: one system call a line, so that a line is there or not."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def add(self, word, number):
        os.write(self.fd, b"%s %d\n" % (word.encode(), number))


def read_notes(path):
    """The receipts that are promised, and the highest number ever noted."""
    kept, last = set(), 0
    if os.path.exists(path):
        with open(path, encoding="ascii") as file:
            for line in file:
                word, number = line.split()
                (kept.add if word == "keep" else kept.discard)(int(number))
                last = max(last, int(number))
    return kept, last


def receipt(folder, number):
    path = os.path.join(folder, "receipt-%d" % number)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        os.write(fd, content(number))
        os.fsync(fd)
    finally:
        os.close(fd)
    # The name is durable once its directory is.
    top = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(top)
    finally:
        os.close(top)


def create(chance, path, other):
    with open(path, "wb") as file:
        file.write(chance.randbytes(chance.randrange(SIZE_MAX)))


def overwrite(chance, path, other):
    with open(path, "r+b") as file:
        file.seek(chance.randrange(SIZE_MAX))
        file.write(chance.randbytes(chance.randrange(1, 20_000)))
        if chance.random() < 0.2:
            os.fsync(file.fileno())


def allocate(chance, path, other):
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), chance.randrange(SIZE_MAX), 8192)


def mark(chance, path, other):
    name = chance.choice(("user.", "trusted.")) + chance.choice("abc")
    if chance.random() < 0.7:
        os.setxattr(path, name, chance.randbytes(chance.randrange(100)))
    else:
        os.removexattr(path, name)


def append(chance, path, other):
    with open(path, "ab") as file:
        file.write(chance.randbytes(5000))


def folder_of(path):
    return path + ".d"


CHANGES = {
    "create": create,
    "overwrite": overwrite,
    "append": append,
    "truncate": lambda chance, path, other: os.truncate(path, chance.randrange(SIZE_MAX)),
    "allocate": allocate,
    "chmod": lambda chance, path, other: os.chmod(path, chance.choice((0o600, 0o640, 0o755, 0o4711))),
    "chown": lambda chance, path, other: os.chown(path, chance.randrange(3), chance.randrange(3)),
    "xattr": mark,
    "utime": lambda chance, path, other: os.utime(path, ns=(1, chance.randrange(10**18))),
    "rename": lambda chance, path, other: os.rename(path, other),
    "link": lambda chance, path, other: os.link(path, other),
    "symlink": lambda chance, path, other: os.symlink(os.path.basename(path), other),
    "unlink": lambda chance, path, other: os.unlink(path),
    "mkdir": lambda chance, path, other: os.mkdir(folder_of(path)),
    "into": lambda chance, path, other: os.rename(path, os.path.join(folder_of(other), os.path.basename(path))),
    "rmdir": lambda chance, path, other: os.rmdir(folder_of(path)),
    "rename folder": lambda chance, path, other: os.rename(folder_of(path), folder_of(other)),
    "fifo": lambda chance, path, other: os.mkfifo(other),
}

# Most of the load is content: of names alone there would soon be no file left to write to.
WEIGHTS = [dict(create=4, overwrite=6, append=4, truncate=2, unlink=3).get(what, 1) for what in CHANGES]

# What a random change may meet: a name that is there or not, a folder that is not empty, a loop of symbolic links.
EXPECTED = {
    errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.ENODATA, errno.ELOOP, errno.ENXIO,
    errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ESPIPE,
}


def change(chance, folder):
    name, other = (os.path.join(folder, "f%d" % chance.randrange(FILES_MAX)) for _ in range(2))
    what = chance.choices(tuple(CHANGES), WEIGHTS)[0]
    try:
        # A fifo would block whoever opens it.
        if what in ("create", "overwrite", "append", "allocate", "truncate") and not os.path.isfile(name):
            if what != "create" or os.path.lexists(name):
                return
        CHANGES[what](chance, name, other)
    except OSError as error:
        if error.errno not in EXPECTED:
            raise


def churn(folder, seed, notes_path, pause):
    os.makedirs(folder, exist_ok=True)
    kept, last = read_notes(notes_path)
    # Another start, other changes.
    chance = random.Random("%d after %d" % (seed, last))
    notes = Notes(notes_path)
    while True:
        for _ in range(10):
            change(chance, folder)
            time.sleep(pause)
        last += 1
        receipt(folder, last)
        notes.add("keep", last)
        kept.add(last)
        if len(kept) > RECEIPTS_MAX:
            oldest = min(kept)
            notes.add("drop", oldest)
            kept.discard(oldest)
            os.unlink(os.path.join(folder, "receipt-%d" % oldest))


def check(folder, notes_path):
    kept, _ = read_notes(notes_path)
    wrong = 0
    for number in sorted(kept):
        try:
            with open(os.path.join(folder, "receipt-%d" % number), "rb") as file:
                why = None if file.read() == content(number) else "its content is not what was synced"
        except FileNotFoundError:
            why = "it is not there"
        if why is not None:
            wrong += 1
            print("receipt %d: %s" % (number, why))
    print("%d receipts, %d wrong" % (len(kept), wrong))
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("folder")
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("receipts")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--pause-ms", type=float, default=5)
    options = parser.parse_args()
    if options.check:
        return check(options.folder, options.receipts)
    if options.seed is None:
        parser.error("expected FOLDER SEED RECEIPTS, or FOLDER --check RECEIPTS")
    return churn(options.folder, options.seed, options.receipts, options.pause_ms / 1000)


sys.exit(main())
