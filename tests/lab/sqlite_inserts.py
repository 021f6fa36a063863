"""Inserts rows into a new SQLite database, each in a transaction of its own, and prints what that costs.

    sqlite_inserts.py FILE SECONDS

WAL and synchronous=FULL: a row is on the disk when its insert returns. Prints inserts a second and microseconds of the
median and the slowest hundredth, as "OPS P50 P99".
"""

import sqlite3
import sys
import time


def main(path, seconds):
    base = sqlite3.connect(path, isolation_level=None)
    mode = base.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise SystemExit("Cannot measure inserts with a write-ahead log: SQLite answers journal_mode %s here" % mode)
    base.execute("PRAGMA synchronous=FULL")
    base.execute("CREATE TABLE events (n INTEGER PRIMARY KEY, at REAL NOT NULL, what TEXT NOT NULL)")
    times = []
    began = time.perf_counter()
    end = began + seconds
    now = began
    while now < end:
        before = now
        base.execute("INSERT INTO events (at, what) VALUES (?, ?)", (before, "x" * 200))
        now = time.perf_counter()
        times.append(now - before)
    base.close()
    times.sort()
    count = len(times)
    print(count / (now - began), times[count // 2] * 1e6, times[min(count - 1, count * 99 // 100)] * 1e6)


main(sys.argv[1], float(sys.argv[2]))
