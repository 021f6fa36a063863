"""A client of the file system that writes down what it was promised, and the check whether the promises were kept.

    promises.py FOLDER DURABILITY SEED JOURNAL [--pause-ms 5] [--changes N]
    promises.py FOLDER DURABILITY --check JOURNAL

It creates files, overwrites them in place, truncates, renames (also over another), links and removes them, and syncs files
and the directory now and then. Each start works in a folder of its own, FOLDER/run-K, with a journal of its own, JOURNAL-K,
which lies outside the replicated directory and outlives a power cut of this host: a line before each change, one once
the change has returned. Whoever cuts the power of every node that has the data adds the line `lost`: from there on only
what was synced is promised. --check looks at what is there:

    one node lived     each-write, fsync   every change that returned, and at most a part of the one in flight
                       relaxed             what some change left behind: all before it, nothing after, and at most
                                           LAG_S of changes missing
    all lost power     each-write, fsync   what a sync covered and nothing has changed since; elsewhere what was there at the
                                           last sync or came later, never anything else
                       relaxed             nothing that was never written

Says what it has looked at, a line of JSON, and then names what is wrong; the status is 1 when something is.
"""

import argparse
import glob
import hashlib
import json
import os
import random
import re
import shutil
import stat
import sys
import time

CELL = 512
CELLS_MAX = 160
NAMES = 14
RUNS_KEPT = 3
# What `relaxed` may be behind, with room for a machine that is busy: the bound of one second is on the program's clock.
LAG_S = 1.5
BIRTH = "user.birth"
ZERO = bytes(CELL)


def cell(number, birth, at):
    """What change `number` writes at a cell of the file that change `birth` made: told by these alone."""
    return hashlib.sha256(b"%d %d %d" % (number, birth, at)).digest() * (CELL // 32)


class Journal:
    """One system call a line, so that a line is there or not."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)

    def add(self, **line):
        os.write(self.fd, json.dumps(line).encode() + b"\n")


def runs_of(journal):
    found = (re.fullmatch(r".*-(\d+)", path) for path in glob.glob(glob.escape(journal) + "-*"))
    return sorted(int(match[1]) for match in found if match)


def read_journal(path):
    with open(path, encoding="ascii") as file:
        return [json.loads(line) for line in file]


# What a file system is, as far as it goes here: names lead to files, told by the change that made them.


class Tree:
    """What stands in the folder after some changes. A file is its cells, each the change that wrote it, 0 where none did."""

    def __init__(self):
        self.names, self.files = {}, {}

    def apply(self, line):
        what, number, name = line["op"], line["n"], line.get("name")
        if what == "create":
            self.names[name] = number
            self.files[number] = [number] * line["cells"]
        elif what == "write":
            file = self.files[self.names[name]]
            first, end = line["at"], line["at"] + line["cells"]
            file.extend([0] * (end - len(file)))
            file[first:end] = [number] * line["cells"]
        elif what == "truncate":
            file = self.files[self.names[name]]
            del file[line["cells"] :]
            file.extend([0] * (line["cells"] - len(file)))
        elif what == "rename":
            # Two names of one file: rename does nothing.
            if self.names[name] != self.names.get(line["to"]):
                self.names[line["to"]] = self.names.pop(name)
        elif what == "link":
            self.names[line["to"]] = self.names[name]
        elif what == "unlink":
            del self.names[name]


# The load.


def do(folder, line, journal, each_write):
    """Does one change or sync, and notes that it returned."""
    path = os.path.join(folder, line.get("name", ""))
    what, number = line["op"], line["n"]
    fd = -1
    if what == "create":
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        os.setxattr(path, BIRTH, b"%d" % number)
        write(fd, number, number, 0, line["cells"])
    elif what == "write":
        fd = os.open(path, os.O_WRONLY | (os.O_DSYNC if line["synced"] else 0))
        write(fd, number, line["birth"], line["at"], line["cells"])
    elif what == "fsync":
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
    elif what == "truncate":
        os.truncate(path, line["cells"] * CELL)
    elif what == "rename":
        os.rename(path, os.path.join(folder, line["to"]))
    elif what == "link":
        os.link(path, os.path.join(folder, line["to"]))
    elif what == "unlink":
        os.unlink(path)
    # A write that returned is promised where each one is; elsewhere the close is what promises it.
    if each_write:
        journal.add(done=number, ms=milliseconds())
    if fd >= 0:
        os.close(fd)
    if not each_write:
        journal.add(done=number, ms=milliseconds())


def milliseconds():
    return round(time.monotonic() * 1000)


def write(fd, number, birth, first, cells):
    data = b"".join(cell(number, birth, at) for at in range(first, first + cells))
    assert os.pwrite(fd, data, first * CELL) == len(data)


def choose(chance, tree):
    """A change that can be made, or a sync."""
    names = sorted(tree.names)
    free = [name for name in ("f%d" % at for at in range(NAMES)) if name not in tree.names]
    what = chance.choices(
        ("create", "write", "truncate", "rename", "link", "unlink", "fsync", "fsync folder"), (4, 12, 3, 5, 1, 2, 3, 2)
    )[0]
    if what == "fsync folder":
        return dict(op="fsync", name=".")
    if what == "create" or not names:
        if not free:
            return choose(chance, tree)
        return dict(op="create", name=chance.choice(free), cells=chance.randrange(CELLS_MAX))
    name = chance.choice(names)
    if what == "write":
        at = chance.randrange(CELLS_MAX)
        cells = chance.randrange(1, 9) if chance.random() < 0.7 else chance.randrange(1, CELLS_MAX)
        line = dict(at=at, cells=min(cells, CELLS_MAX - at), birth=tree.names[name], synced=chance.random() < 0.2)
        return dict(op=what, name=name, **line)
    if what == "truncate":
        return dict(op=what, name=name, cells=chance.randrange(CELLS_MAX))
    if what == "rename":
        return dict(op=what, name=name, to="f%d" % chance.randrange(NAMES))
    if what == "link":
        return dict(op=what, name=name, to=chance.choice(free)) if free else choose(chance, tree)
    return dict(op=what, name=name)


def load(folder, durability, seed, journal_path, pause, most):
    runs = runs_of(journal_path)
    run = (runs[-1] if runs else 0) + 1
    for old in runs[:-RUNS_KEPT]:
        # First the promises, then what was promised.
        os.unlink("%s-%d" % (journal_path, old))
        # A relaxed one may have been lost.
        if os.path.isdir(os.path.join(folder, "run-%d" % old)):
            shutil.rmtree(os.path.join(folder, "run-%d" % old))
    journal = Journal("%s-%d" % (journal_path, run))
    inside = os.path.join(folder, "run-%d" % run)
    # A start whose journal a power cut of the machine took would find its folder.
    os.mkdir(inside)
    top = os.open(folder, os.O_RDONLY)
    os.fsync(top)
    os.close(top)
    journal.add(begun=run)
    chance, tree, number = random.Random("%d run %d" % (seed, run)), Tree(), 0
    while number != most:
        number += 1
        line = dict(n=number, **choose(chance, tree))
        journal.add(**line)
        do(inside, line, journal, durability == "each-write")
        tree.apply(line)
        time.sleep(pause)


# The check.


def look(folder):
    """What is there: name -> (birth or None, bytes)."""
    found = {}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        assert stat.S_ISREG(os.lstat(path).st_mode), path
        try:
            birth = int(os.getxattr(path, BIRTH))
        except OSError:
            birth = None
        with open(path, "rb") as file:
            found[name] = (birth, file.read())
    return found


class Found:
    """What is there, and for a cell which changes may have left it so."""

    def __init__(self, folder):
        self.names = look(folder)

    def size(self, name):
        return len(self.names[name][1])

    def is_from(self, name, birth, at, number):
        data = self.names[name][1][at * CELL : (at + 1) * CELL]
        return data == ((cell(number, birth, at) if number else ZERO)[: len(data)])


def differs(found, tree, flying):
    """Why what is there is not this tree, with any part of the change in flight; None where it is."""
    if flying is None or flying["op"] == "fsync":
        return same(found, tree)
    after = copy_of(tree)
    after.apply(flying)
    if flying["op"] == "create":
        return same(found, tree, after, flying["n"])
    if flying["op"] == "write":
        return same(found, tree, after, flying["birth"])
    # Names and sizes change at once or not at all.
    return same(found, tree) and same(found, after)


def tree_of(changes):
    tree = Tree()
    for line in changes:
        tree.apply(line)
    return tree


def copy_of(tree):
    copy = Tree()
    copy.names = dict(tree.names)
    copy.files = {birth: list(cells) for birth, cells in tree.files.items()}
    return copy


def same(found, tree, other=None, partly=None):
    """Why what is there is not `tree`; the file `partly`, made or written just then, may be in parts as in `other`."""
    made = {name for name in other.names if name not in tree.names} if other else set()
    extra = found.names.keys() - tree.names.keys() - made
    if extra:
        return "%s is there, and no change left it" % ", ".join(sorted(extra))
    for name, birth in tree.names.items():
        if name not in found.names:
            return "%s is missing" % name
        if found.names[name][0] != birth:
            return "%s is file %s, not %d" % (name, found.names[name][0], birth)
        why = same_file(found, name, tree.files[birth], other.files[birth] if birth == partly else None)
        if why is not None:
            return "%s: %s" % (name, why)
    return None


def same_file(found, name, cells, others):
    birth, size = found.names[name][0], found.size(name)
    low, high = sorted((len(cells), len(cells if others is None else others)))
    if not low * CELL <= size <= high * CELL:
        return "%d bytes, not %d" % (size, len(cells) * CELL)
    for at in range(-(-size // CELL)):
        numbers = {source[at] for source in (cells, others or []) if at < len(source)} | ({0} if others else set())
        if not any(found.is_from(name, birth, at, number) for number in numbers):
            return "cell %d is not of change %s" % (at, " or ".join(map(str, sorted(numbers))))
    return None


def check_lived(durability, lines, found):
    """One node lived: all that returned is there. Answers (why, changes lost, milliseconds lost)."""
    changes = [line for line in lines if "op" in line]
    done = {line["done"]: line["ms"] for line in lines if "done" in line}
    first = changes[-1]["n"] - 1 if changes and changes[-1]["n"] not in done else len(changes)
    why = differs(found, tree_of(changes[:first]), changes[first] if first < len(changes) else None)
    if why is None or durability != "relaxed":
        return why, 0, 0
    # Ever further back, and past what it may be behind, to tell one that is late from one that is torn.
    for back in range(first - 1, -1, -1):
        lag = done[first] - done[back + 1]
        if differs(found, tree_of(changes[:back]), changes[back]) is None:
            late = "it is %d ms behind, %d changes" % (lag, first - back) if lag > LAG_S * 1000 else None
            return late, first - back, lag
        if lag > 4 * LAG_S * 1000:
            break
    return "it is not what any change left: %s" % why, 0, 0


class Possible:
    """What may be there once all lost power: for each name and cell what a sync covered last, and all that came later."""

    def __init__(self):
        self.tree = Tree()
        # name -> files, None for no file; file -> changes for each cell; file -> lengths in cells
        self.names, self.cells, self.sizes = {}, {}, {}

    def take(self, line, sync):
        """A change or a sync; `sync`: it returned, and syncs what it says it does."""
        if line["op"] == "fsync":
            if sync:
                self.synced(line["name"])
            return
        before = dict(self.tree.names)
        self.tree.apply(line)
        after = self.tree.names
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                self.names.setdefault(name, {before.get(name)}).add(after.get(name))
        if line["op"] in ("create", "write", "truncate"):
            self.content(line, after[line["name"]], sync and line.get("synced", False))

    def synced(self, name):
        if name == ".":
            self.names = {name: {birth} for name, birth in self.tree.names.items()}
            return
        birth = self.tree.names[name]
        self.cells[birth] = [{number} for number in self.tree.files[birth]]
        self.sizes[birth] = {len(self.tree.files[birth])}

    def content(self, line, birth, synced):
        file, cells = self.tree.files[birth], self.cells.setdefault(birth, [])
        sizes = self.sizes.setdefault(birth, {0})
        sizes.add(len(file))
        # Beyond what it ever had there was nothing.
        cells.extend({0} for _ in range(len(file) - len(cells)))
        if line["op"] == "truncate":
            for may in cells[line["cells"] :]:
                may.add(0)
            return
        first = line.get("at", 0)
        end = first + line["cells"]
        for at in range(first, end):
            cells[at] = {line["n"]} if synced else cells[at] | {line["n"]}
        if synced:
            # So long that it can be read back.
            self.sizes[birth] = {size for size in sizes if size >= end} | {end}

    def refuse(self, found):
        """Why what is there cannot be; None where it can."""
        for name in sorted(self.names.keys() | found.names.keys()):
            may = self.names.get(name, {None})
            birth = found.names[name][0] if name in found.names else None
            if name in found.names and birth is None:
                # What came next after its name was made was not synced.
                if len(may) > 1:
                    continue
                return "%s is there without what it was made with" % name
            if birth not in may:
                return "%s is %s, promised: %s" % (name, birth or "missing", " or ".join(str(one) for one in may))
            why = self.refuse_file(found, name, birth) if birth is not None else None
            if why is not None:
                return "%s: %s" % (name, why)
        return None

    def refuse_file(self, found, name, birth):
        size, sizes = found.size(name), self.sizes[birth]
        if not min(sizes) * CELL <= size <= max(sizes) * CELL:
            return "%d bytes, promised: %s" % (size, sorted(one * CELL for one in sizes))
        for at in range(-(-size // CELL)):
            numbers = self.cells[birth][at]
            # What was written anew since a sync may have got its room and not yet its content.
            allowed = numbers | {0} if len(numbers) > 1 else numbers
            if not any(found.is_from(name, birth, at, number) for number in allowed):
                return "cell %d is not of change %s" % (at, " or ".join(map(str, sorted(allowed))))
        return None


def check_lost(lines, found, syncs):
    """All lost power: what a sync covered is there. `syncs`: whether syncs promise anything."""
    done = {line["done"] for line in lines if "done" in line}
    possible = Possible()
    for line in lines:
        if "op" in line:
            possible.take(line, syncs and line["n"] in done)
    return possible.refuse(found)


def check(folder, durability, journal_path):
    about = dict(runs=0, changes=0, lost_runs=0, changes_behind=0, ms_behind=0)
    wrong = []
    for run in runs_of(journal_path):
        lines = read_journal("%s-%d" % (journal_path, run))
        if not lines or "begun" not in lines[0]:
            continue
        lost = any("lost" in line for line in lines)
        about["runs"] += 1
        about["changes"] += sum("done" in line for line in lines)
        about["lost_runs"] += lost
        try:
            found = Found(os.path.join(folder, "run-%d" % run))
        except FileNotFoundError:
            if lost and durability == "relaxed":
                continue
            wrong.append("run %d: its folder is missing" % run)
            continue
        if lost:
            why = check_lost(lines, found, durability != "relaxed")
        else:
            why, changes, lag = check_lived(durability, lines, found)
            about["changes_behind"] = max(about["changes_behind"], changes)
            about["ms_behind"] = max(about["ms_behind"], lag)
        if why is not None:
            wrong.append("run %d, %s: %s" % (run, "all lost power" if lost else "one node lived", why))
    print(json.dumps(about))
    print("\n".join(wrong), end="")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("folder")
    parser.add_argument("durability", choices=("each-write", "fsync", "relaxed"))
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("journal")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--pause-ms", type=float, default=5)
    parser.add_argument("--changes", type=int)
    options = parser.parse_args()
    if options.check:
        return check(options.folder, options.durability, options.journal)
    if options.seed is None:
        parser.error("expected FOLDER DURABILITY SEED JOURNAL, or FOLDER DURABILITY --check JOURNAL")
    pause = options.pause_ms / 1000
    return load(options.folder, options.durability, options.seed, options.journal, pause, options.changes)


if __name__ == "__main__":
    sys.exit(main())
