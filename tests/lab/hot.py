"""What a node's activity set names, read from its file as lib/journal/activity.ts documents it.

    hot.py ACTIVITY FOLDER...

Prints, as JSON: `objects` that are named, `bytes` of content that are, and `all` of the content in the folders. What is
compared, and so what can be moved, when the node comes back from a power cut now, is this and what is changed meanwhile.
"""

import json
import os
import stat
import struct
import sys
import zlib

ENTRY, MAGIC = 32, 0x31434142
BLOCKS, RANGE, WHOLE, ALL_WHOLE = 1, 2, 3, 4
BLOCK_IDS, RANGE_BYTES = 256, 16 << 20


def read(path):
    """Blocks of ids, ranges of each object, and objects of which everything is named."""
    blocks, ranges, whole, all_whole = [], {}, set(), False
    with open(path, "rb") as file:
        data = file.read()
    for at in range(0, len(data) - ENTRY + 1, ENTRY):
        magic, crc, kind, subject, value = struct.unpack_from("<IIB7xQQ", data, at)
        if magic != MAGIC or zlib.crc32(data[at + 8 : at + ENTRY]) != crc:
            break
        if kind == BLOCKS:
            blocks.append((subject * BLOCK_IDS, (subject + value) * BLOCK_IDS))
        elif kind == RANGE:
            ranges.setdefault(subject, set()).add(value)
        elif kind == WHOLE:
            whole.add(subject)
        elif kind == ALL_WHOLE:
            all_whole = True
    return blocks, ranges, whole, all_whole


def main():
    blocks, ranges, whole, all_whole = read(sys.argv[1])
    seen, objects, hot, total = set(), 0, 0, 0
    for top in sys.argv[2:]:
        for folder, folders, files in os.walk(top):
            for name in folders + files:
                path = os.path.join(folder, name)
                try:
                    about = os.lstat(path)
                    number = int.from_bytes(os.getxattr(path, "trusted.binome.id", follow_symlinks=False), "little")
                except OSError:
                    continue  # gone meanwhile: the load goes on
                if number in seen:
                    continue
                seen.add(number)
                size = about.st_size if stat.S_ISREG(about.st_mode) else 0
                total += size
                if not any(first <= number < end for first, end in blocks):
                    continue
                objects += 1
                if all_whole or number in whole:
                    hot += size
                    continue
                hot += min(size, RANGE_BYTES)
                for one in ranges.get(number, ()):
                    hot += max(0, min(size - one * RANGE_BYTES, RANGE_BYTES))
    print(json.dumps(dict(objects=objects, bytes=hot, all=total)))


main()
