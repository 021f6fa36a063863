"""Compares two trees, knowing nothing of Binome.

    compare.py [--without-xattr NAME] A B     A, B: a folder, or a list written by --list
    compare.py [--without-xattr NAME] --list A

Equal means: names, type, content (SHA-256), size, mode, owner, group, mtime to the nanosecond, every extended attribute
(trusted ones too: run as root), which names are hard links of one object, symbolic link targets, device numbers.
Not compared: atime, ctime, holes, and at the top `lost+found` and `.binome`. One difference a line; the status is 0 when
equal, 1 when not, 2 when a tree cannot be read.
"""

import argparse
import hashlib
import json
import os
import stat
import sys

NOT_COMPARED = (b"lost+found", b".binome")
TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def digest(path):
    found = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME), "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def describe(path, without):
    """What is compared of one object, but its links."""
    about = os.lstat(path)
    kind = stat.S_IFMT(about.st_mode)
    entry = {
        "type": TYPES[kind],
        "mode": oct(stat.S_IMODE(about.st_mode)),
        "uid": about.st_uid,
        "gid": about.st_gid,
        "mtime": about.st_mtime_ns,
    }
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        if name not in without:
            entry["xattr " + name] = os.getxattr(path, name, follow_symlinks=False).hex()
    if kind == stat.S_IFREG:
        entry["size"] = about.st_size
        entry["sha256"] = digest(path)
    elif kind == stat.S_IFLNK:
        entry["target"] = os.fsdecode(os.readlink(path))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry["device"] = "%d:%d" % (os.major(about.st_rdev), os.minor(about.st_rdev))
    return entry, about


def listing(root, without):
    """Every path below root, the root itself as ".", with what is compared of it."""
    root = os.fsencode(root)
    entries, groups, waiting = {}, {}, [b"."]
    while waiting:
        inside = waiting.pop()
        entry, about = describe(os.path.join(root, inside), without)
        entries[os.fsdecode(inside)] = entry
        if entry["type"] == "directory":
            for name in os.listdir(os.path.join(root, inside)):
                if inside != b".":
                    waiting.append(os.path.join(inside, name))
                elif name not in NOT_COMPARED:
                    waiting.append(name)
        elif about.st_nlink > 1:
            # The count as well: a link that lies outside the tree is a link.
            groups.setdefault((about.st_dev, about.st_ino), []).append((os.fsdecode(inside), about.st_nlink))
    for group in groups.values():
        names = sorted(name for name, _ in group)
        for name, count in group:
            entries[name]["links"] = "%d: %s" % (count, " = ".join(names))
    return entries


def differences(a, b):
    for name in sorted(a.keys() | b.keys()):
        if name not in b:
            yield "%s: only in the first (%s)" % (name, a[name]["type"])
        elif name not in a:
            yield "%s: only in the second (%s)" % (name, b[name]["type"])
        else:
            for key in sorted(a[name].keys() | b[name].keys()):
                first, second = a[name].get(key, "none"), b[name].get(key, "none")
                if first != second:
                    yield "%s: %s: %s | %s" % (name, key, first, second)


def load(path, without):
    if os.path.isdir(path):
        return listing(path, without)
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--without-xattr", action="append", default=[])
    parser.add_argument("trees", nargs="+")
    options = parser.parse_args()
    without = set(options.without_xattr)
    try:
        trees = [load(tree, without) for tree in options.trees]
    except (OSError, ValueError) as error:
        print("Cannot compare: %s" % error, file=sys.stderr)
        return 2
    if options.list and len(trees) == 1:
        json.dump(trees[0], sys.stdout)
        return 0
    if options.list or len(trees) != 2:
        parser.error("expected two trees, or --list and one")
    sys.stdout.reconfigure(errors="backslashreplace")  # a name need not be UTF-8
    found = 0
    for found, line in enumerate(differences(*trees), 1):
        print(line)
    return 1 if found else 0


sys.exit(main())
