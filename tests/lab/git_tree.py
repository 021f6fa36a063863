"""Writes a commit with many files as a stream for `git fast-import`: the same files each time.

    git_tree.py FILES | git fast-import

Sizes as in a tree of source code: mostly some KiB of text, a few ten times that. 50 files a folder, folders in folders.
"""

import random
import sys

FILES_PER_FOLDER = 50
FOLDERS_PER_FOLDER = 10


def path(number):
    folder, names = number // FILES_PER_FOLDER, []
    while True:
        names.append("d%d" % (folder % FOLDERS_PER_FOLDER))
        folder //= FOLDERS_PER_FOLDER
        if folder == 0:
            break
    return "/".join([*reversed(names), "file%d.txt" % number])


def main(files):
    chance = random.Random(1)
    out = sys.stdout.buffer
    out.write(b"commit refs/heads/main\ncommitter bench <bench@localhost> 0 +0000\ndata 5\ntree\n\n")
    for number in range(files):
        size = chance.randrange(200, 8000) * (10 if chance.random() < 0.03 else 1)
        text = b"".join(b"%032x\n" % chance.getrandbits(128) for _ in range(1 + size // 33))[:size]
        out.write(b"M 100644 inline %s\ndata %d\n%s\n" % (path(number).encode(), size, text))
    out.write(b"\n")


main(int(sys.argv[1]))
